"""Reader and Writer: every field kind, its limits, and what a peer can send instead."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.cursor import MAX_STRING, Reader, Writer
from wlproxy.protocol.errors import ChannelError, LocalProtocolError

NUMBERS: dict[str, tuple[int, int, int]] = {  # size, least, most
    "u8": (1, 0, 2**8 - 1),
    "u16": (2, 0, 2**16 - 1),
    "u32": (4, 0, 2**32 - 1),
    "u64": (8, 0, 2**64 - 1),
    "i32": (4, -(2**31), 2**31 - 1),
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def write(kind: str, value: object) -> bytes:
    method: Callable[[object], Writer] = getattr(Writer(), kind)
    return method(value).getvalue()


def read(kind: str, data: bytes) -> object:
    reader = Reader(data)
    value: object = getattr(reader, kind)()
    reader.expect_end()
    return value


@st.composite
def fields(draw: st.DrawFn) -> tuple[str, object]:
    kind = draw(st.sampled_from([*NUMBERS, "string"]))
    if kind == "string":
        return kind, draw(TEXT)
    _, least, most = NUMBERS[kind]
    return kind, draw(st.integers(least, most))


@pytest.mark.parametrize(
    ("kind", "value", "data"),
    [
        ("u8", 0xFE, "fe"),
        ("u16", 0x0102, "0201"),
        ("u32", 0x01020304, "04030201"),
        ("u64", 0x0102030405060708, "0807060504030201"),
        ("i32", -2, "feffffff"),
        ("string", "", "0000"),
        ("string", "é!", "0300c3a921"),
    ],
)
def test_golden(kind: str, value: object, data: str) -> None:
    assert write(kind, value).hex() == data
    assert read(kind, bytes.fromhex(data)) == value


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_reach_their_limits_and_no_further(kind: str) -> None:
    size, least, most = NUMBERS[kind]
    for value in (least, most):
        data = write(kind, value)
        assert len(data) == size
        assert read(kind, data) == value
    for value in (least - 1, most + 1):
        with pytest.raises(LocalProtocolError, match=f"in {size} bytes"):
            write(kind, value)


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_short_buffer_is_refused_and_nothing_is_consumed(kind: str) -> None:
    size = NUMBERS[kind][0]
    reader = Reader(bytes(size - 1))
    with pytest.raises(ChannelError, match=f"{size} bytes wanted at 0"):
        getattr(reader, kind)()
    assert reader.remaining == size - 1


def test_raw_and_rest() -> None:
    reader = Reader(bytearray(b"abcdef"))
    assert reader.raw(2) == b"ab"
    assert reader.raw(0) == b""
    assert reader.rest() == b"cdef"
    assert reader.rest() == b""


def test_raw_copies() -> None:
    buffer = bytearray(b"ab")
    value = Reader(buffer).raw(2)
    buffer[0] = 0
    assert value == b"ab"


@pytest.mark.parametrize("length", [-1, 3, 2**64])
def test_raw_refuses_a_length_beyond_the_buffer(length: int) -> None:
    with pytest.raises(ChannelError, match="2 left"):
        Reader(b"ab").raw(length)


def test_reader_counts_bytes_whatever_the_view_counts() -> None:
    view = memoryview(bytes(8)).cast("I")
    assert Reader(view).remaining == 8


def test_writer_knows_its_length() -> None:
    writer = Writer().raw(b"abc").raw(memoryview(b"de"))
    assert len(writer) == 5
    assert writer.getvalue() == b"abcde"


def test_expect_end() -> None:
    reader = Reader(b"ab")
    with pytest.raises(ChannelError, match="2 bytes left over at 0"):
        reader.expect_end()
    reader.rest()
    reader.expect_end()


def test_string_up_to_its_limit() -> None:
    longest = "x" * MAX_STRING
    assert read("string", write("string", longest)) == longest
    with pytest.raises(LocalProtocolError, match="65536 bytes, limit 65535"):
        write("string", longest + "x")


def test_string_that_is_not_unicode() -> None:
    with pytest.raises(LocalProtocolError, match="not Unicode"):
        write("string", "\ud800")
    with pytest.raises(ChannelError, match="not UTF-8"):
        read("string", b"\x01\x00\xff")


@given(st.lists(fields(), max_size=20))
def test_round_trip(values: list[tuple[str, object]]) -> None:
    writer = Writer()
    for kind, value in values:
        getattr(writer, kind)(value)
    reader = Reader(writer.getvalue())
    for kind, value in values:
        assert getattr(reader, kind)() == value
    reader.expect_end()


@given(st.binary(max_size=64), st.lists(st.sampled_from([*NUMBERS, "string"])))
def test_garbage_raises_only_channel_error(data: bytes, kinds: list[str]) -> None:
    reader = Reader(data)
    try:
        for kind in kinds:
            getattr(reader, kind)()
    except ChannelError:
        pass
    assert 0 <= reader.remaining <= len(data)
