import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.host.conftest import nobody
from wlproxy.host.desktop.udmabuf_device import seal_error
from wlproxy.host.errors import (
    GuestRamError,
    GuestRamLayoutError,
    GuestRamNotSharedError,
    GuestRamSealError,
    GuestRamUnreadableError,
    GuestRamWrongMapError,
    QmpError,
)
from wlproxy.host.qemu.args import QemuSetup, qemu_command_line
from wlproxy.host.qemu.ram import GuestRam, open_guest_ram, peer_pid
from wlproxy.memory.guest_memory import (
    GIB,
    ExtentError,
    GuestMemory,
    RamRegion,
    q35_layout,
)
from wlproxy.protocol.channel.frames import Extent
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.transport.fds import OwnedFd

MIB = 1 << 20
PAGE = 4096
TOKEN = bytes(range(32))

FAKE_QEMU = """
import fcntl, mmap, os, sys
kept = []
for backend in sys.argv[1].split():
    name, size, seals, flags = backend.split(":")
    fd = os.memfd_create(name, os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, int(size))
    fcntl.fcntl(fd, 1033, int(seals))
    if flags != "none":
        kept.append(mmap.mmap(fd, int(size), getattr(mmap, flags)))
    kept.append(os.dup(fd))
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def fake_qemu(*backends: str, machine: str = "q35") -> Iterator[int]:
    """A process with the memfds of a QEMU, and its command line: `name:size:seals:map`."""
    arguments = ["qemu-system-x86_64", "-c", FAKE_QEMU, " ".join(backends)]
    with subprocess.Popen(
        [*arguments, "-machine", machine],
        executable=os.path.realpath(sys.executable),
        env={**os.environ, "PYTHONHOME": sys.base_prefix},  # not to be told by argv[0]
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.stdin.close()


GOOD = f"memory-backend-memfd:{8 * MIB}:7:MAP_SHARED"


def test_finds_and_reads_ram() -> None:
    with fake_qemu("other:4096:0:MAP_SHARED", GOOD) as pid, open_guest_ram(pid) as ram:
        assert ram.pid == pid
        assert ram.memory.regions == (RamRegion(0, 8 * MIB, 0, 0),)
        [file] = ram.files.values()
        assert seal_error(file.fileno()) is None
        os.pwrite(file.fileno(), TOKEN, PAGE)
        ram.verify(PAGE, TOKEN)
        assert ram.read(PAGE + 1, 3) == TOKEN[1:4]
        assert ram.read(PAGE - 2, 4) == b"\0\0" + TOKEN[:2]  # across a page
        with ram.map(0) as view:
            assert len(view) == 8 * MIB
            assert view[PAGE : PAGE + 32] == TOKEN
            with pytest.raises(TypeError):
                view[0:1] = b"x"
    ram.close()


def test_token_elsewhere_is_a_wrong_map() -> None:
    with fake_qemu(GOOD) as pid, open_guest_ram(pid) as ram:
        with pytest.raises(GuestRamWrongMapError, match=r"--qemu-pid(.|\n)*--qmp"):
            ram.verify(PAGE, TOKEN)
        with pytest.raises(ExtentError):
            ram.verify(8 * MIB, TOKEN)


def test_reading_after_close_is_our_mistake() -> None:
    with fake_qemu(GOOD) as pid:
        ram = open_guest_ram(pid)
        ram.close()
        with pytest.raises(LocalProtocolError, match="closed"):
            ram.read(0, 1)


def test_machine_decides_the_layout() -> None:
    with (
        fake_qemu(GOOD, machine="raspi4b") as pid,
        pytest.raises(GuestRamLayoutError, match="raspi4b"),
    ):
        open_guest_ram(pid)


@pytest.mark.parametrize(
    ("backends", "error", "complaint"),
    [
        ([], GuestRamNotSharedError, "share=on"),
        (["ram:8388608:7:MAP_SHARED"], GuestRamNotSharedError, "no memfd"),
        (
            ["memory-backend-memfd:8388608:7:MAP_PRIVATE"],
            GuestRamNotSharedError,
            "privately",
        ),
        (["memory-backend-memfd:8388608:7:none"], GuestRamNotSharedError, "privately"),
        (["memory-backend-memfd:8388608:1:MAP_SHARED"], GuestRamSealError, "seal=on"),
        ([GOOD, GOOD], GuestRamLayoutError, "2 separate backends"),
        (["memory-backend-memfd:5000:7:MAP_SHARED"], GuestRamLayoutError, "odd"),
    ],
)
def test_unusable_ram_says_why(
    backends: list[str], error: type[GuestRamError], complaint: str
) -> None:
    with fake_qemu(*backends) as pid, pytest.raises(error, match=complaint):
        open_guest_ram(pid)


def test_process_of_somebody_else() -> None:
    with fake_qemu(GOOD) as pid:
        if os.geteuid():
            pytest.skip("needs root, to become somebody else")
        with nobody(), pytest.raises(GuestRamUnreadableError, match="same user"):
            open_guest_ram(pid)


def test_monitor_that_is_not_there(tmp_path: Path) -> None:
    with fake_qemu(GOOD) as pid, pytest.raises(QmpError):
        open_guest_ram(pid, tmp_path / "qmp")


def test_peer_is_who_listens(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as channel,
    ):
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        channel.connect(str(tmp_path / "s"))
        assert peer_pid(channel) == os.getpid()


def test_peer_out_of_sight() -> None:
    with (
        socket.socket(socket.AF_UNIX) as unconnected,
        pytest.raises(GuestRamUnreadableError, match="--qemu-pid"),
    ):
        peer_pid(unconnected)


# ---- real QEMU; nothing of the guest runs


class Qemu:
    """A stopped QEMU: its channel, its monitor, its pid."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.channel = directory / "channel"
        self.monitor = directory / "qmp"
        self.process = subprocess.Popen(
            [
                "qemu-system-x86_64",
                *("-S", "-accel", "tcg", "-display", "none", "-nodefaults"),
                *("-pidfile", str(directory / "pid"), "-daemonize"),
                *("-qmp", f"unix:{self.monitor},server=on,wait=off"),
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, self.stderr = self.process.communicate()  # ready when the parent is gone
        self.pid = int((directory / "pid").read_text())

    def stop(self) -> None:
        with OwnedFd(os.pidfd_open(self.pid)) as gone:
            os.kill(self.pid, signal.SIGKILL)
            select.select([gone], [], [], 30)


@contextmanager
def real_qemu(directory: Path, *arguments: str) -> Iterator[Qemu]:
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("needs QEMU: apt-get install qemu-system-x86")
    qemu = Qemu(directory, *arguments)
    try:
        yield qemu
    finally:
        qemu.stop()


def connect(path: Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    channel.connect(str(path))
    return channel


@pytest.mark.parametrize("machine", ["q35", "pc"])
def test_our_options_start_qemu_and_its_ram_is_found(
    tmp_path: Path, machine: str
) -> None:
    setup = QemuSetup(tmp_path / "channel", "3G", machine)
    with (
        real_qemu(
            tmp_path, *shlex.split(qemu_command_line(setup).replace("\\\n", " "))
        ) as qemu,
        connect(qemu.channel) as channel,
    ):
        pid = peer_pid(channel)
        assert pid == qemu.pid
        with open_guest_ram(pid) as ram, open_guest_ram(pid, qemu.monitor) as told:
            assert ram.memory.size == 3 * GIB
            os.pwrite(ram.files[0].fileno(), TOKEN, 3 * GIB - PAGE)
            if machine == "q35":
                assert ram.memory.regions == q35_layout(3 * GIB)
                ram.verify(5 * GIB - PAGE, TOKEN)
            assert_same_map(ram, told)


def assert_same_map(guessed: GuestRam, told: GuestRam) -> None:
    """QEMU's own map agrees with the rule for the machine, wherever there is RAM."""
    assert told.layout != guessed.layout
    for region in told.memory.regions:
        extent = Extent(region.gpa, region.length)
        assert guessed.memory.translate([extent]) == told.memory.translate([extent])
    assert told.memory.size >= guessed.memory.size - MIB  # the firmware's window


def test_monitor_maps_what_no_rule_does(tmp_path: Path) -> None:
    """Two NUMA nodes and a machine without a rule: only the monitor knows."""
    backend = "memory-backend-memfd,share=on,size=512M"
    with real_qemu(
        tmp_path,
        *("-machine", "q35,max-ram-below-4g=512M", "-m", "1G", "-smp", "2"),
        *("-object", f"{backend},id=a", "-object", f"{backend},id=b"),
        *("-numa", "node,memdev=a,cpus=0", "-numa", "node,memdev=b,cpus=1"),
    ) as qemu:
        with pytest.raises(GuestRamLayoutError, match="2 separate backends"):
            open_guest_ram(qemu.pid)
        with open_guest_ram(qemu.pid, qemu.monitor) as ram:
            assert len(ram.files) == 2
            first, second = (
                ram.memory.translate([Extent(gpa, PAGE)])[0].file
                for gpa in (256 * MIB, 4 * GIB)
            )
            assert first != second


@pytest.mark.parametrize(
    ("backend", "error"),
    [
        ("memory-backend-memfd,share=on,seal=off", GuestRamSealError),
        ("memory-backend-memfd,share=off", GuestRamNotSharedError),
        ("memory-backend-ram", GuestRamNotSharedError),
    ],
)
def test_qemu_without_our_options(
    tmp_path: Path, backend: str, error: type[GuestRamError]
) -> None:
    with (
        real_qemu(
            tmp_path,
            *("-machine", "q35,memory-backend=ram", "-m", "64M"),
            *("-object", f"{backend},id=ram,size=64M"),
        ) as qemu,
        pytest.raises(error),
    ):
        open_guest_ram(qemu.pid)


def test_monitor_of_another_qemu(tmp_path: Path) -> None:
    with (
        fake_qemu(GOOD) as pid,
        real_qemu(tmp_path, "-machine", "q35", "-m", "64M") as other,
        pytest.raises(GuestRamLayoutError, match="same QEMU"),
    ):
        open_guest_ram(pid, other.monitor)


def test_map_of_a_file_that_cannot_be_mapped() -> None:
    read, write = (OwnedFd(number) for number in os.pipe())
    with write:
        ram = GuestRam(1, {0: read}, GuestMemory([RamRegion(0, PAGE, 0, 0)]), "")
        with pytest.raises(GuestRamError, match="mmap"):
            ram.map(0)
        with pytest.raises(GuestRamError, match="pread"):
            ram.read(0, 1)
        ram.close()
