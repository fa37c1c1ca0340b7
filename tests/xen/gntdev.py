"""Maps granted pages in dom0, through `/dev/xen/gntdev` (Linux: xen/gntdev.h)."""

import contextlib
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from io import FileIO
from pathlib import Path

from wlproxy.transport.closable import closed_on_error

DEVICE = "/dev/xen/gntdev"
MAP_GRANT_REF = 0x184700
PAGE = 4096


def expand(runs: Iterable[Sequence[int]]) -> list[int]:
    """List the references that runs of them stand for."""
    return [ref for first, count in runs for ref in range(first, first + count)]


class GrantFile:
    """A file whose pages, from its beginning on, are those of some references.

    A context manager.  It can be mapped once in its life.
    """

    def __init__(self, refs: Sequence[int], domid: int) -> None:
        self._fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        with closed_on_error(self):
            argument = bytearray(struct.pack("=IIQ", len(refs), 0, 0))
            for ref in refs:
                argument += struct.pack("=II", domid, ref)
            fcntl.ioctl(self._fd, MAP_GRANT_REF, argument)
            assert struct.unpack_from("=Q", argument, 8) == (0,)

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._fd

    def close(self) -> None:
        """Close it; what is mapped stays so."""
        os.close(self._fd)

    def __enter__(self) -> "GrantFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def mapped(refs: Sequence[int], domid: int) -> Iterator[mmap.mmap]:
    """Have pages of another domain mapped, for reading and writing."""
    with GrantFile(refs, domid) as file:
        mapping = mmap.mmap(file.fileno(), len(refs) * PAGE)
    with mapping:
        yield mapping


def refusal(refs: Sequence[int], domid: int) -> str | None:
    """Return the name of the error that mapping them gives, if any."""
    try:
        with mapped(refs, domid):
            return None
    except OSError as error:
        return errno.errorcode[error.errno or 0]


# ---------------------------------------------------------------- what processes have


def mappings(pid: int) -> list[tuple[int, int]]:
    """List what a process has mapped of other domains: addresses and lengths.

    It may be stopped.
    """
    found = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith(DEVICE):
            start, _, end = line.split()[0].partition("-")
            found.append((int(start, 16), int(end, 16) - int(start, 16)))
    return found


def mapped_bytes(pid: int) -> int:
    """Add up what a process has mapped of other domains."""
    return sum(length for _, length in mappings(pid))


def has_mapped(pid: int, wanted: bytes) -> bool:
    """Tell whether these bytes are the first of something that a process has mapped."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, length in mappings(pid):
            if length >= len(wanted):
                memory.seek(start)
                if _read(memory, len(wanted)) == wanted:
                    return True
    return False


def _read(memory: FileIO, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = memory.read(length - len(data))
        assert piece, "a mapping ends"
        data += piece
    return bytes(data)


TOOLSTACK = ("xen", "qemu")
"""How the names of programs begin that map domains' consoles and rings by the same device."""


def users() -> dict[int, tuple[int, int]]:
    """Say who in dom0 has fds of the device open, and how many, and mapped how much of it.

    The toolstack is left out, which has its own.
    """
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().startswith(TOOLSTACK):
                continue
            links = [os.readlink(each) for each in (process / "fd").iterdir()]
            has = links.count(DEVICE), mapped_bytes(int(process.name))
            if has != (0, 0):
                found[int(process.name)] = has
    return found
