"""jeepney as an oracle: it reads what we write, and we read what it writes."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from tests.protocol.dbus.typed_values import bodies
from wlproxy.protocol.dbus.messages import (
    Fields,
    Message,
    MessageKind,
    MessageReader,
    encode_message,
)
from wlproxy.protocol.dbus.values import Value, Variant

low_level = pytest.importorskip(
    "jeepney.low_level", reason="needs jeepney, which requirements-dev.lock has"
)

Body = tuple[str, tuple[Value, ...]]


def as_jeepney_has_it(value: Value) -> Any:
    """Say what a value is to jeepney: a variant is a pair."""
    match value:
        case Variant(signature, inner):
            return signature, as_jeepney_has_it(inner)
        case list():
            return [as_jeepney_has_it(each) for each in value]
        case tuple():
            return tuple(as_jeepney_has_it(each) for each in value)
        case dict():
            return {key: as_jeepney_has_it(each) for key, each in value.items()}
        case _:
            return value


def called(signature: str) -> Fields:
    return Fields("/org/qemu", "org.qemu.X", "Do", signature=signature)


@given(bodies())
def test_jeepney_reads_what_we_write(body: Body) -> None:
    signature, values = body
    message = Message[int](MessageKind.METHOD_CALL, called(signature), values, (), 9)
    parser = low_level.Parser()
    parser.add_data(encode_message(message)[0])
    read = parser.get_next_message()
    fields = low_level.HeaderFields
    assert read.header.serial == 9
    assert read.header.fields[fields.path] == "/org/qemu"
    assert read.header.fields[fields.member] == "Do"
    assert read.header.fields.get(fields.signature, "") == signature
    assert read.body == as_jeepney_has_it(values)


@given(bodies())
def test_we_read_what_jeepney_writes(body: Body) -> None:
    signature, values = body
    fields = low_level.HeaderFields
    named = {
        fields.path: "/org/qemu",
        fields.interface: "org.qemu.X",
        fields.member: "Do",
        fields.sender: ":1.7",
    }
    if signature:
        named[fields.signature] = signature
    header = low_level.Header(
        low_level.Endianness.little,
        low_level.MessageType.method_call,
        low_level.MessageFlag(0),
        1,
        -1,
        -1,
        named,
    )
    message = low_level.Message(header, as_jeepney_has_it(values))
    reader = MessageReader[int]()
    reader.feed(message.serialise(serial=5))
    assert reader.next_message() == Message(
        MessageKind.METHOD_CALL,
        replace(called(signature), sender=":1.7"),
        values,
        (),
        5,
    )
