"""Where Arm's `virt` has its RAM: a real QEMU, whose guest says so by writing there."""

import shutil
import time
from pathlib import Path

import pytest

from tests.peers.tiny_arm import PACKAGE, PROGRAM, TinyArm, token
from wlproxy.host.errors import GuestRamWrongMapError
from wlproxy.host.qemu.ram import GuestRam, open_guest_ram, peer_pid
from wlproxy.memory.guest_memory import GIB, ExtentError

pytestmark = pytest.mark.skipif(
    not shutil.which(PROGRAM), reason=f"needs {PROGRAM}: apt-get install {PACKAGE}"
)

SECONDS = 30
PAGE = 4096
MIB = 1 << 20
START = GIB
"""VIRT_MEM in hw/arm/virt.c."""
SPLIT = 4 * GIB
"""From here on an address has more than 32 bits: memory that `highmem` allows."""


def wait_written(ram: GuestRam, gpa: int) -> None:
    """Wait until the guest has written there: words are written in order."""
    deadline = time.monotonic() + SECONDS
    while ram.read(gpa, 8) != token(gpa):
        assert time.monotonic() < deadline, f"nothing at {gpa:#x}"
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("machine", "memory"),
    [("virt", 5), ("virt,gic-version=3", 16), ("virt-8.0", 4), ("virt,highmem=off", 3)],
)
def test_ram_is_where_the_map_says(tmp_path: Path, machine: str, memory: int) -> None:
    end = START + memory * GIB
    written = [START + MIB, 2 * GIB - PAGE, 2 * GIB, min(end, SPLIT) - PAGE]
    if end > SPLIT:
        written += [SPLIT, SPLIT + 8, end - PAGE]
    written.append(end - 8)
    with (
        TinyArm(tmp_path, f"{memory}G", written, machine) as vm,
        open_guest_ram(peer_pid(vm.channel)) as ram,
    ):
        assert ram.pid == vm.process.pid
        wait_written(ram, written[-1])
        for gpa in written:
            ram.verify(gpa, token(gpa))
        with pytest.raises(GuestRamWrongMapError):
            ram.verify(written[0] + PAGE, token(written[0]))
        for outside in (START - 8, end):
            with pytest.raises(ExtentError):
                ram.read(outside, 8)
