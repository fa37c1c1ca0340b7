"""A listener of our own at the compositor, whose clients it knows to be a guest's.

wp_security_context_v1 of wayland-protocols (staging).  A pywayland client commits the
context once; later connections go to `path`.  What the compositor denies such clients is
its own policy; ours is in `wlproxy.relay.policy`.
"""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from pywayland.protocol.security_context_v1 import WpSecurityContextManagerV1

from wlproxy.host.errors import CompositorRefusedError, SecurityContextError
from wlproxy.host.fds import OwnedFd
from wlproxy.host.wayland_client import WaylandClient

ENGINE: Final = "org.wlproxy"
"""Names the sandbox engine, in reverse DNS as the protocol asks."""
BACKLOG: Final = 128
"""Connections that may wait for the compositor, as libwayland's own listeners."""
MAX_NAME: Final = 1024
"""Bytes of an app id or instance id: a Wayland message has 4096 in all."""


class SecurityContext:
    """A committed context.  Closing it makes the compositor stop listening."""

    def __init__(self, compositor: Path, app_id: str, instance_id: str) -> None:
        """Commit a context.  Blocks: run it in a thread.

        Args:
            compositor: its socket.
            app_id: names the application for the compositor's policy.
            instance_id: names the VM.

        Raises:
            NoCompositorError: nobody listens there.
            SecurityContextError: the compositor does not have the protocol, or refused.
        """
        if max(len(app_id.encode()), len(instance_id.encode())) > MAX_NAME:
            raise SecurityContextError(f"a name is longer than {MAX_NAME} bytes")
        try:
            # Beside the compositor's own socket, where only its user can get at it.
            self._directory = tempfile.mkdtemp(prefix="wlproxy-", dir=compositor.parent)
        except OSError as exc:
            raise SecurityContextError(
                "the listener of a security context cannot be made",
                tried=f"mkdir in {compositor.parent}",
                errno=exc.errno or 0,
            ) from exc
        compositors_end, ours = (OwnedFd(number) for number in os.pipe())
        self._open_while_wanted = ours
        try:
            with compositors_end:
                self._commit(compositor, app_id, instance_id, compositors_end)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """Where clients of this context connect."""
        return Path(self._directory, "wayland")

    def close(self) -> None:
        """End the context; connections made through it stay.  Again: nothing."""
        # The other end, which the compositor watches, hangs up.
        self._open_while_wanted.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _commit(
        self, compositor: Path, app_id: str, instance_id: str, close_fd: OwnedFd
    ) -> None:
        with (
            WaylandClient(compositor) as client,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        ):
            if WpSecurityContextManagerV1.name not in client.global_versions:
                raise SecurityContextError(
                    f"the compositor has no {WpSecurityContextManagerV1.name}"
                )
            try:
                listener.bind(str(self.path))
                listener.listen(BACKLOG)
                manager = client.bind(WpSecurityContextManagerV1, 1)
                context = manager.create_listener(listener.fileno(), close_fd.fileno())
                context.set_sandbox_engine(ENGINE)
                context.set_app_id(app_id)
                context.set_instance_id(instance_id)
                context.commit()
                context.destroy()
                client.roundtrip()
            except OSError as exc:
                raise SecurityContextError(
                    "the listener of a security context cannot be made",
                    tried=f"bind {self.path}",
                    errno=exc.errno or 0,
                ) from exc
            except CompositorRefusedError as exc:
                raise SecurityContextError(
                    f"the compositor refused a security context: {exc.problem}"
                ) from exc
