#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: S311, T201, TID251
"""Random calls of both devices' ioctls: nothing but the documented errors may come back.

``fuzz.py [CALLS [SEED]]``.  Only the standard library.  Values are drawn near the edges
that a driver may get wrong, most calls being nearly right ones; other threads meanwhile
do things to the files.  On a kernel with fault injection, allocations fail as well in
some of the calls.  Whether the kernel complained is for the caller to look up in
its log.  Devices that are not there are left out.
"""

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import random
import resource
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator

PAGE = mmap.PAGESIZE
FILE_PAGES = 16
MAX_HELD = 24

UDMABUF_CREATE = 0x40187542
UDMABUF_CREATE_LIST = 0x40087543
GEM_LOCATE_VERSION = 0x80087760
GEM_LOCATE_DMABUF = 0xC0187761
GEM_LOCATE_MEMFD = 0xC0207762
GEM_LOCATE_EXTENTS = 0xC0107763
DMA_BUF_IOCTL_SYNC = 0x40086200
COMMANDS = (
    UDMABUF_CREATE,
    UDMABUF_CREATE_LIST,
    GEM_LOCATE_VERSION,
    GEM_LOCATE_DMABUF,
    GEM_LOCATE_MEMFD,
    GEM_LOCATE_EXTENTS,
)

KNOWN = (*COMMANDS, DMA_BUF_IOCTL_SYNC)

# Where the kernel has fault injection: what to set, so that any allocation can fail, and
# no failure is logged for being one.
INJECTION = "/sys/kernel/debug"
INJECTION_SETUP = {
    "failslab/ignore-gfp-wait": "N",
    "failslab/verbose": "0",
    "fail_page_alloc/ignore-gfp-wait": "N",
    "fail_page_alloc/ignore-gfp-highmem": "N",
    "fail_page_alloc/min-order": "0",
    "fail_page_alloc/verbose": "0",
}
# The number of the next allocation of this thread that is to fail.
FAIL_NTH = "/proc/thread-self/fail-nth"
# Making a dma-buf takes about so many.
MAX_NTH = 40

F_ADD_SEALS = 1033
F_SEAL_SHRINK = 2
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2

# All that docs/kernel.md allows, and what opening too much leads to.
ALLOWED = {
    errno.EACCES,
    errno.EBADF,
    errno.EBADFD,
    errno.EDQUOT,
    errno.EFAULT,
    errno.EINVAL,
    errno.EMFILE,
    errno.ENOMEM,
    errno.ENOTTY,
}

libc = ctypes.CDLL(None, use_errno=True)
# Without this a new mmap object or bytearray would be made for each call.
libc.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


class Fuzzer:
    """Makes calls at random, and remembers what came of them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.unexpected: Counter[str] = Counter()
        self.failures = 0
        opened = {letter: _open(path) for letter, path in _paths()}
        self._device_of = {k: fd for k, fd in opened.items() if fd is not None}
        self._devices = list(self._device_of.values())
        self._scratch = mmap.mmap(-1, 16 * PAGE)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._scratch))
        self._files = [self._new_file(n) for n in range(6)]
        self._results: list[int] = []
        self._stop = False
        self._fail_nth = _open_injection()
        self._actions: list[Callable[[], None]] = [
            self._create,
            self._create,
            self._create_list,
            self._locate_memfd,
            self._locate_dmabuf,
            self._extents,
            self._garbage,
            self._map,
        ]

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return len(self._devices)

    def run(self, calls: int) -> None:
        """Make so many calls."""
        threads = [
            threading.Thread(target=work)
            for work in (self._punch_holes, self._add_seals)
        ]
        for thread in threads:
            thread.start()
        for number in range(calls):
            self._random.choice(self._actions)()
            if number % 100_000 == 99_999:
                print(f"# {number + 1} calls", flush=True)
        self._stop = True
        for thread in threads:
            thread.join()
        self._close_results(0)

    # ------------------------------------------------------------------ the calls

    def _create(self) -> None:
        request = struct.pack(
            "=IIQQ", self._fd(), self._small(), self._offset(), self._size()
        )
        self._keep(self._call(UDMABUF_CREATE, request))

    def _create_list(self) -> None:
        count = self._random.choice((0, 1, 2, 3, 40, 1024, 1025))
        items = b"".join(
            struct.pack(
                "=IIQQ", self._fd(), self._small(), self._offset(), self._size()
            )
            for _ in range(min(count, 40))
        )
        if self._random.random() < 0.1:
            count = self._word() & 0xFFFFFFFF
        head = struct.pack("=II", self._small(), count)
        self._keep(self._call(UDMABUF_CREATE_LIST, head + items))

    def _locate_memfd(self) -> None:
        request = struct.pack(
            "=IIQQII",
            self._fd(),
            self._rarely(),
            self._offset(),
            self._size(),
            self._rarely(),
            self._rarely(),
        )
        self._keep(self._call(GEM_LOCATE_MEMFD, request))

    def _locate_dmabuf(self) -> None:
        request = struct.pack(
            "=IIQII",
            self._fd(),
            self._rarely(),
            self._rarely(),
            self._rarely(),
            self._rarely(),
        )
        self._keep(self._call(GEM_LOCATE_DMABUF, request))

    def _extents(self) -> None:
        array = self._random.choice((0, 16, self._address + 4 * PAGE, self._word()))
        count = self._random.choice((0, 1, 16, 512, self._word() & 0xFFFFFFFF))
        if array == self._address + 4 * PAGE:
            count = min(count, 512)
        request = struct.pack("=QII", _not_ours(array, self._address), count, 0)
        fd = self._random.choice(self._results) if self._results else None
        self._call(GEM_LOCATE_EXTENTS, request, fd)

    def _garbage(self) -> None:
        request = self._random.randbytes(self._random.choice((0, 8, 24, 32, 200)))
        command = self._random.choice(COMMANDS)
        if command == GEM_LOCATE_EXTENTS:
            # Where it writes to is the caller's choice: not into this interpreter.
            request = bytes(8) + request[8:]
        if self._random.random() < 0.2:
            command ^= 1 << self._random.randrange(30)
        if command not in COMMANDS and command >> 8 & 0xFF == ord("b"):
            return
        self._keep(self._call(command, request, self._fd()))

    def _map(self) -> None:
        if not self._results:
            return
        fd = self._random.choice(self._results)
        self._count("map", self._try_map(fd))
        if self._random.random() < 0.5:
            self._call(DMA_BUF_IOCTL_SYNC, struct.pack("=Q", self._small()), fd)

    def _try_map(self, fd: int) -> int:
        length = PAGE * self._random.randrange(1, FILE_PAGES + 3)
        offset = PAGE * self._random.randrange(FILE_PAGES + 3)
        try:
            with mmap.mmap(fd, length, offset=offset) as view:
                view[0] = view[length - 1] = 7
        except (OSError, ValueError) as error:
            return getattr(error, "errno", None) or errno.EINVAL
        return 0

    def _call(self, command: int, request: bytes, fd: int | None = None) -> int:
        if fd is None or fd in (0, 1, 2):
            fd = self._device_of.get(command >> 8 & 0xFF)
        if fd is None or self._random.random() < 0.02:
            fd = self._random.choice(self._devices)
        # At the end of the page now and then, with nothing behind it.
        at = self._address
        self._scratch[: len(request)] = request
        if self._random.random() < 0.02:
            at = self._random.choice((0, 8, 1 << 47, (1 << 64) - 8))
        result = self._ioctl(fd, command, at)
        what = f"{command:#x}" if command in KNOWN else "unknown"
        self._count(what, 0 if result >= 0 else ctypes.get_errno())
        return result

    def _ioctl(self, fd: int, command: int, at: int) -> int:
        fail = self._fail_nth is not None and self._random.random() < 0.3
        if self._fail_nth is not None and fail:
            nth = self._random.randrange(1, MAX_NTH)
            os.pwrite(self._fail_nth, b"%d" % nth, 0)
        result: int = libc.ioctl(fd, command, at)
        if self._fail_nth is not None and fail:
            # What is left of the number: 0 if one has failed.
            self.failures += int(os.pread(self._fail_nth, 16, 0)) == 0
            os.pwrite(self._fail_nth, b"0", 0)
        return result

    def _count(self, what: str, error: int) -> None:
        name = errno.errorcode.get(error, str(error)) if error else "ok"
        self.counts[f"{what} {name}"] += 1
        if error and error not in ALLOWED and what != "map":
            self.unexpected[f"{what} {name}"] += 1

    # ------------------------------------------------------------------ the values

    def _fd(self) -> int:
        chance = self._random.random()
        if chance < 0.6:
            return self._random.choice(self._files)
        if chance < 0.9 and self._results:
            return self._random.choice(self._results)
        return self._random.choice((*self._devices, 1000, 0xFFFFFFFF, 0x7FFFFFFF))

    def _offset(self) -> int:
        return self._number(FILE_PAGES)

    def _size(self) -> int:
        return self._number(FILE_PAGES) or PAGE

    def _number(self, pages: int) -> int:
        if self._random.random() < 0.85:
            return PAGE * self._random.randrange(pages + 1)
        return self._word()

    def _word(self) -> int:
        bit = 1 << self._random.randrange(64)
        return (bit + self._random.choice((-PAGE, -1, 0, 1, PAGE))) % (1 << 64)

    def _small(self) -> int:
        return self._random.choice((0, 1, 1, 1, 2, 0xFFFFFFFF))

    def _rarely(self) -> int:
        return self._word() & 0xFFFFFFFF if self._random.random() < 0.02 else 0

    # ------------------------------------------------------------------- the files

    def _new_file(self, number: int) -> int:
        fd = os.memfd_create(f"fuzz-{number}", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.ftruncate(fd, FILE_PAGES * PAGE - number % 2)
        if number:
            fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
        return fd

    def _keep(self, result: int) -> None:
        if result > 2:
            self._results.append(result)
        if len(self._results) > MAX_HELD:
            self._random.shuffle(self._results)
            self._close_results(self._random.randrange(MAX_HELD))

    def _close_results(self, keep: int) -> None:
        for fd in self._results[keep:]:
            os.close(fd)
        del self._results[keep:]

    def _punch_holes(self) -> None:
        draw = random.Random(1)
        while not self._stop:
            libc.fallocate(
                draw.choice(self._files),
                FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                ctypes.c_long(PAGE * draw.randrange(FILE_PAGES)),
                ctypes.c_long(PAGE),
            )
            with contextlib.suppress(OSError):
                os.ftruncate(self._files[0], PAGE * draw.randrange(FILE_PAGES))

    def _add_seals(self) -> None:
        draw = random.Random(2)
        while not self._stop:
            fd = self._new_file(1)
            place = draw.randrange(1, len(self._files))
            self._files[place], old = fd, self._files[place]
            with contextlib.suppress(OSError):
                fcntl.fcntl(old, F_ADD_SEALS, draw.choice((4, 8, 16, 12)))
            os.close(old)


def _not_ours(array: int, address: int) -> int:
    """Keep the kernel from writing where Python's own memory may be."""
    return array if array in (0, 16, address + 4 * PAGE) else array | 1 << 63


def _paths() -> Iterator[tuple[int, str]]:
    yield ord("u"), os.environ.get("UDMABUF_DEVICE", "/dev/udmabuf")
    yield ord("w"), os.environ.get("GEM_LOCATE_DEVICE", "/dev/gem-locate")


def _open_injection() -> int | None:
    """Have allocations fail, if that can be had; returns what says which."""
    if not os.path.exists(f"{INJECTION}/failslab"):
        return None
    for name, value in INJECTION_SETUP.items():
        with open(f"{INJECTION}/{name}", "w") as file:
            file.write(value)
    return os.open(FAIL_NTH, os.O_RDWR | os.O_CLOEXEC)


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None


def main() -> int:
    """Run; returns the exit status: 0, 1 if it found something, 4 without devices."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("TAP version 13")
    fuzzer = Fuzzer(seed)
    if not fuzzer.devices:
        print("1..0 # SKIP no device")
        return 4
    print(f"# {calls} calls, seed {seed}, {fuzzer.devices} devices", flush=True)
    fuzzer.run(calls)
    for what, number in sorted(fuzzer.counts.items()):
        print(f"# {number:8} {what}")
    print(f"# {fuzzer.failures:8} allocations were made to fail")
    good = not fuzzer.unexpected
    print(
        f"{'' if good else 'not '}ok 1 - only documented errors {dict(fuzzer.unexpected)}"
    )
    print("1..1")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
