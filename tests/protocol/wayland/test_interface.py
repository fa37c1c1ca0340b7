import pytest

from wlproxy.protocol.wayland.interface import (
    ArgKind,
    ArgSpec,
    Interface,
    MessageSpec,
)

INT = ArgSpec(ArgKind.INT)
TEXT = ArgSpec(ArgKind.STRING)
FD = ArgSpec(ArgKind.FD)
OBJECT = ArgSpec(ArgKind.OBJECT, interface="wl_surface")
NEW = ArgSpec(ArgKind.NEW_ID, interface="wl_buffer")
UNTYPED = ArgSpec(ArgKind.NEW_ID)


def spec(*args: ArgSpec, name: str = "message", opcode: int = 0) -> MessageSpec:
    return MessageSpec("test_thing", name, opcode, 1, args)


def test_message_of_fixed_size() -> None:
    message = spec(NEW, FD, INT, OBJECT, FD)
    assert message.size == 8 + 3 * 4
    assert message.offsets == (8, 12, 12, 16, 20)
    assert message.id_offsets == ((8, NEW), (16, OBJECT))
    assert message.fd_count == 2
    assert message.new_id_index == 0
    assert not message.has_untyped_new_id


def test_message_without_arguments() -> None:
    message = spec()
    assert message.size == 8
    assert message.offsets == ()
    assert message.id_offsets == ()
    assert message.fd_count == 0
    assert message.new_id_index is None


def test_ids_before_a_string_are_where_they_always_are() -> None:
    message = spec(INT, OBJECT, TEXT, INT)
    assert message.size is None
    assert message.offsets == ()
    assert message.id_offsets == ((12, OBJECT),)


def test_ids_after_a_string_must_be_searched() -> None:
    message = spec(OBJECT, TEXT, NEW)
    assert message.size is None
    assert message.id_offsets is None
    assert message.new_id_index == 2


def test_an_untyped_new_id_must_be_searched() -> None:
    message = spec(INT, UNTYPED)
    assert message.size is None
    assert message.id_offsets is None
    assert message.has_untyped_new_id


def test_message_names_itself() -> None:
    assert str(spec(name="commit")) == "test_thing.commit"


def test_messages_by_name() -> None:
    destroy, event = spec(name="destroy"), spec(name="done")
    interface = Interface("test_thing", 1, (destroy,), (event,))
    assert interface.request("destroy") is destroy
    assert interface.event("done") is event
    with pytest.raises(KeyError):
        interface.request("done")
    with pytest.raises(KeyError):
        interface.event("destroy")
