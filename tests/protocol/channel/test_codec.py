"""FrameDecoder and encode_frame: round trips, any chunking, and every kind of garbage."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.channel.test_rules import BROKEN
from tests.strategies import chunked, frames
from wlproxy.protocol.channel.codec import RESYNC, FrameDecoder, encode_frame
from wlproxy.protocol.channel.frames import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    RESYNC_PADDING,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientOpened,
    CloseReason,
    Data,
    Extent,
    Frame,
    FrameFlags,
    FrameType,
    Goodbye,
    Located,
    LocateStatus,
    Ping,
    Released,
    StreamData,
)
from wlproxy.protocol.errors import ChannelError, LocalProtocolError


def packed(
    number: int, payload: bytes = b"", *, flags: int = 0, client: int = 0
) -> bytes:
    return struct.pack("<IHHI", len(payload), number, flags, client) + payload


def decode(data: bytes) -> Frame | None:
    decoder = FrameDecoder()
    decoder.feed(data)
    frame = decoder.next_frame()
    assert frame is not RESYNC
    return frame  # type: ignore[return-value]


@given(frames)
def test_round_trip(frame: Frame) -> None:
    assert decode(encode_frame(frame)) == frame


@given(st.lists(frames, max_size=4), st.data())
def test_any_chunking(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encode_frame, sent))
    decoder = FrameDecoder()
    received = []
    for chunk in data.draw(chunked(stream)):
        decoder.feed(memoryview(chunk))
        while frame := decoder.next_frame():
            received.append(frame)
    assert received == sent
    assert decoder.take_rest() == b""


@given(frames)
def test_byte_by_byte(sent: Frame) -> None:
    stream = encode_frame(sent)
    decoder = FrameDecoder()
    for index in range(len(stream) - 1):
        decoder.feed(stream[index : index + 1])
        assert decoder.next_frame() is None
    decoder.feed(stream[-1:])
    assert decoder.next_frame() == sent


def drain(decoder: FrameDecoder) -> None:
    """Take frames until the decoder wants more, resyncs, or fails as documented."""
    try:
        while (frame := decoder.next_frame()) is not None and frame is not RESYNC:
            pass
    except ChannelError:
        pass


@given(st.binary(max_size=100))
def test_garbage(data: bytes) -> None:
    decoder = FrameDecoder()
    decoder.feed(data)
    drain(decoder)


@given(st.sampled_from(FrameType), st.integers(0, 1), st.binary(max_size=80))
def test_garbage_payload(number: FrameType, client: int, payload: bytes) -> None:
    decoder = FrameDecoder()
    decoder.feed(packed(number, payload, client=client))
    drain(decoder)


@given(frames, st.data())
def test_damaged_frame(frame: Frame, data: st.DataObject) -> None:
    stream = bytearray(encode_frame(frame))
    index = data.draw(st.integers(0, len(stream) - 1))
    stream[index] ^= data.draw(st.integers(1, 255))
    decoder = FrameDecoder()
    decoder.feed(stream)
    drain(decoder)


def test_largest_frames() -> None:
    data = Data(1, bytes(MAX_PAYLOAD - 4))
    stream = StreamData(1, 1, bytes(MAX_PAYLOAD - 4))
    located = Located(1, 1, LocateStatus.OK, 0, True, (Extent(2**64 - 1, 1),) * 4000)
    for frame in (data, stream, located):
        assert decode(encode_frame(frame)) == frame
    with pytest.raises(LocalProtocolError, match="65525 bytes"):
        encode_frame(Data(1, bytes(MAX_PAYLOAD - 3)))


@pytest.mark.parametrize(("frame", "reason"), BROKEN)
def test_broken_rules_are_not_sent(frame: Frame, reason: str) -> None:
    with pytest.raises(LocalProtocolError, match=reason):
        encode_frame(frame)


@pytest.mark.parametrize(
    "frame",
    [
        Ping(2**64),
        Ping(-1),
        Released(2**32, 1),
        Released(0, 1),
        Goodbye(CloseReason.NORMAL, "\ud800"),
        ClientOpened(1, -1, 0, 0, ""),
    ],
)
def test_values_that_do_not_fit_are_not_sent(frame: Frame) -> None:
    with pytest.raises(LocalProtocolError):
        encode_frame(frame)


HELLO = bytes.fromhex("776c70726f78792d6368616e6e656c01") + bytes(16)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (packed(6, bytes(8), flags=2), "type 6 with unknown flags 0x2"),
        (packed(99), "required frame of unknown type 99"),
        (packed(6, bytes(7)), "PING of 7 bytes"),
        (packed(6, bytes(9)), "PING of 9 bytes"),
        (packed(6, bytes(8), client=1), "PING of client 1"),
        (packed(51, bytes(4)), "RELEASED of client 0"),
        (packed(1, bytes(60)), "without its marks"),
        (packed(1, HELLO + bytes(24) + b"\xff" * 4), "without its marks"),
        (packed(1, HELLO + bytes(28)), "without its marks"),
        (packed(4, bytes.fromhex("09000000") + bytes(12)), "unknown status 9"),
        (packed(4, bytes.fromhex("00000100") + bytes(12)), "must be zero"),
        (packed(5, bytes.fromhex("06000000")), "unknown reason 6"),
        (packed(5, bytes.fromhex("00000001")), "must be zero"),
        (packed(5, bytes.fromhex("00000000ff")), "not UTF-8"),
        (packed(5, bytes.fromhex("0000000061006200")), "NUL"),
        (packed(5, bytes(4) + b"x" * 1025), "GOODBYE of 1029 bytes"),
        (packed(32, bytes(3), client=1), "DATA of 3 bytes"),
        (packed(32, bytes(4), client=1), "no bytes"),
        (packed(32, bytes.fromhex("0000010078"), client=1), "must be zero"),
        (packed(32, bytes.fromhex("02000000") + bytes(31), client=1), "2 attachments"),
        (packed(32, b"\1\0\0\0\4" + bytes(16), client=1), "attachment kind 4"),
        (packed(32, b"\1\0\0\0\0\x10" + bytes(15), client=1), "unknown flags 0x10"),
        (packed(32, b"\1\0\0\0\0\0\1" + bytes(14), client=1), "must be zero"),
        (packed(33, bytes(4), client=1), "no bytes"),
        (packed(35, bytes.fromhex("0100000009000000"), client=1), "unknown reason 9"),
        (packed(35, bytes.fromhex("0100000000000100"), client=1), "must be zero"),
        (packed(37, bytes(11), client=1), "OPEN_STREAM of 11 bytes"),
        (packed(37, bytes(13), client=1), "OPEN_STREAM of 13 bytes"),
        (packed(37, bytes(12)), "OPEN_STREAM of client 0"),
        (packed(38, bytes(23), client=1), "READ_MEMORY of 23 bytes"),
        (packed(38, bytes(25), client=1), "READ_MEMORY of 25 bytes"),
        (packed(38, bytes(24)), "READ_MEMORY of client 0"),
        (packed(37, bytes(8) + b"\x10" + bytes(3), client=1), "unknown flags 0x10"),
        (packed(37, bytes(8) + b"\1\1\0\0", client=1), "must be zero"),
        (packed(37, bytes(8) + b"\1\0\0\1", client=1), "must be zero"),
        (packed(37, bytes(8) + b"\1\0\0\0", client=1), "stream 0 is not the host's"),
        (packed(48, bytes(31), client=1), "LOCATE of 31 bytes"),
        (packed(48, bytes(28) + b"\1\0\0\0", client=1), "must be zero"),
        (packed(49, bytes(6) + b"\2" + bytes(25), client=1), "more is 2"),
        (packed(49, bytes(31), client=1), "LOCATED of 31 bytes"),
        (packed(49, bytes(7) + b"\1" + bytes(24), client=1), "must be zero"),
        (packed(49, bytes(12) + b"\1" + bytes(19), client=1), "must be zero"),
        (packed(49, b"\0\0\0\0\x07" + bytes(11), client=1), "unknown status 7"),
        (packed(49, bytes(16), client=1), "0 extents with status OK"),
    ],
)
def test_malformed_frames_are_refused(data: bytes, reason: str) -> None:
    decoder = FrameDecoder()
    decoder.feed(data)
    with pytest.raises(ChannelError, match=reason) as caught:
        decoder.next_frame()
    # Whoever holds the error must not keep the decoder from being fed.
    decoder.feed(b"more")
    with pytest.raises(ChannelError, match=reason):
        decoder.next_frame()
    assert decoder.take_rest() == data + b"more"
    assert caught.value.args


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<IHHI", MAX_PAYLOAD + 1, 32, 0, 1),
        struct.pack("<IHHI", 2**32 - 1, 99, 1, 1),
        struct.pack("<IHHI", 1000, 99, 0, 1),
        struct.pack("<IHHI", 1000, 6, 0, 0),
        struct.pack("<IHHI", 1000, 32, 0, 0),
    ],
)
def test_malformed_is_decided_before_incomplete(header: bytes) -> None:
    with pytest.raises(ChannelError):
        decode(header)


def test_unknown_optional_frames_are_skipped() -> None:
    optional = packed(99, b"whatever", flags=FrameFlags.OPTIONAL, client=7)
    decoder = FrameDecoder()
    decoder.feed(optional + optional + encode_frame(Ping(1)) + optional[:-1])
    assert decoder.next_frame() == Ping(1)
    assert decoder.next_frame() is None
    decoder.feed(optional[-1:])
    assert decoder.next_frame() is None
    assert decoder.take_rest() == b""


def test_a_known_frame_may_be_optional() -> None:
    assert decode(packed(6, bytes(8), flags=1)) == Ping(0)


@pytest.mark.parametrize("length", [0, 5, MAX_PAYLOAD, 2**32 - 1])
def test_type_0_is_resync_whatever_else_the_header_says(length: int) -> None:
    decoder = FrameDecoder()
    decoder.feed(struct.pack("<IHHI", length, 0, 0, 0))
    assert decoder.next_frame() is RESYNC
    assert decoder.next_frame() is RESYNC
    assert len(decoder.take_rest()) == HEADER_SIZE
    assert decoder.next_frame() is None


@given(frames, st.data())
def test_padding_behind_any_cut_is_a_resync(frame: Frame, data: st.DataObject) -> None:
    stream = encode_frame(frame)
    cut = data.draw(st.integers(0, len(stream) - 1))
    decoder = FrameDecoder()
    decoder.feed(stream[:cut] + bytes(RESYNC_PADDING))
    try:
        completed = decoder.next_frame()
        if completed is not RESYNC:  # zeros can complete a frame
            assert type(completed) is type(frame)
            assert decoder.next_frame() is RESYNC
    except ChannelError:
        assert cut > 4, "the zeros are not what is wrong"


def test_attachments_keep_their_order() -> None:
    attachments = tuple(
        Attachment(AttachmentKind.MEMORY, AttachmentFlags.NONE, number, number)
        for number in range(253)
    )
    frame = Data(1, b"x", attachments)
    assert decode(encode_frame(frame)) == frame
