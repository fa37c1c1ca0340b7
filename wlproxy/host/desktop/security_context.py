"""A listening socket whose clients the compositor knows to come from a guest.

It uses wp_security_context_v1 of wayland-protocols (staging).  A client of ours commits
the context once; later connections go to `path`.  What the compositor denies such clients is
its own policy; ours is in `wlproxy.relay.policy`.
"""

import fcntl
import os
import socket
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from wlproxy.host.desktop.wayland_client import WaylandClient
from wlproxy.host.errors import CompositorRefusedError, SecurityContextError
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.fds import OwnedFd

MANAGER: Final = "wp_security_context_manager_v1"
ENGINE: Final = "org.wlproxy"
"""Names the sandbox engine, in reverse DNS as the protocol asks."""
BACKLOG: Final = 128
"""Connections that may wait for the compositor, as libwayland's own listeners."""
MAX_NAME: Final = 1024
"""Bytes of an app id or instance id: a Wayland message has 4096 in all."""


_PREFIX: Final = "wlproxy-context-"
_SOCKET: Final = "wayland"


class _Directory:
    """A directory for a socket, locked for as long as its process lives."""

    def __init__(self, parent: Path) -> None:
        """Make it.

        Raises:
            OSError: it cannot be made.
        """
        self._lock: OwnedFd | None = None
        while self._lock is None:  # somebody may sweep it before it is locked
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            with suppress(FileNotFoundError), closed_on_error(self):
                self._lock = _locked(self.path)

    def close(self) -> None:
        """Remove it.  Again: nothing happens."""
        _remove(self.path)
        if self._lock is not None:
            self._lock.close()
            self._lock = None


class SecurityContext(Closing):
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
        self.outside: dict[str, int] = {}
        """The globals that the compositor shows to everybody: name to version."""
        # Beside the compositor's own socket, where only its user can get at it.
        _sweep(compositor.parent)
        with _making("pipe"):
            compositors_end, ours = map(OwnedFd, os.pipe())
        self._open_while_wanted = ours
        with compositors_end:
            with closed_on_error(ours), _making(f"mkdir in {compositor.parent}"):
                self._directory = _Directory(compositor.parent)
            with closed_on_error(self):
                self._commit(compositor, app_id, instance_id, compositors_end)

    @property
    def path(self) -> Path:
        """Where clients of this context connect."""
        return self._directory.path / _SOCKET

    def close(self) -> None:
        """End the context; connections made through it stay.  Again: nothing."""
        # The other end, which the compositor watches, hangs up.
        self._open_while_wanted.close()
        self._directory.close()

    def _commit(
        self, compositor: Path, app_id: str, instance_id: str, close_fd: OwnedFd
    ) -> None:
        with (
            WaylandClient(compositor) as client,
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        ):
            self.outside = client.global_versions
            if MANAGER not in self.outside:
                raise SecurityContextError(f"the compositor has no {MANAGER}")
            try:
                with _making(f"bind {self.path}"):
                    listener.bind(str(self.path))
                    listener.listen(BACKLOG)
                    manager = client.bind(MANAGER, 1)
                    ends = listener.fileno(), close_fd.fileno()
                    context = manager.create("create_listener", fds=ends)
                    context.send("set_sandbox_engine", ENGINE.encode())
                    context.send("set_app_id", app_id.encode())
                    context.send("set_instance_id", instance_id.encode())
                    context.send("commit")
                    context.send("destroy")
                    client.roundtrip()
            except CompositorRefusedError as exc:
                raise SecurityContextError(
                    f"the compositor refused a security context: {exc.problem}"
                ) from exc


def _making(tried: str) -> AbstractContextManager[None]:
    return SecurityContextError.explaining(
        "the listener of a security context cannot be made", tried=tried
    )


def _locked(directory: Path) -> OwnedFd | None:
    """Lock a directory; None if somebody else holds the lock.

    Raises:
        FileNotFoundError: it is gone, maybe since it was opened.
        OSError: it cannot be opened, or there is no fd left.
    """
    fd = OwnedFd(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    with closed_on_error(fd), suppress(BlockingIOError):
        fcntl.flock(fd.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Who had it locked before, may have removed it: then this is a lock of nothing.
        os.stat(directory)
        return fd
    fd.close()
    return None


def _remove(directory: Path) -> None:
    """Remove a directory that has nothing in it but our socket."""
    with suppress(OSError):
        (directory / _SOCKET).unlink(missing_ok=True)
        directory.rmdir()


def _sweep(parent: Path) -> None:
    """Remove the directories of proxies that were killed: nobody has them locked."""
    for directory in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            lock = _locked(directory)
            if lock is not None:
                with lock:
                    _remove(directory)
