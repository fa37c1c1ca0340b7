"""Where the host's compositor listens, and connections to it.

The rules are libwayland's (wl_display_connect).  What is said on a connection is not
known here.
"""

from collections.abc import Mapping
from pathlib import Path

from wlproxy.host.unix_socket import FdStream


def compositor_path(environ: Mapping[str, str], display: str | None = None) -> Path:
    """Name the compositor's socket.

    Args:
        environ: WAYLAND_DISPLAY and XDG_RUNTIME_DIR are read from it.
        display: overrides WAYLAND_DISPLAY: a name or an absolute path.

    Raises:
        NoCompositorError: the environment does not tell.
    """
    raise NotImplementedError


async def connect_compositor(path: Path) -> FdStream:
    """Connect to the compositor, or to the listener of a security context.

    Raises:
        NoCompositorError: nobody listens there.
    """
    raise NotImplementedError
