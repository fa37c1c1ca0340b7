"""One client: whatever it or its compositor sends, it ends alone and in order."""

import struct
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relay.dmabufs import DmabufStage
from tests.relay.playbook import (
    NOTHING,
    ONLY_SHM,
    ZERO_COPY,
    Playbook,
    Stage,
    all_turns,
)
from tests.relay.things import SERVER, Thing
from tests.relay.twins import add_own
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientOpened,
    CloseReason,
    Data,
)
from wlproxy.protocol.wayland.interface import ArgKind, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay import client as client_module
from wlproxy.relay.capabilities import CompositorCapabilities, Preference
from wlproxy.relay.commands import CloseClient, Command, SendFrame
from wlproxy.relay.filters.plans import RequestPlan, request_plan
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FdKind, FromCompositor, ReceivedFd
from wlproxy.relay.relay import COMPOSITOR_ERRED
from wlproxy.relay.wire.context import RelayConfig
from wlproxy.relay.wire.objects import ProtocolObject

READ_END = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS, 2, 0)


def ended(commands: list[Command]) -> bool:
    """Whether a client was told of an error and closed, in this order, at the end."""
    if not any(isinstance(command, CloseClient) for command in commands):
        return False
    assert isinstance(commands[-1], CloseClient)
    assert any(
        isinstance(command, SendFrame) and isinstance(command.frame, Data)
        for command in commands
    )
    return True


# ---------------------------------------------------------------- garbage

numbers = st.lists(
    st.one_of(
        st.integers(0, 24),
        st.sampled_from([SERVER, SERVER + 1, 0x7FFFFFFF, 0xFFFFFFFF]),
    ),
    min_size=9,
    max_size=9,
)


def message_like(numbers: list[int], things: dict[int, Thing], side: str) -> bytes:
    """Make a message of an object that there is, with arguments that may be."""
    left = deque(numbers)
    thing = things[sorted(things)[left.popleft() % len(things)]]
    specs: tuple[MessageSpec, ...] = getattr(thing.interface, side)
    if not specs:
        return b"\0" * 8
    spec = specs[left.popleft() % len(specs)]
    body = b""
    for arg in spec.args:
        number = left.popleft() if left else 1
        if arg.kind in (ArgKind.STRING, ArgKind.ARRAY) or arg.is_untyped_new_id:
            body += struct.pack("=I4s", 4, b"abc\0")
        if arg.kind in (ArgKind.STRING, ArgKind.ARRAY, ArgKind.FD):
            continue
        if arg.is_untyped_new_id:
            body += struct.pack("=I", 1)
        body += struct.pack("=I", number)
    return struct.pack("=II", thing.id, (len(body) + 8) << 16 | spec.opcode) + body


garbage = st.one_of(st.binary(min_size=1, max_size=30), numbers, numbers, numbers)
attachments = st.lists(
    st.builds(
        Attachment,
        st.sampled_from(AttachmentKind),
        st.sampled_from([AttachmentFlags.HOLDER_READS, AttachmentFlags.HOLDER_WRITES]),
        st.integers(0, 4),
        st.just(0),
    ),
    max_size=2,
).map(tuple)


def busy_relay(play: Stage) -> None:
    """Give ids of many kinds to something."""
    one, two = play.buffers(2)
    play.show(play.surface, one)
    play.show(play.surface, two)
    shell = play.app.bind("xdg_wm_base")
    xdg_surface = play.app.request(shell, "get_xdg_surface", play.surface.id)
    play.app.request(xdg_surface, "get_toplevel")
    seat = play.app.bind("wl_seat")
    play.app.request(seat, "get_pointer")


Garbage = bytes | list[int]


@pytest.mark.parametrize("capabilities", [ZERO_COPY, NOTHING])
@settings(max_examples=60)
@given(parts=st.lists(st.tuples(garbage, attachments), min_size=1, max_size=6))
def test_garbage_from_the_app_ends_the_app(
    capabilities: CompositorCapabilities,
    parts: list[tuple[Garbage, tuple[Attachment, ...]]],
) -> None:
    play = Stage(capabilities)
    busy_relay(play)
    play.relay.receive(ClientOpened(2, 1, 1, 1, "another"))
    for part, attached in parts:
        if isinstance(part, list):
            part = message_like(part, play.app.things, "requests")  # noqa: PLW2901
        commands = all_turns(play.relay, Data(1, part, attached))
        gone = 1 not in play.relay.client_labels
        assert ended(commands) == gone
        if gone:
            break
    assert 2 in play.relay.client_labels


@settings(max_examples=100)
@given(
    parts=st.lists(st.tuples(garbage, st.booleans()), min_size=1, max_size=6),
    pending=st.booleans(),
)
def test_garbage_from_the_compositor_ends_the_app(
    *, parts: list[tuple[Garbage, bool]], pending: bool
) -> None:
    preference = Preference.DMABUF if pending else Preference.AUTO
    play = Stage(config=RelayConfig(preference=preference))
    play.host.imports = "hold" if pending else "accept"
    busy_relay(play)
    play.relay.receive(ClientOpened(2, 1, 1, 1, "another"))
    for index, (part, with_fd) in enumerate(parts):
        if isinstance(part, list):
            part = message_like(part, play.host.things, "events")  # noqa: PLW2901
        fd = ReceivedFd(Handle(2 * index + 1), FdKind.FILE, 10)
        fds = [fd] if with_fd else []
        commands = play.relay.receive(FromCompositor(1, part, fds))
        gone = 1 not in play.relay.client_labels
        assert any(isinstance(command, CloseClient) for command in commands) == gone
        if gone:
            break
    # The app goes on, and so does what was put off.
    if 1 in play.relay.client_labels:
        all_turns(play.relay, Data(1, b"\1\0\0\0\1\0\x0c\0\x50\0\0\0"))
    assert 2 in play.relay.client_labels


def test_the_compositor_speaks_of_what_nobody_knows() -> None:
    play = Playbook()

    play.from_compositor(struct.pack("=II", 77, 8 << 16))

    assert play.app.error == (1, 3, f"wlproxy: {COMPOSITOR_ERRED}")
    assert play.closed is not None
    assert play.closed.reason is CloseReason.FAILED
    [warning] = play.warnings()
    assert warning.endswith("it sent an event of unknown object 77")


@pytest.mark.parametrize(
    "event",
    [
        struct.pack("=II", 1, 7 << 16),
        struct.pack("=II", 1, 6 << 16),
        struct.pack("=II", 1, 8 << 16 | 9),
        struct.pack("=II", 1, 8 << 16 | 1),
        struct.pack("=III", 1, 12 << 16, 1),
    ],
    ids=["size 7", "size 6", "opcode 9", "no argument", "cut short"],
)
def test_an_event_that_is_malformed_is_not_the_apps_fault(event: bytes) -> None:
    play = Playbook()

    play.from_compositor(event)

    assert play.app.error == (1, 3, f"wlproxy: {COMPOSITOR_ERRED}")
    assert play.closed is not None
    assert play.closed.reason is CloseReason.FAILED


def test_an_event_without_its_fd_is_not_the_apps_fault() -> None:
    play = Stage()
    seat = play.app.bind("wl_seat")
    play.app.request(seat, "get_keyboard")
    keyboard = play.host_thing("wl_keyboard")
    spec = keyboard.interface.event("keymap")

    play.from_compositor(encode_message(keyboard.id, spec, (1, None, 10)))

    assert play.app.error == (1, 3, f"wlproxy: {COMPOSITOR_ERRED}")


@pytest.mark.parametrize("named", ["wl_seat", "own pool", "unknown"])
def test_an_event_names_an_object_of_another_kind(named: str) -> None:
    play = Stage()
    seat = play.app.bind("wl_seat")
    play.app.request(seat, "get_keyboard")
    keyboard = play.host_thing("wl_keyboard")
    play.relay.edit(add_own("wl_shm_pool", 77))
    ids = {
        "wl_seat": play.host_thing("wl_seat").id,
        "own pool": 77,
        "unknown": 4999,
    }
    spec = keyboard.interface.event("enter")

    play.from_compositor(encode_message(keyboard.id, spec, (1, ids[named], b"")))

    assert play.app.error == (1, 3, f"wlproxy: {COMPOSITOR_ERRED}")
    [warning] = play.warnings()
    assert str(ids[named]) in warning


def test_fds_may_wait_for_their_turn_in_any_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "MAX_WAITING_FDS", 3)
    play = Stage()
    attached = [play.memory(4096) for _ in range(100)]
    spec = play.shm.interface.request("create_pool")
    pools = b"".join(
        encode_message(play.shm.id, spec, (100 + number, None, 4096))
        for number in range(100)
    )

    play.send(pools, attached)

    assert play.app.error is None
    assert play.closed is None


def test_good_messages_before_a_bad_one_count() -> None:
    play = Playbook()
    data, callback = play.app.encode(play.app.display, "sync", ())
    assert callback is not None

    play.send(data + b"\x01\0\0\0\0\0\x05\0")

    assert play.said()[0] == "host: wl_display@1.sync(new wl_callback@3)"
    assert play.closed is not None


def test_good_ones_that_go_in_one_piece_count_as_well() -> None:
    play = Stage()
    damage, _ = play.app.encode(play.surface, "damage", (1, 2, 3, 4))
    unknown = struct.pack("=II", 99, 8 << 16)

    play.send(2 * damage + unknown + damage)

    assert play.said()[:2] == 2 * ["host: wl_surface@5.damage(1, 2, 3, 4)"]
    assert play.app.error == (1, 0, "invalid object 99")


def test_good_events_before_a_bad_one_count() -> None:
    play = Stage()
    play.app.request(play.app.bind("wl_seat"), "get_pointer")
    pointer = play.host_thing("wl_pointer")
    frame = encode_message(pointer.id, pointer.interface.event("frame"), ())
    play.said()

    play.from_compositor(2 * frame + struct.pack("=II", 99, 8 << 16) + frame)

    assert play.said_by("app")[:2] == 2 * ["wl_pointer@7.frame()"]
    assert play.app.error == (1, 3, f"wlproxy: {COMPOSITOR_ERRED}")


def test_more_fds_than_anybody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_WAITING_FDS", 3)
    play = Playbook()
    play.send(b"\1\0", [READ_END] * 3)
    assert play.closed is None

    play.send(b"\0\0", [READ_END])

    assert play.app.error == (1, 2, "too many fds")


def test_more_fds_than_the_compositor_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_WAITING_FDS", 3)
    play = Playbook()

    fds = [ReceivedFd(Handle(n), FdKind.FILE, 1) for n in (1, 3, 5, 7)]
    play.from_compositor(b"\1\0", *fds)

    assert play.app.error == (1, 3, f"wlproxy: {COMPOSITOR_ERRED}")


def test_after_an_error_there_is_no_second_one() -> None:
    play = Playbook()
    play.host.event(play.host.display, "error", 1, 0, b"invalid object")
    play.flush()

    play.send(b"\xff\xff\0\0\0\0\x08\0")

    assert play.app.error == (1, 0, "invalid object")
    assert play.closed is not None


def test_a_flood_of_objects() -> None:
    play = Playbook()

    for _ in range(3_000):
        play.app.request(play.app.display, "sync")

    assert play.closed is None
    left = play.relay.holdings().clients[1]
    assert len(left.guest_objects) + len(left.host_objects) < 10


def test_a_buffer_is_destroyed_twice() -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers()
    play.show(play.surface, one)
    play.show(play.surface, None)
    play.deliver = False  # its id is not free yet
    play.app.request(one, "destroy")

    play.app.request(one, "destroy")

    assert play.app.error == (1, 0, f"invalid object {one.id}")


# ---------------------------------------------------------------- waiting


class Judged:
    """Counts the requests of a client that are looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._number = 0
        monkeypatch.setattr(client_module, "request_plan", self._look)

    def number(self) -> int:
        """How many, since the last call."""
        number, self._number = self._number, 0
        return number

    def _look(self, entry: ProtocolObject, opcode: int) -> RequestPlan:
        self._number += 1
        return request_plan(entry, opcode)


@pytest.mark.parametrize("step", ["locate", "create", "import"])
def test_who_waits_is_not_asked_again(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = Judged(monkeypatch)
    play = Stage(config=RelayConfig(preference=Preference.DMABUF))
    play.hold(step)
    (one,) = play.buffers()
    play.show(play.surface, one)
    play.relay.go_alone()
    judged.number()

    for _ in range(100):
        play.from_compositor(b"")
        play.send(b"")
    assert not judged.number()

    play.answer(step)
    assert judged.number() == 1  # the commit: it is all that there was
    assert play.host_pixels() == play.pixels(one)


def test_a_roundtrip_after_create_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = Judged(monkeypatch)
    play = DmabufStage()
    play.host.imports = "hold"
    play.create()
    play.create()
    play.app.request(play.app.display, "sync")
    play.relay.go_alone()
    judged.number()

    for _ in range(100):
        play.from_compositor(b"")
    play.host.waiting.pop(0)()
    play.flush()
    assert not judged.number()  # one of the two is awaited yet

    play.host.answer()
    play.flush()
    assert judged.number() == 1
    assert len(play.app.created) == 2


def test_who_is_woken_for_something_else_goes_on_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = Judged(monkeypatch)
    play = DmabufStage()
    play.host.imports = "hold"
    play.create()
    play.holds_locate = True
    (one,) = play.buffers()
    play.show(play.surface, one)
    play.relay.go_alone()
    judged.number()

    play.host.answer()
    play.flush()
    assert len(play.app.created) == 1
    assert judged.number() == 1  # a roundtrip might have gone on
    assert "current" not in play.host_thing("wl_surface").facts

    play.answer_locate()
    assert judged.number() == 1
    assert play.host_pixels() == play.pixels(one)


def test_a_bind_of_what_nobody_knows_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = Judged(monkeypatch)
    play = Playbook()
    play.host.answers_sync = False
    play.host.globals[40] = ("wl_output", 4)
    play.app.globals = {40: ("wl_output", 4)}
    play.app.bind("wl_output")
    play.relay.go_alone()
    judged.number()

    for _ in range(100):
        play.from_compositor(b"")
    assert not judged.number()

    play.host.event(play.host_thing("wl_registry"), "global", 40, b"wl_output", 4)
    play.flush()
    assert not judged.number()  # the answer to the question is on its way
    play.host.answer()
    play.flush()
    assert judged.number() == 1
    assert play.app.error is None


# ---------------------------------------------------------------- own objects' events


def test_an_event_about_an_own_object_may_carry_anything() -> None:
    play = Stage()
    play.relay.edit(add_own("wl_keyboard", 77))
    spec = INTERFACES["wl_keyboard"].event("keymap")
    data = encode_message(77, spec, (1, None, 10))
    play.from_compositor(data, ReceivedFd(Handle(1), FdKind.FILE, 10))

    assert play.said() == ["shell: CloseHandle(1)"]
