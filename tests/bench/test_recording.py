"""A recording's file: what is written is read, and what is broken is named."""

import contextlib
import gzip
import json
from pathlib import Path

import pytest

from bench.recording import (
    FORMAT,
    MOST,
    Batch,
    Passed,
    PassedFd,
    Recording,
    RecordingError,
    Speaker,
    read_recording,
    recordings,
    write_recording,
)

FIRST = {"format": FORMAT, "name": "a", "app": "b", "compositor": "c"}
RECORDING = Recording(
    "foot",
    "foot 1",
    "weston 10",
    (
        Batch(Speaker.APP, b"\1\2", (PassedFd(Passed.FILE, 4096),)),
        Batch(Speaker.COMPOSITOR, b"\3", (PassedFd(Passed.WRITE),)),
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "any.jsonl.gz"


def write(path: Path, *lines: object) -> None:
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()))


def test_what_is_written_is_read(path: Path) -> None:
    write_recording(RECORDING, path)
    assert read_recording(path) == RECORDING


def test_the_same_is_written_in_the_same_bytes(path: Path) -> None:
    write_recording(RECORDING, path)
    once = path.read_bytes()
    write_recording(RECORDING, path)
    assert path.read_bytes() == once


@pytest.mark.parametrize(
    "first",
    [
        *[1, [], {}, {**FIRST, "format": "another"}, {**FIRST, "name": 1}],
        *[{**FIRST, "more": "x"}, {"format": FORMAT}],
    ],
)
def test_a_broken_first_line_is_named(path: Path, first: object) -> None:
    write(path, first)
    with pytest.raises(RecordingError, match="line 1: "):
        read_recording(path)


@pytest.mark.parametrize(
    "line",
    [
        *[1, {}, [], ["app", "00"], ["app", "00", {}], ["nobody", "00", []]],
        *[["app", "0", []], ["app", "xx", []], ["app", 0, []], ["app", "00", [1]]],
        *[["app", "00", [["file"]]], ["app", "00", [["door", 1]]]],
        *[["app", "00", [["file", -1]]], ["app", "00", [["file", 1 << 63]]]],
        ["app", "00", [["file", "1"]]],
    ],
)
def test_a_broken_line_is_named(path: Path, line: object) -> None:
    write(path, FIRST, ["app", "00", []], line)
    with pytest.raises(RecordingError, match="line 3: "):
        read_recording(path)


def test_text_that_is_no_json_is_named(path: Path) -> None:
    path.write_bytes(gzip.compress(json.dumps(FIRST).encode() + b"\n[\n"))
    with pytest.raises(RecordingError, match="line 2: "):
        read_recording(path)
    path.write_bytes(gzip.compress(b"[" * 100_000))
    with pytest.raises(RecordingError, match="line 1: "):
        read_recording(path)


@pytest.mark.parametrize("data", [b"", b"\xff", b"not gzip"])
def test_what_is_no_recording_is_named(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(RecordingError):
        read_recording(path)


def test_an_empty_one_and_one_that_is_not_there_are_named(path: Path) -> None:
    with pytest.raises(RecordingError, match="any"):
        read_recording(path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(RecordingError, match="line 1: "):
        read_recording(path)


def test_what_is_far_too_long_is_not_unpacked(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(MOST + 1), 1))
    with pytest.raises(RecordingError, match="over"):
        read_recording(path)


def test_one_that_is_cut_or_changed_anywhere_is_named_or_read(path: Path) -> None:
    write_recording(RECORDING, path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        with pytest.raises(RecordingError):
            read_recording(path)
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        path.write_bytes(changed)
        with contextlib.suppress(RecordingError):
            read_recording(path)


def test_the_recordings_are_small() -> None:
    assert sum(path.stat().st_size for path in recordings()) < 200_000
