import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.dbus.typed_values import bodies
from tests.strategies import chunked
from wlproxy.protocol.dbus import messages
from wlproxy.protocol.dbus.messages import (
    MAX_BODY,
    MAX_FDS,
    MAX_FIELDS,
    MAX_WAITING_FDS,
    Fields,
    Message,
    MessageKind,
    MessageReader,
    encode_message,
    kinds_in,
)
from wlproxy.protocol.errors import DBusError, LocalProtocolError

CALL = Message[int](
    MessageKind.METHOD_CALL,
    Fields("/a/b", "x.y", "Do", signature="ii"),
    (3, -4),
    serial=7,
)

NAMES = st.sampled_from(["", "org.qemu.Display1.Listener", "a.b"])


@st.composite
def some_messages(draw: st.DrawFn) -> Message[int]:
    kind = draw(st.sampled_from(MessageKind))
    signature, body = draw(bodies())
    call = kind is MessageKind.METHOD_CALL
    about_method = call or kind is MessageKind.SIGNAL
    fields = Fields(
        path="/org/qemu" if about_method else "",
        interface=draw(NAMES) if call else "a.b" if about_method else "",
        member="Update" if about_method else "",
        error_name="a.b" if kind is MessageKind.ERROR else "",
        reply_to=0 if about_method else draw(st.integers(1, 2**32 - 1)),
        signature=signature,
    )
    serial = draw(st.integers(1, 2**32 - 1))
    return Message(kind, fields, body, (), serial, draw(st.integers(0, 7)))


def everything(reader: MessageReader[int]) -> list[Message[int]]:
    found = []
    while (message := reader.next_message()) is not None:
        found.append(message)
    return found


@given(st.lists(some_messages(), max_size=4), st.data())
def test_any_chunking(sent: list[Message[int]], data: st.DataObject) -> None:
    stream = b"".join(encode_message(message)[0] for message in sent)
    reader, received = MessageReader[int](), []
    for chunk in data.draw(chunked(stream)):
        reader.feed(chunk)
        received += everything(reader)
    assert received == sent


@given(some_messages(), st.data())
def test_a_damaged_message_is_one_or_refused(
    message: Message[int], data: st.DataObject
) -> None:
    damaged = bytearray(encode_message(message)[0])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    reader = MessageReader[int]()
    reader.feed(bytes(damaged), (5,))
    try:
        everything(reader)
    except DBusError:
        return


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waited_for(data: bytes) -> None:
    reader = MessageReader[int]()
    reader.feed(data)
    try:
        everything(reader)
    except DBusError:
        return
    assert len(data) < 16 + MAX_FIELDS + MAX_BODY


def with_fds(*fds: int) -> bytes:
    signature = "h" * len(fds)
    fields = Fields("/a", "x.y", "Do", signature=signature)
    message = Message[int](MessageKind.METHOD_CALL, fields, fds, serial=1)
    data, carried = encode_message(message)
    assert carried == fds
    return data


def test_fds_go_with_the_message_that_says_so() -> None:
    reader = MessageReader[int]()
    plain, _ = encode_message(CALL)
    reader.feed(with_fds(0, 0) + plain + with_fds(0), (11, 12, 13, 14))
    first, second, third = everything(reader)
    assert (first.body, second.fds, third.fds) == ((11, 12), (), (13,))
    assert reader.waiting_fds == (14,)


def test_fds_that_did_not_come_are_missed() -> None:
    reader = MessageReader[int]()
    reader.feed(with_fds(0, 0), (11,))
    with pytest.raises(DBusError, match="2 fds said, 1 received"):
        reader.next_message()
    assert reader.waiting_fds == (11,)


def test_fds_of_a_bad_message_can_still_be_closed() -> None:
    reader = MessageReader[int]()
    bad = bytearray(with_fds(0))
    bad[-4:] = struct.pack("<I", 9)
    reader.feed(bytes(bad), (11,))
    with pytest.raises(DBusError, match="fd 9"):
        reader.next_message()
    assert reader.waiting_fds == (11,)


def test_too_many_fds_wait() -> None:
    reader = MessageReader[int]()
    reader.feed(b"", range(MAX_WAITING_FDS))
    assert reader.next_message() is None
    reader.feed(b"", (1,))
    with pytest.raises(DBusError, match="65 fds"):
        reader.next_message()


def test_a_message_has_so_many_fds() -> None:
    reader = MessageReader[int]()
    reader.feed(with_fds(*range(MAX_FDS)), range(MAX_FDS))
    assert reader.next_message() is not None
    with pytest.raises(LocalProtocolError):
        with_fds(*range(MAX_FDS + 1))


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (0, b"x", "byte order"),
        (1, b"\0", "kind 0"),
        (3, b"\2", "version 2"),
        (4, struct.pack("<I", 128 << 20), "bytes"),
        (8, bytes(4), "serial 0"),
        (12, struct.pack("<I", 1 << 20), "bytes"),
    ],
)
def test_a_bad_header_is_refused_at_once(place: int, value: bytes, why: str) -> None:
    data = bytearray(encode_message(CALL)[0])
    data[place : place + len(value)] = value
    reader = MessageReader[int]()
    reader.feed(bytes(data[:16]))  # though the rest is not there
    with pytest.raises(DBusError, match=why):
        reader.next_message()


def test_a_header_that_comes_in_pieces_is_waited_for() -> None:
    reader = MessageReader[int]()
    reader.feed(b"l\1")
    assert reader.next_message() is None


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (MessageKind.METHOD_CALL, Fields("/a")),
        (MessageKind.METHOD_RETURN, Fields("/a")),
        (MessageKind.ERROR, Fields(reply_to=1)),
        (MessageKind.SIGNAL, Fields("/a", "", "x")),
    ],
)
def test_fields_that_lack(kind: MessageKind, fields: Fields) -> None:
    reader = MessageReader[int]()
    reader.feed(encode_message(Message[int](kind, fields, serial=1))[0])
    with pytest.raises(DBusError, match="lacks"):
        reader.next_message()


def test_an_unknown_kind_is_skipped() -> None:
    unknown = bytearray(encode_message(CALL)[0])
    unknown[1] = 9
    reader = MessageReader[int]()
    reader.feed(bytes(unknown) + encode_message(CALL)[0])
    assert everything(reader) == [CALL]


def test_an_unknown_kind_has_no_fds() -> None:
    unknown = bytearray(with_fds(0))
    unknown[1] = 9
    reader = MessageReader[int]()
    reader.feed(bytes(unknown), (1,))
    with pytest.raises(DBusError, match="unknown kind"):
        reader.next_message()


def test_a_body_of_no_type() -> None:
    typeless = replace(CALL, fields=Fields("/a", "x.y", "Do"), body=())
    data = bytearray(encode_message(typeless)[0])
    data[4] = 8
    reader = MessageReader[int]()
    reader.feed(bytes(data) + bytes(8))
    with pytest.raises(DBusError, match="no type"):
        reader.next_message()


def respelled(old: bytes, new: bytes) -> MessageReader[int]:
    data, _ = encode_message(CALL)
    assert data.count(old) == 1
    reader = MessageReader[int]()
    reader.feed(data.replace(old, new))
    return reader


def test_a_field_of_another_type() -> None:
    with pytest.raises(DBusError, match="path"):
        respelled(b"\1\1o\0", b"\1\1s\0").next_message()


def test_a_field_that_is_twice_there() -> None:
    with pytest.raises(DBusError, match="member"):
        respelled(b"\2\1s\0", b"\3\1s\0").next_message()


def test_unknown_fields_are_skipped() -> None:
    (call,) = everything(respelled(b"\2\1s\0", b"\x77\1s\0"))
    assert call.fields == replace(CALL.fields, interface="")


def test_more_headers_than_are_remembered() -> None:
    reader = MessageReader[int]()
    for number in range(messages.MAX_KNOWN_FIELDS + 5):
        fields = Fields(f"/a/{number}", "x.y", "Do")
        reader.feed(encode_message(replace(CALL, fields=fields, body=()))[0])
        found = reader.next_message()
        assert found is not None
        assert found.fields == fields


def test_what_is_too_large_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_BODY", 8)
    fields = Fields("/a", "x.y", "Do", signature="ay")
    with pytest.raises(LocalProtocolError):
        encode_message(Message[int](MessageKind.METHOD_CALL, fields, (bytes(9),)))


def test_what_wants_a_reply() -> None:
    assert CALL.wants_reply
    assert not replace(CALL, flags=1).wants_reply
    assert not replace(CALL, kind=MessageKind.SIGNAL).wants_reply


@given(st.lists(some_messages(), max_size=4), st.data())
def test_kinds_are_told_of_what_has_begun(
    sent: list[Message[int]], data: st.DataObject
) -> None:
    pieces = [encode_message(message)[0] for message in sent]
    kinds = [message.kind for message in sent]
    assert list(kinds_in(b"".join(pieces))) == kinds
    if pieces:
        # The first 16 bytes of the last one will do.
        cut = data.draw(st.integers(0, len(pieces[-1]) - 1))
        begun = b"".join(pieces[:-1]) + pieces[-1][:cut]
        assert list(kinds_in(begun)) == (kinds if cut >= 16 else kinds[:-1])


@given(some_messages(), st.binary(min_size=16))
def test_after_what_is_no_message_there_are_no_kinds(
    message: Message[int], garbage: bytes
) -> None:
    found = list(kinds_in(b"OK 1234" + garbage))
    assert not found
    whole = encode_message(message)[0]
    assert next(kinds_in(whole + garbage)) is message.kind
