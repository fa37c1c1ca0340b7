from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.screen.fake_qemu import LET_IN, Heard
from tests.screen.policies import directions, sharing
from wlproxy.protocol.dbus.connection import PROPERTIES
from wlproxy.protocol.dbus.messages import (
    Fields,
    Message,
    MessageKind,
    encode_message,
)
from wlproxy.protocol.dbus.values import Value
from wlproxy.protocol.errors import DBusError
from wlproxy.relay.policy_tree import Clipboard, Policy
from wlproxy.screen.qemu_clipboard import (
    CLIPBOARD,
    CLIPBOARD_PATH,
    LAST_SERIAL,
    MAX_TO_GUEST,
    MAX_TO_HOST,
    MAX_WAITING,
    TEXT,
    QemuClipboard,
)
from wlproxy.screen.qemu_peer import QemuPeer
from wlproxy.screen.sharing import Selection, Sharing


class Stage:
    """A clipboard, and QEMU."""

    def __init__(self, rules: Sharing) -> None:
        self.peer = QemuPeer[Any](0)
        self.clipboard = QemuClipboard[Any](self.peer, rules, "x")
        self._heard = Heard()
        self.peer.take_output()
        self.peer.receive(LET_IN)
        self.texts: list[bytes] = []

    def heard(self) -> list[Message[Any]]:
        return self._heard(self.peer.take_output())

    def told(self) -> list[tuple[str, tuple[Any, ...]]]:
        return [(each.fields.member, each.body) for each in self.heard()]

    def call(self, member: str, signature: str = "", *body: Value) -> Message[Any]:
        """Have QEMU call; return the answer, which is there at once."""
        fields = Fields(CLIPBOARD_PATH, CLIPBOARD, member, signature=signature)
        data, _ = encode_message(
            Message[Any](MessageKind.METHOD_CALL, fields, body, (), 7)
        )
        self.peer.receive(data)
        *self.before, answer = self.heard()
        return answer

    def answer(self, serial: int, signature: str, *body: Value) -> None:
        kind = MessageKind.METHOD_RETURN if signature != "s" else MessageKind.ERROR
        name = "" if kind is MessageKind.METHOD_RETURN else "a.b"
        fields = Fields(error_name=name, reply_to=serial, signature=signature)
        self.peer.receive(encode_message(Message[Any](kind, fields, body, (), 1))[0])

    def request(self, selection: Selection = Selection.CLIPBOARD) -> None:
        self.clipboard.request(selection, self.texts.append)


@pytest.fixture
def stage() -> Stage:
    stage = Stage(sharing())
    stage.clipboard.join()
    assert stage.told() == [("Unregister", ()), ("Register", ())]
    return stage


def test_it_has_no_part_in_it_before_it_joins() -> None:
    stage = Stage(sharing())
    stage.clipboard.offer(Selection.PRIMARY, b"1")
    stage.clipboard.offer(Selection.CLIPBOARD, b"2")
    stage.clipboard.withdraw(Selection.CLIPBOARD)
    assert stage.told() == []
    assert stage.call("Register").kind is MessageKind.ERROR
    stage.clipboard.join()
    stage.clipboard.join()
    grab = ("Grab", (1, 0, [TEXT]))
    assert stage.told() == [("Unregister", ()), ("Register", ()), grab]


def test_the_guest_pastes_only_what_it_may() -> None:
    times = [5.0]
    rules = sharing("ask", now=lambda: times[-1])
    stage = Stage(rules)
    stage.clipboard.join()
    stage.clipboard.offer(Selection.CLIPBOARD, b"text")

    def pastes() -> bool:
        answer = stage.call("Request", "uas", 0, [TEXT])
        return answer.kind is MessageKind.METHOD_RETURN

    assert not pastes()
    rules.begin_gesture()
    assert pastes()
    times.append(5.9)
    assert pastes()
    times.append(6.1)
    assert not pastes()
    rules.begin_gesture()
    rules.end_gesture()
    assert not pastes()
    rules.obey(directions("to-guest"))
    assert pastes()
    rules.obey(directions("to-host"))
    assert not pastes()


def test_the_policy_has_a_say_in_how_much_the_host_gets() -> None:
    stage = Stage(Sharing(Policy(clipboard=Clipboard(max_bytes=3)), lambda: 0))
    stage.clipboard.join()
    stage.call("Grab", "uuas", 0, 1, [TEXT])
    for said in (b"1234", b"123"):
        stage.heard()
        stage.request()
        (asked,) = stage.heard()
        stage.answer(asked.serial, "say", TEXT, said)
    assert stage.texts == [b"", b"123"]


def test_qemu_asks_for_properties_which_are_none(stage: Stage) -> None:
    fields = Fields(CLIPBOARD_PATH, PROPERTIES, "GetAll", signature="s")
    call = Message[Any](MessageKind.METHOD_CALL, fields, (CLIPBOARD,), (), 7)
    stage.peer.receive(encode_message(call)[0])
    (answer,) = stage.heard()
    assert (answer.kind, answer.body) == (MessageKind.METHOD_RETURN, ({},))


def test_a_text_is_there_before_it_is_asked_for(stage: Stage) -> None:
    stage.clipboard.offer(Selection.PRIMARY, b"text")
    assert stage.told() == [("Grab", (1, 0, [TEXT]))]
    answer = stage.call("Request", "uas", 1, ["image/png", TEXT])
    assert answer.body == (TEXT, b"text")
    assert stage.call("Request", "uas", 0, [TEXT]).kind is MessageKind.ERROR
    assert stage.call("Request", "uas", 1, ["text/html"]).kind is MessageKind.ERROR
    stage.clipboard.withdraw(Selection.PRIMARY)
    stage.clipboard.withdraw(Selection.PRIMARY)
    assert stage.told() == [("Release", (1,))]
    assert stage.call("Request", "uas", 1, [TEXT]).kind is MessageKind.ERROR


def test_texts_have_a_bound(stage: Stage) -> None:
    stage.clipboard.offer(Selection.CLIPBOARD, b"x" * (MAX_TO_GUEST + 9))
    stage.heard()
    answer = stage.call("Request", "uas", 0, [TEXT])
    assert answer.body == (TEXT, b"x" * MAX_TO_GUEST)


def test_both_count_grabs_together(stage: Stage) -> None:
    stage.clipboard.offer(Selection.CLIPBOARD, b"1")
    stage.call("Grab", "uuas", 0, 5, [TEXT])
    stage.heard()
    stage.clipboard.offer(Selection.CLIPBOARD, b"2")
    assert stage.told() == [("Grab", (0, 6, [TEXT]))]
    stage.call("Register")
    assert [each.body for each in stage.before] == [(0, 0, [TEXT])]
    stage.call("Grab", "uuas", 0, LAST_SERIAL, [TEXT])
    stage.clipboard.offer(Selection.CLIPBOARD, b"3")
    assert stage.told()[-1] == ("Grab", (0, 1, [TEXT]))


def test_the_guest_has_something(stage: Stage) -> None:
    clipboard = stage.clipboard
    clipboard.offer(Selection.CLIPBOARD, b"ours")
    stage.call("Grab", "uuas", 0, 1, [TEXT])
    first = clipboard.grabs[Selection.CLIPBOARD]
    assert first
    clipboard.withdraw(Selection.CLIPBOARD)  # it is not ours any more
    stage.call("Grab", "uuas", 0, 2, [TEXT, "text/html"])
    assert clipboard.grabs[Selection.CLIPBOARD] not in (None, first)
    assert not clipboard.grabs[Selection.PRIMARY]
    assert stage.heard() == []
    stage.call("Grab", "uuas", 0, 3, ["image/png"])
    assert not clipboard.grabs[Selection.CLIPBOARD]
    stage.call("Grab", "uuas", 0, 4, [TEXT])
    stage.call("Release", "u", 0)
    assert not clipboard.grabs[Selection.CLIPBOARD]


def test_one_request_is_for_all_who_wait(stage: Stage) -> None:
    stage.request()
    assert stage.texts == [b""]  # the guest has none
    stage.call("Grab", "uuas", 0, 0, [TEXT])
    stage.texts.clear()
    for _ in range(MAX_WAITING + 2):
        stage.request()
    (asked,) = stage.heard()
    assert (asked.fields.member, asked.body) == ("Request", (0, [TEXT]))
    assert stage.texts == [b"", b""]
    stage.answer(asked.serial, "say", TEXT, b"ab\xff")
    assert stage.texts[2:] == ["ab\N{REPLACEMENT CHARACTER}".encode()] * MAX_WAITING
    stage.request()
    assert len(stage.heard()) == 1


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        ("s", ("Empty clipboard",)),
        ("say", ("text/html", b"<b>")),
        ("say", (TEXT, bytes(MAX_TO_HOST + 1))),
        ("u", (1,)),
        ("", ()),
    ],
)
def test_there_is_no_text_for_all_that(
    stage: Stage, signature: str, body: tuple[Any, ...]
) -> None:
    stage.call("Grab", "uuas", 0, 0, [TEXT])
    stage.request()
    (asked,) = stage.heard()
    stage.answer(asked.serial, signature, *body)
    assert stage.texts == [b""]


def test_nobody_waits_at_the_end(stage: Stage) -> None:
    stage.call("Grab", "uuas", 1, 0, [TEXT])
    stage.request(Selection.PRIMARY)
    stage.clipboard.close()
    assert stage.texts == [b""]


def test_who_asks_again_and_again_is_not_given_it_all(stage: Stage) -> None:
    stage.clipboard.offer(Selection.CLIPBOARD, bytes(MAX_TO_GUEST))
    fields = Fields(CLIPBOARD_PATH, CLIPBOARD, "Request", signature="uas")
    body = (0, [TEXT])
    call = Message[Any](MessageKind.METHOD_CALL, fields, body, (), 7)
    data, _ = encode_message(call)
    stage.peer.receive(data * 4)
    assert sum(len(each.body[1]) for each in stage.heard()[1:]) == 4 * MAX_TO_GUEST
    with pytest.raises(DBusError, match="more at once"):
        stage.peer.receive(data * 400)


@given(
    st.sampled_from(["Register", "Grab", "Release", "Request", "Unregister", "x"]),
    st.sampled_from(
        [
            ("", ()),
            ("u", (7,)),
            ("uuas", (7, 1, [])),
            ("uuas", (0, LAST_SERIAL, [TEXT] * 99)),
            ("uas", (2, [TEXT])),
            ("s", ("x",)),
        ]
    ),
)
def test_whatever_is_called_is_answered_at_once(
    member: str, arguments: tuple[str, tuple[Any, ...]]
) -> None:
    stage = Stage(sharing())
    stage.clipboard.join()
    stage.heard()
    assert stage.call(member, arguments[0], *arguments[1]).fields.reply_to == 7
