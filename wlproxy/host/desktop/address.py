"""Finds the compositor's socket, and connects to it.

The rules are libwayland's (wl_display_connect).  What is said on a connection is not known
here.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from wlproxy.host.errors import NoCompositorError
from wlproxy.transport.fd_stream import FdStream, connect_unix

DEFAULT_DISPLAY: Final = "wayland-0"
"""libwayland's, where WAYLAND_DISPLAY is not set."""

_REMEDY: Final = (
    "Run wlproxy inside a Wayland session, or name the compositor's socket: "
    "WAYLAND_DISPLAY=wayland-0 (a name in XDG_RUNTIME_DIR, or an absolute path)."
)


def compositor_path(environ: Mapping[str, str], display: str | None = None) -> Path:
    """Return the path of the compositor's socket.

    WAYLAND_SOCKET, a connection that some parent made for one client, is not used: the
    proxy makes one for each of the guest's clients.

    Args:
        environ: WAYLAND_DISPLAY and XDG_RUNTIME_DIR are read from it.
        display: overrides WAYLAND_DISPLAY: a name or an absolute path.

    Raises:
        NoCompositorError: the environment does not tell.
    """
    path = Path(display or environ.get("WAYLAND_DISPLAY") or DEFAULT_DISPLAY)
    if path.is_absolute():
        return path
    directory = environ.get("XDG_RUNTIME_DIR", "")
    if not Path(directory).is_absolute():
        raise NoCompositorError(
            f"where the compositor's socket {path} is cannot be told: XDG_RUNTIME_DIR "
            "is not set (or not an absolute path)",
            remedy=_REMEDY,
        )
    return Path(directory, path)


async def connect_compositor(path: Path) -> FdStream:
    """Connect to the compositor, or to the listener of a security context.

    Raises:
        NoCompositorError: nobody listens there.
    """
    with connecting(path):
        return await connect_unix(path)


def connecting(path: Path) -> AbstractContextManager[None]:
    """Say why there is no connection to a compositor, if the block fails to make one."""
    return NoCompositorError.explaining(
        f"no compositor at {path}", tried=f"connect {path}", remedy=_REMEDY
    )
