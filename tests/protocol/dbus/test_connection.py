import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import chunked
from wlproxy.protocol.dbus.auth import MAX_ANSWER, ServerAnswer, client_half
from wlproxy.protocol.dbus.connection import FAILED, Connection
from wlproxy.protocol.dbus.messages import (
    Fields,
    Message,
    MessageKind,
    MessageReader,
    encode_message,
)
from wlproxy.protocol.errors import DBusError

LET_IN = b"OK 0123456789abcdef0123456789abcdef\r\nAGREE_UNIX_FD\r\n"


def sent(connection: Connection[int]) -> list[Message[int]]:
    reader = MessageReader[int]()
    found = []
    for outgoing in connection.take_output():
        reader.feed(outgoing.data, outgoing.fds)
        while (message := reader.next_message()) is not None:
            found.append(message)
    return found


def let_in() -> Connection[int]:
    return Connection[int](1000, greeted=True)


def test_all_that_a_client_says_is_said_at_once() -> None:
    assert client_half(1000) == (
        b"\0AUTH EXTERNAL 31303030\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n"
    )
    (greeting,) = Connection[int](1000).take_output()
    assert greeting.data == client_half(1000)


def test_calls_wait_until_we_are_let_in() -> None:
    connection = Connection[int](0)
    connection.take_output()
    serial = connection.call("/a", "org.qemu.X.Do", "hu", (5, 6))
    assert connection.take_output() == []
    connection.receive(LET_IN)
    (call,) = sent(connection)
    assert call.serial == serial
    assert call.fields == Fields("/a", "org.qemu.X", "Do", signature="hu", fd_count=1)
    assert call.fds == (5,)
    assert call.wants_reply


@given(st.data())
def test_the_answer_in_any_pieces(data: st.DataObject) -> None:
    connection = Connection[int](0)
    call = Message[int](MessageKind.METHOD_CALL, Fields("/a", "x.y", "Do"), serial=3)
    for chunk in data.draw(chunked(LET_IN + encode_message(call)[0])):
        connection.receive(chunk)
    assert connection.next_message() == call


@pytest.mark.parametrize(
    "answer",
    [
        b"REJECTED EXTERNAL\r\n",
        b"OK x\r\nERROR\r\n",
        b"OKAY\r\n",
        b"\r\n",
        b"x" * (MAX_ANSWER + 1),
        b"x" * (MAX_ANSWER + 1) + b"\r\n",
    ],
)
def test_a_server_that_does_not_let_us_in(answer: bytes) -> None:
    connection = Connection[int](0)
    with pytest.raises(DBusError):
        connection.receive(answer, (4,))
    assert connection.waiting_fds == (4,)


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_garbage_instead_of_an_answer(chunks: list[bytes]) -> None:
    answer = ServerAnswer()
    try:
        for chunk in chunks:
            answer.feed(chunk)
    except DBusError:
        return
    assert sum(map(len, chunks)) <= MAX_ANSWER + 80 or answer.done


def test_answers() -> None:
    connection = let_in()
    call = Message[int](MessageKind.METHOD_CALL, Fields("/a", "x.y", "Do"), serial=77)
    connection.reply(call, "s", ("well",))
    connection.refuse(call, FAILED, "no")
    well, no = sent(connection)
    assert (well.kind, well.fields.reply_to, well.body) == (
        MessageKind.METHOD_RETURN,
        77,
        ("well",),
    )
    assert (no.kind, no.fields.error_name, no.body) == (
        MessageKind.ERROR,
        FAILED,
        ("no",),
    )
    assert well.serial != no.serial


def test_who_wants_no_answer_has_none() -> None:
    connection = let_in()
    call = Message[int](
        MessageKind.METHOD_CALL, Fields("/a", "x.y", "Do"), serial=7, flags=1
    )
    connection.reply(call)
    connection.refuse(call, FAILED, "no")
    assert sent(connection) == []
    connection.call("/a", "x.y.Do", wants_reply=False)
    assert not sent(connection)[0].wants_reply


def test_what_is_not_sent_any_more() -> None:
    connection = Connection[int](0)
    connection.call("/a", "x.y.Do", "h", (5,))
    greeting, call = connection.abandon()
    assert greeting.data == client_half(0)
    assert call.fds == (5,)
    connection.receive(LET_IN)
    assert connection.take_output() == []
