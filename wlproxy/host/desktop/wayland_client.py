"""The proxy's own Wayland client, for its own questions to the compositor.

The probe, the doctor and the security context use it for a handful of requests at start.  It
is pywayland's.  The guest's clients do not come this way.  Every call blocks, for `TIMEOUT` at
most.
"""

import select
import socket
import time
from pathlib import Path
from typing import Any, Final

from pywayland.client.display import Display
from pywayland.protocol_core.interface import Interface
from pywayland.protocol_core.proxy import Proxy

from wlproxy.host.desktop.address import connecting
from wlproxy.host.errors import CompositorRefusedError
from wlproxy.transport.closable import Closing, closed_on_error

TIMEOUT: Final = 10.0
"""Seconds a compositor may take over a round trip; llvmpipe's first one is slow."""


class WaylandClient(Closing):
    """A connection whose registry has been read.  Only one thread may use it."""

    def __init__(self, compositor: Path) -> None:
        """Connect and read the registry.

        Raises:
            NoCompositorError: nobody listens there.
            CompositorRefusedError: it does not answer.
        """
        self._compositor = compositor
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with closed_on_error(sock), connecting(compositor):
            sock.settimeout(TIMEOUT)
            sock.connect(str(compositor))
        sock.settimeout(None)
        # The display owns the number from here on, also if it fails.
        self._display = Display(sock.detach())
        # pywayland knows a connection's objects weakly, and they are cycles: the garbage
        # collector would free some at a moment of its own, perhaps in another thread,
        # while the connection is closed here, and libwayland does not survive that.
        self._objects: set[Proxy[Any]] = set()
        self._display._children = self._objects  # type: ignore[assignment]  # noqa: SLF001
        self._display.connect()
        self._global_names: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        with closed_on_error(self):
            self._registry = self._display.get_registry()
            self._registry.dispatcher["global"] = self._add_global
            self.roundtrip()

    @property
    def global_versions(self) -> dict[str, int]:
        """The version of each global, by interface; the highest if there are several."""
        return dict(self._versions)

    def bind(self, interface: type[Interface], most: int) -> Any:  # noqa: ANN401
        """Bind a global at its version, or at `most` if that is less.

        The proxy's class is that of the interface, which pywayland cannot express.

        Args:
            interface: a class of pywayland's protocol modules.
            most: the version of it that the caller knows.

        Raises:
            KeyError: it is not advertised.
        """
        version = min(self._versions[interface.name], most)
        return self._registry.bind(
            self._global_names[interface.name], interface, version
        )

    def adopt(self, proxy: Proxy[Any]) -> None:
        """Make an object that came in an event part of this connection.

        pywayland counts it to whichever connection it finds first, perhaps one that is
        closed: libwayland would then never learn of the object's end, or too late.
        The caller destroys it before the connection is closed.
        """
        other = proxy._display  # noqa: SLF001
        if isinstance(other, Display):
            other._children.discard(proxy)  # noqa: SLF001
        proxy._display = self._display  # noqa: SLF001
        self._objects.add(proxy)

    def roundtrip(self) -> None:
        """Wait until the compositor has dealt with everything that was asked.

        Raises:
            CompositorRefusedError: it ended the connection, or took too long.
        """
        done: list[bool] = []
        callback = self._display.sync()
        callback.dispatcher["done"] = lambda *_: done.append(True)
        deadline = time.monotonic() + TIMEOUT
        try:
            self._display.flush()
            self._display.dispatch(block=False)
            while not done:
                self._wait_readable(deadline)
                self._display.read()
                self._display.dispatch(block=False)
                self._display.flush()
        except RuntimeError as exc:  # how pywayland tells that the connection broke
            raise CompositorRefusedError(
                f"the compositor at {self._compositor} ended the connection"
            ) from exc

    def close(self) -> None:
        """End the connection.  Again: nothing happens."""
        self._display.disconnect()
        self._objects.clear()

    def _wait_readable(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._display.get_fd(), select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise CompositorRefusedError(
                f"the compositor at {self._compositor} does not answer"
            )

    def _add_global(
        self, registry: object, global_name: int, interface: str, version: int
    ) -> None:
        if version > self._versions.get(interface, 0):
            self._global_names[interface] = global_name
            self._versions[interface] = version
