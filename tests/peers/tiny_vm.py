"""A QEMU whose guest is a hundred bytes: it starts the tap's disk, and counts.

It needs no image, and boots at once.  Each time that it counts it reads a timer of the machine, for which it
needs QEMU's big lock, as all do that use devices: where QEMU's main loop waits for somebody, it
does not count.
"""

import mmap
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.qemu import PROGRAM, Qmp
from wlproxy.host.qemu.tapped import TapClient

PAGE = 4096
COUNTER, MAILBOX = 0x7000, 0x7004
QUEUE = 0x10000
QUEUE_SIZE = 128
"""As QEMU has it."""
AVAILABLE, USED = QUEUE + 16 * QUEUE_SIZE, QUEUE + PAGE
STATUS = 0x9000
UNTOUCHED = 0xFF
SECONDS = 30
MIB = 1 << 20

CODE = bytes.fromhex(
    "31 c0"  # xor ax, ax
    "8e d8"  # mov ds, ax
    # The disk is in PCI slot 5, and its registers are to be at 0xc000.
    "ba f8 0c  66 b8 10 28 00 80  66 ef"  # out 0xcf8, 0x80002810: BAR 0
    "ba fc 0c  66 b8 01 c0 00 00  66 ef"  # out 0xcfc, 0xc001
    "ba f8 0c  66 b8 04 28 00 80  66 ef"  # out 0xcf8, 0x80002804: command
    "ba fc 0c  b8 05 00  ef"  # out 0xcfc, I/O and bus master
    # The legacy interface of virtio 1.2, 4.1.4.8.
    "ba 12 c0  b0 00  ee"  # device status: reset
    "b0 03  ee"  # ACKNOWLEDGE, DRIVER
    "ba 0e c0  31 c0  ef"  # queue select: 0
    "ba 08 c0  66 b8 10 00 00 00  66 ef"  # queue address: page 0x10
    "ba 12 c0  b0 07  ee"  # DRIVER_OK
    # loop:
    "e4 40"  # in al, 0x40: the timer
    "66 ff 06 00 70"  # inc dword [0x7000]
    "80 3e 04 70 00"  # cmp byte [0x7004], 0
    "74 f2"  # je loop
    "c6 06 04 70 00"  # mov byte [0x7004], 0
    "ba 10 c0  31 c0  ef"  # queue notify: 0
    "eb e5"  # jmp loop
)
RESET = bytes.fromhex("ea 00 00 00 f0")
"""jmp 0xf000:0: what is at 0xfffffff0, where a processor begins."""


class TinyVm:
    """It runs from `with` to the end of that."""

    def __init__(
        self, directory: Path, tap: Path, *, memory: str = "share=on", mib: int = 16
    ) -> None:
        """Nothing runs yet.

        Args:
            directory: for its files.
            tap: where it connects to.
            memory: options of its RAM, a memfd.
            mib: the size of that.
        """
        rom = bytearray(b"\xf4" * 0x10000)
        rom[: len(CODE)] = CODE
        rom[0xFFF0 : 0xFFF0 + len(RESET)] = RESET
        (directory / "rom").write_bytes(rom)
        self._qmp_path = directory / "qmp"
        self._words = [
            PROGRAM,
            *("-accel", "tcg,thread=multi", "-nodefaults", "-no-user-config"),
            *("-display", "none", "-vga", "none", "-nic", "none"),
            *("-bios", str(directory / "rom")),
            *("-m", f"{mib}M,slots=4,maxmem=1G", "-machine", "pc,memory-backend=ram"),
            *("-object", f"memory-backend-memfd,id=ram,size={mib}M,{memory}"),
            *("-chardev", f"socket,id=tap,path={tap},reconnect-ms=100"),
            *("-device", "vhost-user-blk-pci,chardev=tap,addr=5"),
            *("-qmp", f"unix:{self._qmp_path},server=on,wait=off"),
        ]
        self._up = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as up:
            self.process = up.enter_context(
                subprocess.Popen(self._words, stdin=subprocess.DEVNULL)
            )
            up.callback(self.process.kill)
            self.qmp = up.enter_context(Qmp(self._qmp_path))
            self._up = up.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._up.__exit__(kind, exc, traceback)

    @property
    def pid(self) -> int:
        return self.process.pid

    def open_ram(self, table: Path) -> None:
        """Have its RAM, as the tap tells of it."""
        with TapClient(table) as client:
            while True:
                with client.receive() as told:
                    low = [each for each in told.regions if not each.gpa]
                    if low:
                        fd = told.files[low[0].file].fileno()
                        mapped = mmap.mmap(fd, 0)
                        self._up.callback(mapped.close)
                        self.ram = mapped
                        return

    def count(self) -> int:
        (count,) = struct.unpack_from("<I", self.ram, COUNTER)
        return int(count)

    def wait_counts(self, more: int = 1000) -> None:
        """Wait until it has counted on."""
        before = self.count()
        deadline = time.monotonic() + SECONDS
        while self.count() - before & 0xFFFFFFFF < more:
            assert time.monotonic() < deadline, "the VM stands still"
            time.sleep(0.001)

    def ask_disk(self) -> None:
        """Make one request, as udev does that wants to know a disk's serial number."""
        chain = ((0x8000, 16, 1, 1), (0x8200, 20, 3, 2), (STATUS, 1, 2, 0))
        for number, fields in enumerate(chain):
            struct.pack_into("<QIHH", self.ram, QUEUE + 16 * number, *fields)
        self.ram[STATUS] = UNTOUCHED
        (asked,) = struct.unpack_from("<H", self.ram, AVAILABLE + 2)
        struct.pack_into("<H", self.ram, AVAILABLE + 4 + 2 * (asked % QUEUE_SIZE), 0)
        struct.pack_into("<H", self.ram, AVAILABLE + 2, asked + 1 & 0xFFFF)
        self.ram[MAILBOX] = 1

    def wait_answered(self) -> int:
        """Wait for the answer to all that was asked; return the last status."""
        deadline = time.monotonic() + SECONDS
        while self.ram[AVAILABLE + 2 : AVAILABLE + 4] != self.ram[USED + 2 : USED + 4]:
            assert time.monotonic() < deadline, "the disk does not answer"
            time.sleep(0.001)
        return self.ram[STATUS]

    def plug(self, name: str, mib: int, **backend: Any) -> None:
        """Plug a DIMM; without more words it is sealed memory as the RAM is."""
        kind = {"qom-type": "memory-backend-memfd", "share": True, **backend}
        self.qmp("object-add", id=name, size=mib * MIB, **kind)
        self.qmp("device_add", driver="pc-dimm", id=f"dimm-{name}", memdev=name)


class Watch:
    """Looks at whether a VM runs, from `with` to the end of that.

    Attributes:
        longest: seconds for which it stood still, at most.
    """

    def __init__(self, vm: TinyVm) -> None:
        self.longest = 0.0
        self._vm = vm
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._vm.wait_counts()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        """Compare the count with what it was, a thousand times a second.

        Time counts in which QEMU could have run: not what its threads wait for a processor, nor
        what we have waited for one ourselves.
        """
        last, stood = self._vm.count(), 0.0
        looked, waits = time.monotonic(), Waits(self._vm.pid)
        while not self._over.wait(0.001):
            count = self._vm.count()
            now = time.monotonic()
            step = min(now - looked, 0.01) - waits.grown()
            looked = now
            stood = stood + max(step, 0) if count == last else 0
            last = count
            self.longest = max(self.longest, stood)


class Waits:
    """How long a process' threads wait for a processor (schedstat)."""

    def __init__(self, pid: int, proc: Path = Path("/proc")) -> None:
        self._tasks = proc / str(pid) / "task"
        self._before = self._now()

    def grown(self) -> float:
        """Seconds that all of them together have waited since the last call.

        Each by itself: one that ends takes its whole number along.
        """
        before, self._before = self._before, self._now()
        grown = [now - before.get(each, now) for each, now in self._before.items()]
        return sum(grown) / 1e9

    def _now(self) -> dict[str, int]:
        found = {}
        with suppress(FileNotFoundError):  # all of it has ended
            for each in self._tasks.iterdir():
                # It has ended, or the kernel does not count.
                with suppress(OSError, IndexError):
                    text = (each / "schedstat").read_text()
                    found[each.name] = int(text.split()[1])
        return found


def free_huge_pages() -> int:
    """How many huge pages of 2 MiB there are for whoever asks."""
    try:
        pool = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
        return int(pool.read_text())
    except OSError:
        return 0
