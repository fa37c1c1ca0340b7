"""Whose socket it is: QEMU's, or that of a program that will give it to QEMU."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from wlproxy.host.config import HostConfig
from wlproxy.host.errors import GuestRamUnreadableError, NotQemuError
from wlproxy.host.qemu.discovery import name_vmm, qemu_ram
from wlproxy.transport.fd_stream import FdStream


def connected(path: Path) -> FdStream:
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(str(path))
    return FdStream(stream)


@contextmanager
def qemu_with(fd: int) -> Iterator[subprocess.Popen[bytes]]:
    """A QEMU that is up, and has inherited a socket."""
    with subprocess.Popen(
        [
            *("qemu-system-x86_64", "-S", "-accel", "tcg", "-display", "none"),
            *("-nodefaults", "-qmp", "stdio", "-m", "64M"),
            *("-object", "memory-backend-memfd,id=ram,size=64M,share=on"),
            *("-machine", "q35,memory-backend=ram", "-device", "virtio-serial"),
            *("-chardev", f"socket,id=c,fd={fd},server=on,wait=off"),
        ],
        pass_fds=(fd,),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as qemu:
        assert qemu.stdout is not None
        qemu.stdout.readline()  # its monitor is up, and so is all else
        yield qemu
        qemu.kill()


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("qemu-system-x86_64"), reason="needs QEMU: qemu-system-x86"
)
async def test_a_socket_becomes_qemus_when_qemu_listens(tmp_path: Path) -> None:
    """As libvirt does it: it listens, and QEMU inherits the socket."""
    path = tmp_path / "channel"
    provide = partial(qemu_ram, HostConfig(path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        early = connected(path)
        with pytest.raises(NotQemuError, match=f"process {os.getpid()}"):
            provide(early)
        with qemu_with(listener.fileno()) as qemu:
            with pytest.raises(NotQemuError):
                provide(early)
            late = connected(path)
            ram = provide(late)
            assert (ram.pid, ram.memory.size) == (qemu.pid, 64 << 20)
            assert name_vmm(qemu.pid).program == "qemu-system-x86_64"
            ram.close()
    await early.aclose()
    await late.aclose()


def test_who_has_gone_has_no_name() -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert name_vmm(gone.pid).program == ""


async def test_a_socket_of_another_program_is_not_qemus(tmp_path: Path) -> None:
    config = HostConfig(tmp_path)
    ours, theirs = map(FdStream, socket.socketpair())
    async with ours, theirs:
        with pytest.raises(NotQemuError, match=f"process {os.getpid()}"):
            qemu_ram(config, ours)
        beyond_all = 1 << 22  # the kernel's PID_MAX_LIMIT
        with pytest.raises(GuestRamUnreadableError, match=f"no process {beyond_all}"):
            qemu_ram(replace(config, qemu_pid=beyond_all), ours)
