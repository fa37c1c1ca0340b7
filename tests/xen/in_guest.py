"""Runs in a domU: executes the Python that a test sends, with `/dev/gem-grant` at hand.

A request is a JSON string, one a line, in the fifo named first; the answer goes into the
second, also as JSON: what the code has left in `result`, or its exception.  Only the standard
library is imported: under emulation that takes seconds already.
"""

import array
import errno
import fcntl
import json
import mmap
import os
import struct
import sys
from typing import Any

PAGE = 4096
DEVICE = "/dev/gem-grant"
INFO, COUNTS, PAGES, RUNS = 0x80087768, 0x80207769, 0xC020776A, 0xC010776B
HEAP_ALLOC = 0xC0184800
# Granted objects by name, so that a test can speak of them.
kept: dict[str, Any] = {}


def memfd(size: int) -> int:
    """Make a memfd as clients of Wayland do."""
    fd = os.memfd_create("buffer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd


def heap(size: int) -> int:
    """Make a dma-buf of system memory."""
    device = os.open("/dev/dma_heap/system", os.O_RDWR | os.O_CLOEXEC)
    argument = bytearray(struct.pack("=QIIQ", size, 0, os.O_RDWR | os.O_CLOEXEC, 0))
    fcntl.ioctl(device, HEAP_ALLOC, argument)
    os.close(device)
    return int(struct.unpack_from("=I", argument, 8)[0])


MAKE = {"memfd": memfd, "heap": heap}


def fill(fd: int, size: int, seed: int) -> None:
    """Write what `tests.xen.domain.contents` says is there."""
    with mmap.mmap(fd, size) as mapping:
        for page in range(size // PAGE):
            number = struct.pack("=II", seed, page)
            mapping[page * PAGE : (page + 1) * PAGE] = number * (PAGE // 8)


def device() -> int:
    """Open the module's device."""
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)


def pages(at: int, fd: int, offset: int, length: int, *rest: int) -> tuple[int, int]:
    """Grant a range; return the object and how many runs it is."""
    flags, count, reserved = rest or (0, 0, 0)
    words = [fd, flags, offset, length, count, reserved]
    argument = bytearray(struct.pack("=iIQQII", *words))
    granted = fcntl.ioctl(at, PAGES, argument)
    return granted, struct.unpack_from("=I", argument, 24)[0]


def runs(granted: int, room: int) -> list[tuple[int, int]]:
    """Ask an object for its runs."""
    out = array.array("I", bytes(8 * max(room, 1)))
    argument = bytearray(struct.pack("=QII", out.buffer_info()[0], room, 0))
    fcntl.ioctl(granted, RUNS, argument)
    have = min(room, struct.unpack_from("=I", argument, 8)[0])
    return [(out[2 * n], out[2 * n + 1]) for n in range(have)]


def grant(
    at: int, fd: int, offset: int, length: int
) -> tuple[int, list[tuple[int, int]]]:
    """Grant a range; return the object and its runs."""
    granted, count = pages(at, fd, offset, length)
    return granted, runs(granted, count)


def counts() -> list[int]:
    """Return objects, refs, and of these two those that are closed."""
    at = device()
    argument = bytearray(32)
    fcntl.ioctl(at, COUNTS, argument)
    os.close(at)
    return list(struct.unpack("=4Q", argument))


def descriptors() -> set[int]:
    """List the descriptors that are open."""
    listed = os.listdir("/proc/self/fd")
    # Not the one that has listed them, whose number the next one that is opened has.
    return {int(each) for each in listed if os.path.lexists(f"/proc/self/fd/{each}")}


def refused(call: Any, *arguments: Any) -> str | None:
    """Return the name of the error that a call gives, if any."""
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def main() -> None:
    """Serve requests, one after the other."""
    requests, answers = sys.argv[1:]
    while True:
        with open(requests) as stream:
            lines = stream.readlines()
        for line in lines:
            scope = globals()
            scope["result"] = None
            try:
                exec(json.loads(line), scope)
                answer = {"result": scope["result"]}
            except Exception as error:  # noqa: BLE001 - it is the answer
                answer = {"error": f"{type(error).__name__}: {error}"}
            with open(answers, "w") as stream:
                json.dump(answer, stream)


if __name__ == "__main__":
    main()
