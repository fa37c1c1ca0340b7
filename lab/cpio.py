"""Writes initramfs archives (cpio, "newc" format)."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

MAGIC = "070701"
TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in an archive: its mode (with the type bits) and its content."""

    mode: int
    data: bytes = b""


def file(data: bytes, *, executable: bool = False) -> Entry:
    """Make an entry for a regular file."""
    return Entry(stat.S_IFREG | (0o755 if executable else 0o644), data)


def archive(entries: Mapping[str, Entry]) -> bytes:
    """Make an archive of files by path; the directories above them are added."""
    complete: dict[str, Entry] = {}
    for path in sorted(entries):
        for parent in reversed(PurePosixPath(path).parents):
            if str(parent) != ".":
                complete.setdefault(str(parent), Entry(stat.S_IFDIR | 0o755))
        complete[path] = entries[path]
    complete[TRAILER] = Entry(0)
    result = bytearray()
    for number, (path, entry) in enumerate(complete.items(), 1):
        result += _member(number, path, entry)
    return bytes(result) + bytes(-len(result) % 512)


def _member(number: int, path: str, entry: Entry) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, uid, gid, links, mtime, size, device x4, name size, checksum
    fields = [number, entry.mode, 0, 0, links, 0, len(entry.data)]
    fields += [0, 0, 0, 0, len(name), 0]
    header = MAGIC + "".join(f"{value:08x}" for value in fields)
    head = header.encode() + name
    return head + bytes(-len(head) % 4) + entry.data + bytes(-len(entry.data) % 4)
