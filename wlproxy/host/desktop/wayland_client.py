"""The proxy's own Wayland client, for its own questions to the compositor.

The probe, the doctor and the security context use it for a handful of requests at start.  It
speaks with the relay's codec and tables, so that it needs no library.  The guest's clients do
not come this way.  Every call blocks, for `TIMEOUT` at most; requests leave at once, and an
answer has `MAX_ANSWER` bytes.

Ids are never used again, so that an event of an object which is gone is merely not heard.
"""

import math
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wlproxy.host.desktop.address import connecting
from wlproxy.host.errors import CompositorRefusedError
from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.interface import ArgKind, Interface, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import DISPLAY_ID, ArgValue, NewId, RawMessage
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    decode_message,
    encode_message,
    event_spec,
)
from wlproxy.transport.closable import Closing, closed_on_error

TIMEOUT: Final = 10.0
"""Seconds a compositor may take over a round trip; llvmpipe's first one is slow."""

MAX_ANSWER: Final = 1 << 20
"""Bytes in one round trip: a registry has a few thousand, a list of formats 100 000 at most."""

_RECEIVE_SIZE: Final = 65536

Heard = Callable[..., None]
"""Told the arguments of an event; an object that it creates as a `Remote`."""


@dataclass(slots=True, eq=False)
class Remote:
    """An object of the compositor's, as its client has it."""

    interface: Interface
    version: int
    object_id: int
    _client: "WaylandClient" = field(repr=False)
    _heard: dict[str, Heard] = field(default_factory=dict, repr=False)

    def on(self, event: str, heard: Heard) -> None:
        """Have `heard` called for each such event."""
        self._heard[self.interface.event(event).name] = heard

    def send(
        self, request: str, *args: "ArgValue | Remote", fds: Sequence[int] = ()
    ) -> None:
        """Send a request that creates nothing.

        Args:
            request: its name.
            args: its arguments, without fds; objects as they are here.
            fds: its fds, which stay the caller's.

        Raises:
            CompositorRefusedError: the connection is at its end.
        """
        self._client.send(self, self.interface.request(request), args, fds)

    def create(
        self, request: str, *args: "ArgValue | Remote", fds: Sequence[int] = ()
    ) -> "Remote":
        """Send a request that creates an object, which is no argument; else as `send`."""
        spec = self.interface.request(request)
        assert spec.new_id_index is not None, f"{spec} creates nothing"
        kind = spec.args[spec.new_id_index].interface
        assert kind is not None, f"{spec}: see `bind`"
        created = self._client.enter(INTERFACES[kind], self.version)
        given = list(args)
        place = sum(
            arg.kind is not ArgKind.FD for arg in spec.args[: spec.new_id_index]
        )
        given.insert(place, created)
        self._client.send(self, spec, given, fds)
        return created

    def tell(self, event: str, args: Sequence[object]) -> None:
        """Tell whoever listens of an event."""
        if heard := self._heard.get(event):
            heard(*args)


class WaylandClient(Closing):
    """A connection whose registry has been read.  Only one thread may use it."""

    def __init__(self, compositor: Path, *, deadline: float = math.inf) -> None:
        """Connect and read the registry.

        Args:
            compositor: its socket.
            deadline: `time.monotonic` after which no round trip is waited for.

        Raises:
            NoCompositorError: nobody listens there.
            CompositorRefusedError: it does not answer.
        """
        self._compositor = compositor
        self._deadline = deadline
        self._received = 0
        """Bytes in this round trip."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(TIMEOUT)
        with closed_on_error(self._socket), connecting(compositor):
            self._socket.connect(str(compositor))
        self._splitter = MessageSplitter()
        self._objects: dict[int, Remote] = {}
        self._next_id = DISPLAY_ID
        self._display = self.enter(INTERFACES["wl_display"], 1)
        self._error = ""
        self._display.on("error", self._note_error)
        self._global_names: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        with closed_on_error(self):
            self._registry = self._display.create("get_registry")
            self._registry.on("global", self._add_global)
            self.roundtrip()

    @property
    def global_versions(self) -> dict[str, int]:
        """The version of each global, by interface; the highest if there are several."""
        return dict(self._versions)

    def bind(self, interface: str, most: int) -> Remote:
        """Bind a global at its version, or at `most` if that is less.

        Args:
            interface: its name, which the tables have.
            most: the version of it that the caller knows.

        Raises:
            KeyError: it is not advertised.
            CompositorRefusedError: the connection is at its end.
        """
        version = min(self._versions[interface], most)
        bound = self.enter(INTERFACES[interface], version)
        new_id = NewId(interface.encode(), version, bound.object_id)
        self._registry.send("bind", self._global_names[interface], new_id)
        return bound

    def roundtrip(self) -> None:
        """Wait until the compositor has dealt with everything that was asked.

        Raises:
            CompositorRefusedError: it ended the connection, broke the protocol, took
                too long, or said too much.
        """
        self._received = 0
        done: list[object] = []
        self._display.create("sync").on("done", done.append)
        deadline = min(time.monotonic() + TIMEOUT, self._deadline)
        while not done:
            self._receive(deadline)

    def close(self) -> None:
        """End the connection.  Again: nothing happens."""
        self._socket.close()

    # ------------------------------------------------------------ for `Remote`

    def enter(self, interface: Interface, version: int, object_id: int = 0) -> Remote:
        """Enter an object: under the next id of ours, or under one of the compositor's."""
        if not object_id:
            object_id, self._next_id = self._next_id, self._next_id + 1
        entered = Remote(interface, version, object_id, self)
        self._objects[object_id] = entered
        return entered

    def send(
        self,
        target: Remote,
        spec: MessageSpec,
        args: "Sequence[ArgValue | Remote]",
        fds: Sequence[int],
    ) -> None:
        """Send a request, with all its arguments but fds.

        Raises:
            CompositorRefusedError: the connection is at its end.
        """
        plain = [each.object_id if isinstance(each, Remote) else each for each in args]
        for place, arg in enumerate(spec.args):
            if arg.kind is ArgKind.FD:
                plain.insert(place, None)
        data = encode_message(target.object_id, spec, plain)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))
        try:
            sent = self._socket.sendmsg([data], [rights] if fds else [])
            self._socket.sendall(data[sent:])
        except TimeoutError as exc:
            raise self._no_answer() from exc
        except OSError as exc:
            self._hear_the_rest()
            raise self._ended() from exc

    # ------------------------------------------------------------ what comes

    def _receive(self, deadline: float) -> None:
        """Wait for some events and take them.

        Raises:
            CompositorRefusedError: as `roundtrip` does.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._no_answer()
        self._socket.settimeout(left)
        try:
            # Fds that come along are for objects that nobody here makes; not asked for,
            # they are closed by the kernel.
            received = self._socket.recv(_RECEIVE_SIZE)
        except TimeoutError as exc:
            raise self._no_answer() from exc
        except OSError as exc:
            raise self._ended() from exc
        if not received:
            raise self._ended()
        self._received += len(received)
        if self._received > MAX_ANSWER:
            raise CompositorRefusedError(
                f"the compositor at {self._compositor} answers one question with more than"
                f" {MAX_ANSWER >> 20} MiB"
            )
        self._socket.settimeout(TIMEOUT)
        self._splitter.feed(received)
        try:
            while raw := self._splitter.next_message():
                self._dispatch(raw)
        except WaylandError as exc:
            raise CompositorRefusedError(
                f"the compositor at {self._compositor} breaks the protocol: {exc.message}"
            ) from exc
        if self._error:
            raise self._ended()

    def _hear_the_rest(self) -> None:
        """Read why the connection ended, if the compositor has said so."""
        deadline = time.monotonic() + TIMEOUT
        while not self._error:
            self._receive(deadline)

    def _dispatch(self, raw: RawMessage) -> None:
        """Tell whoever listens of an event.

        Raises:
            WaylandError: it is none.
        """
        source = self._objects.get(raw.object_id)
        if source is None:
            raise WaylandError(DISPLAY_ID, 0, f"event of object {raw.object_id}")
        spec = event_spec(
            source.interface, source.version, source.object_id, raw.opcode
        )
        no_fds: list[int] = []
        args: list[object] = list(decode_message(spec, raw, no_fds).args)
        if (place := spec.new_id_index) is not None:
            new_id, kind = args[place], spec.args[place].interface
            assert isinstance(new_id, int)
            assert kind is not None
            args[place] = self.enter(INTERFACES[kind], source.version, new_id)
        source.tell(spec.name, args)

    def _note_error(self, object_id: int, code: int, message: bytes) -> None:
        said = message.decode("utf-8", "replace")
        about = self._objects.get(object_id)
        kind = about.interface.name if about else "an unknown object"
        self._error = f"error {code} of {kind}: {said}"

    def _ended(self) -> CompositorRefusedError:
        why = f": {self._error}" if self._error else ""
        return CompositorRefusedError(
            f"the compositor at {self._compositor} ended the connection{why}"
        )

    def _no_answer(self) -> CompositorRefusedError:
        return CompositorRefusedError(
            f"the compositor at {self._compositor} does not answer"
        )

    def _add_global(self, global_name: int, interface: bytes, version: int) -> None:
        name = interface.decode("utf-8", "replace")
        if version > self._versions.get(name, 0):
            self._global_names[name] = global_name
            self._versions[name] = version
