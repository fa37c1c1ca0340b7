"""Messages of vhost-user, byte for byte by QEMU's docs/interop/vhost-user.rst."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.host.vhost_user.messages import (
    HEADER,
    MAX_PAYLOAD,
    U64,
    Incoming,
    MemoryRegion,
    Message,
    Request,
    VhostUserError,
    encode_reply,
    encode_request,
    encode_single,
    encode_table,
    parse_single,
    parse_table,
)

U64S = st.integers(0, 2**64 - 1)
REGIONS = st.builds(MemoryRegion, U64S, U64S, U64S, U64S)
MESSAGES = st.builds(Message, st.integers(0, 2**32 - 1), st.binary(max_size=600))


def read(data: bytes, sizes: list[int]) -> list[Message]:
    """Read bytes in pieces, no more at once than is wanted."""
    incoming = Incoming()
    found = []
    while data:
        size = min(incoming.wanted, sizes.pop() if sizes else incoming.wanted)
        message = incoming.feed(data[:size])
        data = data[size:]
        if message is not None:
            found.append(message)
    return found


@given(st.lists(MESSAGES, max_size=5), st.lists(st.integers(1, 40)))
def test_messages_are_read_whatever_the_pieces(
    sent: list[Message], sizes: list[int]
) -> None:
    assert read(b"".join(map(encode_request, sent)), sizes) == sent


def test_a_request_of_qemus() -> None:
    """SET_FEATURES, as it is on the wire."""
    data = bytes.fromhex("02000000 01000000 08000000 0000004001000000")
    [message] = read(data, [])
    assert message == Message(Request.SET_FEATURES, data[12:])
    assert message.unpack(U64) == (1 << 30 | 1 << 32,)


def test_a_reply() -> None:
    reply = encode_reply(Request.GET_QUEUE_NUM, struct.pack("<Q", 1))
    assert reply == bytes.fromhex("11000000 05000000 08000000 0100000000000000")


@pytest.mark.parametrize(
    ("flags", "size"),
    [(0, 8), (2, 8), (1 | 4, 8), (1, MAX_PAYLOAD + 1), (1 | 4, 0), (0, 0)],
    ids=[
        "no version",
        "version 2",
        "a reply",
        "too long",
        "empty reply",
        "empty, no version",
    ],
)
def test_what_is_no_request_is_refused(flags: int, size: int) -> None:
    with pytest.raises(VhostUserError, match="no message"):
        Incoming().feed(HEADER.pack(1, flags, size))


def test_a_payload_that_is_too_short() -> None:
    with pytest.raises(VhostUserError, match="4 bytes"):
        Message(Request.SET_FEATURES, bytes(4)).unpack(U64)


@given(st.lists(REGIONS, max_size=8))
def test_tables_are_read_as_they_were_written(regions: list[MemoryRegion]) -> None:
    assert parse_table(encode_table(tuple(regions))) == tuple(regions)


@given(REGIONS)
def test_single_regions_too(region: MemoryRegion) -> None:
    assert parse_single(encode_single(region)) == region


@given(st.binary(max_size=400))
def test_garbage_is_no_table(data: bytes) -> None:
    with suppress(VhostUserError):
        assert len(parse_table(data)) <= 8
    with suppress(VhostUserError):
        parse_single(data)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    with suppress(VhostUserError):
        read(data, [])
