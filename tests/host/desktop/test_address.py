import socket
from pathlib import Path

import pytest

from wlproxy.host.desktop.address import compositor_path, connect_compositor
from wlproxy.host.errors import NoCompositorError

RUNTIME = {"XDG_RUNTIME_DIR": "/run/user/1000"}


@pytest.mark.parametrize(
    ("environ", "display", "path"),
    [
        ({**RUNTIME}, None, "/run/user/1000/wayland-0"),
        ({**RUNTIME, "WAYLAND_DISPLAY": ""}, None, "/run/user/1000/wayland-0"),
        ({**RUNTIME, "WAYLAND_DISPLAY": "wl-7"}, None, "/run/user/1000/wl-7"),
        ({**RUNTIME, "WAYLAND_DISPLAY": "wl-7"}, "wl-8", "/run/user/1000/wl-8"),
        ({**RUNTIME, "WAYLAND_DISPLAY": "/tmp/x"}, None, "/tmp/x"),
        ({"WAYLAND_DISPLAY": "/tmp/x"}, None, "/tmp/x"),
        ({**RUNTIME, "WAYLAND_SOCKET": "7"}, None, "/run/user/1000/wayland-0"),
    ],
)
def test_libwaylands_rules(
    environ: dict[str, str], display: str | None, path: str
) -> None:
    assert compositor_path(environ, display) == Path(path)


@pytest.mark.parametrize("directory", [{}, {"XDG_RUNTIME_DIR": "relative"}])
def test_no_directory_no_compositor(directory: dict[str, str]) -> None:
    with pytest.raises(NoCompositorError, match="XDG_RUNTIME_DIR"):
        compositor_path({**directory, "WAYLAND_DISPLAY": "wayland-1"})


async def test_connects(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wl"))
        listener.listen()
        async with await connect_compositor(tmp_path / "wl") as stream:
            assert stream.unsent == 0


async def test_says_that_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NoCompositorError, match=r"ENOENT.*\n.*WAYLAND_DISPLAY"):
        await connect_compositor(tmp_path / "wl")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wl"))
    with pytest.raises(NoCompositorError, match="ECONNREFUSED"):
        await connect_compositor(tmp_path / "wl")
