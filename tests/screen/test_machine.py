from typing import Any

import pytest

from tests.screen.fake_qemu import LET_IN, Heard
from wlproxy.protocol.dbus.messages import (
    Fields,
    Message,
    MessageKind,
    encode_message,
)
from wlproxy.protocol.dbus.values import Value, Variant
from wlproxy.screen.machine import MAX_SCREENS, Machine, Screen
from wlproxy.screen.qemu_peer import QemuPeer

GRAPHIC = Variant("s", "Graphic")


class Stage:
    """A machine that is asked for its screens, and QEMU."""

    def __init__(self) -> None:
        self.peer = QemuPeer[Any](0)
        self.known = 0
        self.machine = Machine[Any](self.peer, self._known)
        self._heard = Heard()
        self.peer.take_output()
        self.peer.receive(LET_IN)

    def _known(self) -> None:
        self.known += 1

    def asked(self) -> list[Message[Any]]:
        return self._heard(self.peer.take_output())

    def answer(self, asked: Message[Any], **properties: Value) -> None:
        fields = Fields(reply_to=asked.serial, signature="a{sv}")
        self._send(MessageKind.METHOD_RETURN, fields, properties)

    def refuse(self, asked: Message[Any]) -> None:
        fields = Fields(error_name="a.b", reply_to=asked.serial, signature="s")
        self._send(MessageKind.ERROR, fields, "no")

    def _send(self, kind: MessageKind, fields: Fields, *body: Value) -> None:
        self.peer.receive(encode_message(Message[Any](kind, fields, body, (), 1))[0])


def test_its_screens_in_order_and_once() -> None:
    stage = Stage()
    (asked,) = stage.asked()
    stage.answer(asked, ConsoleIDs=Variant("au", [7, 0, 7, 3]))
    first, second, third = stage.asked()
    paths = [each.fields.path for each in (first, second, third)]
    assert [path[-2:] for path in paths] == ["_0", "_3", "_7"]
    stage.answer(first, Type=GRAPHIC, Head=Variant("u", 0))
    stage.answer(second, Type=Variant("s", "Text"))
    assert not stage.machine.known
    stage.answer(third, Type=GRAPHIC, Head=Variant("u", 1))
    assert (stage.machine.known, stage.known) == (True, 1)
    assert stage.machine.screens == [Screen(0), Screen(7, 1)]
    assert not stage.machine.refusal


@pytest.mark.parametrize(
    "numbers",
    [Variant("s", "many"), Variant("au", []), Variant("ai", [0]), Variant("u", 1)],
)
def test_none(numbers: Variant) -> None:
    stage = Stage()
    (asked,) = stage.asked()
    stage.answer(asked, ConsoleIDs=numbers)
    assert (stage.machine.refusal, stage.known) == ("it has no screen", 1)


def test_nothing_is_said_of_them() -> None:
    stage = Stage()
    stage.refuse(*stage.asked())
    assert stage.machine.refusal == "a.b: no"
    stage = Stage()
    (asked,) = stage.asked()
    stage.answer(asked, ConsoleIDs=Variant("au", [0, 1, 2]))
    first, second, third = stage.asked()
    stage.refuse(first)
    stage.answer(second)
    stage.answer(third, Type=Variant("u", 1), Head=Variant("s", ""))
    assert "with a picture" in stage.machine.refusal


def test_there_are_not_too_many() -> None:
    stage = Stage()
    (asked,) = stage.asked()
    stage.answer(asked, ConsoleIDs=Variant("au", list(range(10_000, 0, -1))))
    assert len(stage.asked()) == MAX_SCREENS
