"""What an app and a compositor said to each other, in a file.

A file of `bench/traces` is gzip of JSON, a value in each line.  The first is an object::

    {"format": "wlproxy recording 1", "name": ..., "app": ..., "compositor": ...}

with the version of both programs, for people.  Every other line is an array of what one read
brought, in the order in which it passed by::

    ["app" | "compositor", bytes in hexadecimal, [[kind of fd, size in bytes], ...]]

The bytes are whole messages, as on the wire, in the byte order of x86; where a read ended within
one, all of that came with the next.  An fd is a "file" (a memfd counts), a pipe's "read" or "write"
end, or "other", whose size is 0.  Nothing of what is in a file or went through a pipe is there, and no
string that may say something about a person (`bench.scrubbing`).
"""

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, cast

from bench.processes import BenchError

FORMAT: Final = "wlproxy recording 1"
"""Another number for every change of what is written."""

SUFFIX: Final = ".jsonl.gz"
TRACES: Final = Path(__file__).parent / "traces"
"""Those that are measured and tested."""

MOST: Final = 64 << 20
"""Bytes of a file, unpacked: no recording that belongs here has more."""

DESCRIBED: Final = ("name", "app", "compositor")


class RecordingError(BenchError):
    """A file is no recording, or a broken one; the message says which, and where."""


class Speaker(Enum):
    """Who said something."""

    APP = "app"
    COMPOSITOR = "compositor"


class Passed(Enum):
    """What a passed fd was."""

    FILE = "file"
    READ = "read"
    WRITE = "write"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PassedFd:
    """A passed fd: what it was, and the bytes of a FILE."""

    kind: Passed
    size: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What one read brought: whole messages, and all the fds that came with them."""

    speaker: Speaker
    data: bytes
    fds: tuple[PassedFd, ...] = ()


@dataclass(frozen=True, slots=True)
class Recording:
    """All of it.

    Attributes:
        name: of the app, in tables.
        app: and its version.
        compositor: and its version.
        batches: in the order in which they passed by.
    """

    name: str
    app: str
    compositor: str
    batches: Sequence[Batch]


def write_recording(recording: Recording, path: Path) -> None:
    """Write a file: the same bytes for the same recording."""
    first = {"format": FORMAT, **{each: getattr(recording, each) for each in DESCRIBED}}
    lines: list[object] = [first]
    for batch in recording.batches:
        fds = [[fd.kind.value, fd.size] for fd in batch.fds]
        lines.append([batch.speaker.value, batch.data.hex(), fds])
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_recording(path: Path) -> Recording:
    """Read a file.

    Raises:
        RecordingError: it is not there, is broken, or of another version.
    """
    lines = _unpacked(path).splitlines() or [b""]
    place = 1
    try:
        described = _described(json.loads(lines[0]))
        batches = []
        for place, line in enumerate(lines[1:], 2):  # noqa: B007 - for the error
            batches.append(_batch(json.loads(line)))
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path}, line {place}: {error}") from error
    return Recording(*described, tuple(batches))


def recordings() -> list[Path]:
    """The files of `TRACES`, by name."""
    return sorted(TRACES.glob(f"*{SUFFIX}"))


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as packed:
            data = packed.read(MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise RecordingError(f"{path}: {error}") from error
    if len(data) > MOST:
        raise RecordingError(f"{path}: over {MOST} bytes")
    return data


def _described(value: object) -> tuple[str, str, str]:
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f"not of the format {FORMAT!r}")
    texts = [value.get(each) for each in DESCRIBED]
    if len(value) != 1 + len(DESCRIBED) or not all(
        isinstance(text, str) for text in texts
    ):
        raise ValueError(f"it must have {', '.join(DESCRIBED)}, and nothing else")
    name, app, compositor = cast("list[str]", texts)
    return name, app, compositor


def _batch(value: object) -> Batch:
    match value:
        case [str(speaker), str(data), list(fds)]:
            passed = tuple(_passed_fd(fd) for fd in fds)
            return Batch(Speaker(speaker), bytes.fromhex(data), passed)
        case _:
            raise ValueError("not who spoke, what was said, and which fds came with it")


def _passed_fd(value: object) -> PassedFd:
    match value:
        case [str(kind), int(size)] if 0 <= size < 1 << 63:
            return PassedFd(Passed(kind), size)
        case _:
            raise ValueError(f"no fd: {value!r}")
