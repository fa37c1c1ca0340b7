"""Every rule has a frame that breaks it; what the strategies draw breaks none."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis.strategies import text

from tests.strategies import frames
from wlproxy.protocol.channel.frames import (
    MAX_FILE_SIZE,
    MAX_TEXT,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    CloseReason,
    Credit,
    Data,
    Extent,
    Feature,
    FileData,
    Frame,
    Goodbye,
    Hello,
    HelloAck,
    Locate,
    Located,
    LocateStatus,
    OpenStream,
    ProveRam,
    RamProof,
    ReadMemory,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.rules import MAX_WINDOW, MIN_WINDOW, fault, fit_text

HELLO = Hello(bytes(16), (1, 0), Feature.NONE, MIN_WINDOW, MAX_WINDOW, 1)
ACK = HelloAck(bytes(16), (1, 0), Feature.NONE, 4096, MIN_WINDOW, MAX_WINDOW, 0, "")
EXTENT = Extent(0, 4096)
OK, FAILED, OUT_OF_RANGE = (
    LocateStatus.OK,
    LocateStatus.FAILED,
    LocateStatus.OUT_OF_RANGE,
)
BOTH_HOLDERS = AttachmentFlags.HOLDER_READS | AttachmentFlags.HOLDER_WRITES


def attached(
    kind: AttachmentKind, flags: AttachmentFlags, object_id: int = 1, size: int = 0
) -> Data:
    return Data(1, b"x", (Attachment(kind, flags, object_id, size),))


STREAM, MEMORY, FILE, OTHER = (
    AttachmentKind.STREAM,
    AttachmentKind.MEMORY,
    AttachmentKind.FILE,
    AttachmentKind.OTHER,
)
READS, WRITABLE, NONE = (
    AttachmentFlags.HOLDER_READS,
    AttachmentFlags.MEMORY_WRITABLE,
    AttachmentFlags.NONE,
)

BROKEN: list[tuple[Frame, str]] = [
    (replace(HELLO, nonce=bytes(15)), "nonce"),
    (replace(HELLO, max_clients=0), "no client"),
    (replace(HELLO, client_window=MIN_WINDOW - 1), "window"),
    (replace(HELLO, stream_window=MAX_WINDOW + 1), "window"),
    (replace(ACK, nonce=bytes(17)), "nonce"),
    (replace(ACK, page_size=0), "page size"),
    (replace(ACK, page_size=2048), "page size"),
    (replace(ACK, page_size=12288), "page size"),
    (replace(ACK, page_size=131072), "page size"),
    (replace(ACK, page_size=16384, features=Feature.GRANTS), "grants"),
    (replace(ACK, client_window=0), "window"),
    (replace(ACK, agent="a\0b"), "NUL"),
    (ProveRam(bytes(31)), "token"),
    (RamProof(OUT_OF_RANGE, 0, 0), "no answer"),
    (RamProof(FAILED, 5, 4096), "address"),
    (RamProof(OK, 5, 4096), "errno 5"),
    (RamProof(OK, 0, 4097), "not page-aligned"),
    (Goodbye(CloseReason.NORMAL, "x" * (MAX_TEXT + 1)), "text is over"),
    (ClientClosed(1, CloseReason.NORMAL, "é" * (MAX_TEXT // 2 + 1)), "text is over"),
    (ClientOpened(1, 1, 1, 1, "\0"), "NUL"),
    (Data(1, b""), "no bytes"),
    (Data(1, b"x", (Attachment(OTHER, NONE, 0, 0),) * 254), "254 attachments"),
    (attached(STREAM, NONE), "STREAM 1 with"),
    (attached(STREAM, BOTH_HOLDERS), "STREAM 1 with"),
    (attached(STREAM, READS, object_id=0), "STREAM 0 with"),
    (attached(STREAM, READS, size=1), "STREAM of 1 bytes"),
    (attached(MEMORY, WRITABLE | READS), "MEMORY 1 with"),
    (attached(FILE, WRITABLE), "FILE 1 with"),
    (attached(FILE, NONE, size=MAX_FILE_SIZE + 1), "FILE of"),
    (attached(OTHER, WRITABLE), "OTHER 1 with"),
    (attached(OTHER, NONE, size=1), "OTHER of 1 bytes"),
    (FileData(1, 1, b""), "no bytes"),
    (StreamData(1, 0, b"x"), "stream 0"),
    (StreamData(1, 1, b""), "no bytes"),
    (StreamClosed(1, 0, CloseReason.NORMAL), "stream 0"),
    (Credit(1, 1, 0), "no amount"),
    (OpenStream(1, 1, 2, READS), "not the host's"),
    (OpenStream(1, 1, 0, READS), "not the host's"),
    (OpenStream(1, 1, 1, NONE), "a stream with"),
    (OpenStream(1, 1, 1, BOTH_HOLDERS), "a stream with"),
    (OpenStream(1, 1, 1, WRITABLE), "a stream with"),
    (ReadMemory(1, 1, 2, 0, 1), "not the host's"),
    (ReadMemory(1, 1, 0, 0, 1), "not the host's"),
    (ReadMemory(1, 1, 1, 0, 0), "no bytes"),
    (ReadMemory(1, 1, 1, 2**63 - 1, 1), "beyond 63 bits"),
    (ReadMemory(1, 1, 1, 2**64 - 1, 2**32 - 1), "beyond 63 bits"),
    (Locate(1, 1, 1, 0, 0, 0), "no bytes"),
    (Locate(1, 1, 1, 2**64 - 1, 1, 0), "beyond 64 bits"),
    (Located(1, 1, OK, 0, False, ()), "0 extents with status OK"),
    (Located(1, 1, OUT_OF_RANGE, 0, False, (EXTENT,)), "1 extents with status"),
    (Located(1, 1, OUT_OF_RANGE, 0, True, ()), "more to come"),
    (Located(1, 1, OUT_OF_RANGE, 5, False, ()), "errno 5"),
    (Located(1, 1, OK, 0, False, (EXTENT,) * 4001), "4001 extents"),
]


@pytest.mark.parametrize(("frame", "reason"), BROKEN)
def test_broken_rules_are_named(frame: Frame, reason: str) -> None:
    assert reason in fault(frame)


@given(frames)
def test_legal_frames_break_none(frame: Frame) -> None:
    assert not fault(frame)


@pytest.mark.parametrize(
    "frame",
    [
        HELLO,
        ACK,
        replace(ACK, page_size=65536, agent="x" * MAX_TEXT),
        replace(ACK, features=Feature.GRANTS),
        Goodbye(CloseReason.NORMAL, "é" * (MAX_TEXT // 2)),
        Data(1, b"x", (Attachment(OTHER, NONE, 0, 0),) * 253),
        attached(MEMORY, WRITABLE, size=2**64 - 1),
        attached(FILE, NONE, size=MAX_FILE_SIZE),
        ReadMemory(1, 1, 2**32 - 1, 2**63 - 2**32, 2**32 - 1),
        Locate(1, 1, 1, 2**64 - 2, 1, 0),
        Located(1, 1, OK, 0, True, (EXTENT,) * 4000),
    ],
)
def test_limits_are_inside(frame: Frame) -> None:
    assert not fault(frame)


def test_a_text_is_cut_between_characters() -> None:
    assert fit_text("a\0b") == "a b"
    assert fit_text("\ud800") == "?"
    assert fit_text("é" * MAX_TEXT) == "é" * (MAX_TEXT // 2)
    assert len(fit_text("a" + "é" * MAX_TEXT).encode()) == MAX_TEXT - 1


@given(text())
def test_what_was_fitted_keeps_the_rules(words: str) -> None:
    assert not fault(Goodbye(CloseReason.NORMAL, fit_text(words)))
