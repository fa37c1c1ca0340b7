import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.dbus.typed_values import bodies, signatures
from wlproxy.protocol.dbus.signatures import complete_types
from wlproxy.protocol.dbus.values import MAX_VALUES, Reader, Value, Variant, Writer
from wlproxy.protocol.errors import DBusError, LocalProtocolError


def written(signature: str, values: tuple[Value, ...]) -> Writer[str]:
    writer = Writer[str]()
    writer.body(signature, values)
    return writer


def read(signature: str, data: bytes, fds: tuple[str, ...] = ()) -> tuple[Value, ...]:
    return Reader(data, "<", fds).body(signature)


@given(bodies())
def test_what_is_written_is_read(body: tuple[str, tuple[Value, ...]]) -> None:
    signature, values = body
    assert read(signature, bytes(written(signature, values).data)) == values


@given(signatures, st.binary(max_size=200), st.sampled_from("<>"))
def test_garbage_is_values_or_refused(signature: str, data: bytes, order: str) -> None:
    try:
        values = Reader[str](data, order).body(signature)
    except DBusError:
        return
    assert len(values) == len(complete_types(signature))


@given(bodies(), st.data())
def test_a_body_that_is_cut_is_refused(
    body: tuple[str, tuple[Value, ...]], data: st.DataObject
) -> None:
    signature, values = body
    whole = bytes(written(signature, values).data)
    if whole:
        cut = data.draw(st.integers(0, len(whole) - 1))
        with pytest.raises(DBusError):
            read(signature, whole[:cut])
    with pytest.raises(DBusError):
        read(signature, whole + b"\0")


def test_fds_are_indices() -> None:
    writer = written("hsh", ("first", "between", "second"))
    assert writer.fds == ["first", "second"]
    assert read("hsh", bytes(writer.data), ("a", "b")) == ("a", "between", "b")
    with pytest.raises(DBusError, match="fd 1 of 1"):
        read("hsh", bytes(writer.data), ("a",))


def test_big_endian() -> None:
    data = struct.pack(">IH2xI2s", 7, 1, 1, b"x\0")
    assert Reader[str](data, ">").body("uqs") == (7, 1, "x")


@pytest.mark.parametrize(
    ("signature", "data", "why"),
    [
        ("b", struct.pack("<I", 2), "bool of 2"),
        ("s", struct.pack("<I3s", 2, b"a\0\0"), "one NUL"),
        ("s", struct.pack("<I2s", 1, b"ab"), "one NUL"),
        ("s", struct.pack("<I2s", 1, b"\xff\0"), "UTF-8"),
        ("s", struct.pack("<I", 0xFFFFFFFF), "wanted"),
        ("o", struct.pack("<I3s", 2, b"a/\0"), "object path"),
        ("yu", b"\1\1\1\1\2\0\0\0s", "padding"),
        ("v", b"\2uu\0" + bytes(8), "2 types"),
        ("v", b"\1z\0" + bytes(8), "no signature"),
        ("ay", struct.pack("<I", (1 << 26) + 1), "an array of"),
        ("ay", struct.pack("<I", 8) + bytes(7), "exceeds its message"),
        ("ai", struct.pack("<I", 6) + bytes(8), "exceeds it"),
    ],
)
def test_what_is_refused(signature: str, data: bytes, why: str) -> None:
    with pytest.raises(DBusError, match=why):
        read(signature, data)


def test_variants_in_variants_end_somewhere() -> None:
    with pytest.raises(DBusError, match="too deep"):
        read("v", b"\1v\0" * 100 + b"\1y\0\0")


def test_there_may_be_so_many_values() -> None:
    many = written("ai", ([0] * (MAX_VALUES + 1),))
    with pytest.raises(DBusError, match="values"):
        read("ai", bytes(many.data))


def test_bytes_are_one_value() -> None:
    many = bytes(MAX_VALUES * 4)
    assert read("ay", bytes(written("ay", (many,)).data)) == (many,)


@pytest.mark.parametrize(
    ("signature", "values"),
    [("u", (-1,)), ("u", ("x",)), ("uu", (1,)), ("s", ("a\0b",)), ("v", (1,))],
)
def test_what_we_write_wrongly_is_our_mistake(
    signature: str, values: tuple[Value, ...]
) -> None:
    with pytest.raises(LocalProtocolError):
        written(signature, values)


def test_a_variant_says_what_it_is() -> None:
    values = ({"Interfaces": Variant("as", ["one", "two"])},)
    assert read("a{sv}", bytes(written("a{sv}", values).data)) == values
