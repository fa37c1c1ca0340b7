from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.screen.fake_qemu import LET_IN, FakeFile, Heard
from wlproxy.protocol.dbus.connection import PROPERTIES
from wlproxy.protocol.dbus.messages import (
    Fields,
    Message,
    MessageKind,
    encode_message,
)
from wlproxy.protocol.dbus.values import Value, Variant
from wlproxy.protocol.errors import DBusError
from wlproxy.screen.console import (
    MOUSE,
    Console,
    TouchKind,
    button,
    key,
    move,
    place,
    touch,
)
from wlproxy.screen.qemu_peer import QemuPeer

PATH = "/org/qemu/Display1/Console_0"


class Stage:
    """A console, and QEMU that is called."""

    def __init__(self) -> None:
        self.peer = QemuPeer[Any](0)
        self.console = Console[Any](self.peer)
        self._heard = Heard()
        self._greeting = self.peer.take_output()
        self.peer.receive(LET_IN)

    def heard(self) -> list[Message[Any]]:
        return self._heard(self.peer.take_output())

    def say(
        self,
        kind: MessageKind,
        fields: Fields,
        *body: Value,
        fds: tuple[FakeFile, ...] = (),
    ) -> None:
        data, own = encode_message(Message[Any](kind, fields, body, (), 1))
        self.peer.receive(data, (*own, *fds))

    def answer(self, serial: int, signature: str = "", *body: Value) -> None:
        fields = Fields(reply_to=serial, signature=signature)
        self.say(MessageKind.METHOD_RETURN, fields, *body)

    def refuse(self, serial: int, text: str) -> None:
        fields = Fields(error_name="a.b", reply_to=serial, signature="s")
        self.say(MessageKind.ERROR, fields, text)

    def change(self, interface: str, path: str = PATH, *, absolute: Value) -> None:
        fields = Fields(path, PROPERTIES, "PropertiesChanged", signature="sa{sv}as")
        self.say(MessageKind.SIGNAL, fields, interface, {"IsAbsolute": absolute}, [])


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_the_pointers_kind_is_asked_for(stage: Stage) -> None:
    (asked,) = stage.heard()
    assert (asked.fields.path, asked.fields.member) == (PATH, "GetAll")
    assert asked.body == (MOUSE,)
    stage.answer(asked.serial, "a{sv}", {"IsAbsolute": Variant("b", True)})
    assert stage.console.absolute


def test_the_pointers_kind_changes(stage: Stage) -> None:
    stage.change(MOUSE, absolute=Variant("b", True))
    assert stage.console.absolute
    stage.change(MOUSE, absolute=Variant("s", "no"))
    stage.change("a.b", absolute=Variant("b", False))
    stage.change(MOUSE, "/other", absolute=Variant("b", False))
    assert stage.console.absolute
    stage.change(MOUSE, absolute=Variant("b", False))
    assert not stage.console.absolute


def test_no_such_screen(stage: Stage) -> None:
    (asked,) = stage.heard()
    stage.refuse(asked.serial, "what")
    assert stage.console.refusal == "it has no such screen (a.b: what)"


def test_registering(stage: Stage) -> None:
    stage.heard()
    listener = FakeFile()
    stage.console.register(listener)
    (called,) = stage.heard()
    assert called.fields.member == "RegisterListener"
    assert called.fds == (listener,)
    assert not stage.console.registered
    stage.answer(called.serial)
    assert stage.console.registered


def test_registering_is_refused(stage: Stage) -> None:
    stage.heard()
    stage.console.register(FakeFile())
    (called,) = stage.heard()
    stage.refuse(called.serial, "twice")
    assert stage.console.refusal == "a.b: twice"
    assert not stage.console.registered


def test_input(stage: Stage) -> None:
    stage.heard()
    for call in (
        key(30, down=True),
        key(30, down=False),
        button(0, down=True),
        place(3, 4),
        move(-1, 2),
    ):
        stage.console.tell(call)
    heard = stage.heard()
    assert not any(call.wants_reply for call in heard)
    assert [
        (call.fields.interface.rpartition(".")[2], call.fields.member, call.body)
        for call in heard
    ] == [
        ("Keyboard", "Press", (30,)),
        ("Keyboard", "Release", (30,)),
        ("Mouse", "Press", (0,)),
        ("Mouse", "SetAbsPosition", (3, 4)),
        ("Mouse", "RelMotion", (-1, 2)),
    ]


def test_a_size_is_asked_for_until_it_is_refused(stage: Stage) -> None:
    stage.heard()
    stage.console.want_size(800, 600)
    (called,) = stage.heard()
    assert called.body == (0, 0, 0, 0, 800, 600)
    stage.answer(called.serial)
    assert stage.console.takes_sizes
    stage.console.want_size(801, 600)
    (called,) = stage.heard()
    stage.refuse(called.serial, "not supported")
    stage.console.want_size(802, 600)
    assert stage.heard() == []


def test_sizes_are_asked_for_one_at_a_time(stage: Stage) -> None:
    stage.heard()
    for width in (800, 900, 1000):
        stage.console.want_size(width, 600)
    (first,) = stage.heard()
    assert first.body[4:] == (800, 600)
    stage.answer(first.serial)
    (last,) = stage.heard()
    assert last.body[4:] == (1000, 600)
    stage.answer(last.serial)
    assert stage.heard() == []


def test_the_last_size_waits_for_no_answer(stage: Stage) -> None:
    stage.heard()
    stage.console.want_size(800, 600)
    stage.console.want_size(0, 0, at_once=True)
    first, last = stage.heard()
    assert (first.body[4:], last.body[4:]) == ((800, 600), (0, 0))
    stage.answer(first.serial)
    stage.answer(last.serial)
    assert stage.heard() == []


def test_what_lets_go_must_be_told(stage: Stage) -> None:
    lets_go = key(1, down=False), button(1, down=False), touch(TouchKind.END, 0, 1, 2)
    assert all(call.lets_go for call in lets_go)
    stays = key(1, down=True), place(1, 2), touch(TouchKind.BEGIN, 0, 1, 2)
    assert not any(call.lets_go for call in stays)
    assert touch(TouchKind.UPDATE, 0, 1, 2).droppable


def test_what_nobody_asked_for(stage: Stage) -> None:
    stage.heard()
    stage.answer(4711, "s", "well")
    file = FakeFile()
    fields = Fields(PATH, "a.b", "Do", signature="h")
    stage.say(MessageKind.METHOD_CALL, fields, file)
    (answer,) = stage.heard()
    assert answer.kind is MessageKind.ERROR
    assert file.closed


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_garbage(chunks: list[bytes]) -> None:
    stage = Stage()
    file = FakeFile()
    stage.peer.receive(b"", (file,))
    try:
        for chunk in chunks:
            stage.peer.receive(chunk)
    except DBusError:
        assert file.closed
