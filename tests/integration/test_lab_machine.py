"""What the lab itself promises, which every other test in it relies on."""

import os
import socket
import struct
from pathlib import Path

import pytest


@pytest.mark.lab
def test_the_host_vm_has_udmabuf_and_compositors() -> None:
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])

    assert Path("/dev/udmabuf").is_char_device()
    assert (runtime / "wl-pixman").is_socket()
    assert (runtime / "wl-gl").is_socket()


@pytest.mark.guest
def test_the_guests_channel_is_qemus_socket() -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect("/run/wlproxy-lab/guest/channel.sock")
        credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, _uid, _gid = struct.unpack("3i", credentials)

        assert "qemu" in Path(f"/proc/{pid}/exe").readlink().name
