"""What systemd is told, over a real socket."""

import socket
from pathlib import Path

import pytest

from wlproxy.transport.notify import notify


@pytest.mark.parametrize("prefix", ["", "@"])
def test_service_manager_is_told(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = prefix + str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0", 1))

        notify("READY=1", "STATUS=waiting")

        assert manager.recv(100) == b"READY=1\nSTATUS=waiting"


@pytest.mark.parametrize("address", ["", "vsock:2:1", "/nobody/listens"])
def test_nobody_to_tell(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)

    notify("READY=1")
