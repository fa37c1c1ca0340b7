import socket
import threading
from pathlib import Path

import pytest

from tests.host.conftest import Weston
from wlproxy.host.desktop import wayland_client
from wlproxy.host.desktop.wayland_client import WaylandClient
from wlproxy.host.errors import CompositorRefusedError, NoCompositorError


def test_reads_the_registry_and_binds(weston: Weston) -> None:
    with WaylandClient(weston.socket) as client:
        assert client.global_versions["wl_compositor"] >= 4
        client.bind("wl_compositor", 4).create("create_surface")
        client.roundtrip()


def test_absent_globals_are_key_errors(weston: Weston) -> None:
    with WaylandClient(weston.socket) as client:
        assert "wl_seat" not in client.global_versions  # weston headless has none
        with pytest.raises(KeyError):
            client.bind("wl_seat", 1)


def test_closing_twice_is_fine(weston: Weston) -> None:
    client = WaylandClient(weston.socket)
    client.close()
    client.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NoCompositorError, match="no compositor at"):
        WaylandClient(tmp_path / "wl")


def test_compositor_hangs_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wl"))
        listener.listen()

        def hang_up() -> None:
            listener.accept()[0].close()

        server = threading.Thread(target=hang_up)
        server.start()
        with pytest.raises(CompositorRefusedError, match="ended the connection"):
            WaylandClient(tmp_path / "wl")
        server.join()


def test_compositor_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wayland_client, "TIMEOUT", 0.1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wl"))
        listener.listen()
        with pytest.raises(CompositorRefusedError, match="does not answer"):
            WaylandClient(tmp_path / "wl")
