"""Scanner: finds the handshake frame it is for behind anything, and nothing else."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import chunked, frames, hello_acks, hellos
from wlproxy.protocol.channel.codec import encode_frame
from wlproxy.protocol.channel.frames import (
    HEADER_SIZE,
    MAGIC,
    Feature,
    Frame,
    FrameType,
    Hello,
    HelloAck,
)
from wlproxy.protocol.channel.hello_scanner import MAX_HANDSHAKE, Scanner

NONCE = bytes(range(16))
ACK = HelloAck(NONCE, (1, 0), Feature.NONE, 4096, 65536, 65536, 0xE280, "agent 1")
HELLO = Hello(NONCE, (1, 0), Feature.NONE, 65536, 65536, 100)


def scan(scanner: Scanner, *chunks: bytes) -> list[Frame]:
    found: list[Frame] = []
    for chunk in chunks:
        scanner.feed(chunk)
        while (frame := scanner.next_frame()) is not None:
            found.append(frame)
    return found


@given(st.lists(st.binary(max_size=40) | frames.map(encode_frame)), hellos, st.data())
def test_a_hello_is_found_behind_anything(
    stale: list[bytes], hello: Hello, data: st.DataObject
) -> None:
    scanner = Scanner(FrameType.HELLO)
    stream = b"".join(stale) + encode_frame(hello)
    assert scan(scanner, *data.draw(chunked(stream)))[-1] == hello
    assert scanner.take_rest() == b""


@given(hellos, hellos, st.data())
def test_a_hello_that_was_cut_short_hides_none(
    first: Hello, second: Hello, data: st.DataObject
) -> None:
    whole = encode_frame(first)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    found = scan(Scanner(FrameType.HELLO), cut + encode_frame(second))
    assert found == [second]


@given(hello_acks, st.integers(0, 88))
def test_an_ack_that_was_cut_short_is_none(ack: HelloAck, missing: int) -> None:
    whole = encode_frame(ack)
    cut = whole[: max(0, len(whole) - 1 - missing)]
    scanner = Scanner(FrameType.HELLO_ACK, ack.nonce)
    found = scan(scanner, cut + bytes(MAX_HANDSHAKE))
    assert found == []
    assert scan(scanner, whole) == [ack]


def test_only_the_right_nonce_counts() -> None:
    scanner = Scanner(FrameType.HELLO_ACK, NONCE)
    stale = encode_frame(
        HelloAck(bytes(16), (1, 0), Feature(0), 4096, 65536, 65536, 0, "")
    )
    assert scan(scanner, stale + encode_frame(ACK) + b"rest") == [ACK]
    assert scanner.take_rest() == b"rest"


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<IHHI", 60, FrameType.HELLO_ACK, 0, 0),
        struct.pack("<IHHI", 60, FrameType.HELLO, 1, 0),
        struct.pack("<IHHI", 60, FrameType.HELLO, 0, 1),
        struct.pack("<IHHI", 39, FrameType.HELLO, 0, 0),
        struct.pack("<IHHI", MAX_HANDSHAKE + 1, FrameType.HELLO, 0, 0),
        b"short",
    ],
)
def test_magic_without_its_header_is_skipped(header: bytes) -> None:
    payload = encode_frame(HELLO)[HEADER_SIZE:]
    scanner = Scanner(FrameType.HELLO)
    assert scan(scanner, header + payload + encode_frame(HELLO)) == [HELLO]


@pytest.mark.parametrize("number", [FrameType.HELLO, FrameType.HELLO_ACK])
def test_another_major_version_is_known_by_its_prefix_alone(number: FrameType) -> None:
    payload = (
        MAGIC + NONCE + struct.pack("<HHI", 2, 7, 2**32 - 1) + b"whatever version 2 has"
    )
    data = struct.pack("<IHHI", len(payload), number, 0, 0) + payload
    (frame,) = scan(Scanner(number), data)
    assert isinstance(frame, Hello | HelloAck)
    assert (frame.nonce, frame.version) == (NONCE, (2, 7))


@given(st.lists(st.binary(max_size=100) | st.sampled_from([MAGIC, bytes(999)])))
def test_what_is_kept_is_bounded(chunks: list[bytes]) -> None:
    scanner = Scanner(FrameType.HELLO)
    for chunk in chunks:
        assert scan(scanner, chunk) == []
        assert scanner.pending <= HEADER_SIZE + MAX_HANDSHAKE
