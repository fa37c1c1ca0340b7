"""All clients of a guest: who ends, who stays, what the agent may not do."""

import struct

import pytest

from tests.relay.playbook import NOTHING, ONLY_SHM, ZERO_COPY, Playbook, Stage
from tests.relay.shell import guest_memory
from tests.relay.twins import Twins, known
from wlproxy.protocol.channel.frames import (
    MAX_TEXT,
    ClientClosed,
    ClientOpened,
    CloseReason,
    Data,
    Goodbye,
    Located,
    LocateStatus,
    Ping,
    Released,
)
from wlproxy.protocol.errors import ChannelError, LocalProtocolError
from wlproxy.protocol.notation import Plain
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import NewId
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay.buffers import offer
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.client import MESSAGES_PER_TURN
from wlproxy.relay.commands import (
    CloseClient,
    Command,
    GrantCredit,
    OpenCompositor,
    SendFrame,
    SendToCompositor,
    Trace,
    TraceLevel,
)
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import (
    BufferCreated,
    BufferFailed,
    ClientFailed,
    CompositorAway,
    CompositorClosed,
    CompositorFound,
    EventsTurn,
    FromCompositor,
    RequestsTurn,
    SessionEnded,
)
from wlproxy.relay.relay import MAX_LABEL, Relay
from wlproxy.relay.wire.context import RelayConfig


def opened(client_id: int, executable: str = "app") -> ClientOpened:
    return ClientOpened(client_id, 4711, 1000, 1000, executable)


def relay(max_clients: int = 3) -> Relay:
    return Relay(RelayConfig(), guest_memory(), NOTHING, max_clients)


def sync(new_id: int) -> bytes:
    spec = INTERFACES["wl_display"].request("sync")
    return encode_message(1, spec, (new_id,))


def sent(commands: list[Command]) -> bytes:
    """What the compositor gets."""
    return b"".join(c.data for c in commands if isinstance(c, SendToCompositor))


def to_guest(commands: list[Command]) -> bytes:
    """What the app gets."""
    frames = [c.frame for c in commands if isinstance(c, SendFrame)]
    return b"".join(frame.data for frame in frames if isinstance(frame, Data))


def credit(commands: list[Command]) -> int:
    return sum(c.amount for c in commands if isinstance(c, GrantCredit))


def test_a_client_gets_a_compositor_connection_of_its_own() -> None:
    core = relay()

    assert core.receive(opened(1)) == [
        OpenCompositor(1, "app(4711)"),
        Trace(1, TraceLevel.INFO, "app(4711) connected"),
    ]
    assert core.client_labels == {1: "app(4711)"}


@pytest.mark.parametrize(
    ("executable", "label"),
    [
        ("", "client(4711)"),
        ("\x1b[2Jevil\n", "[2Jevil(4711)"),
        ("x" * 1000, "x" * MAX_LABEL + "(4711)"),
    ],
)
def test_a_label_is_short_and_plain(executable: str, label: str) -> None:
    core = relay()

    core.receive(opened(1, executable))

    assert core.client_labels == {1: label}


def test_one_client_too_many_is_turned_away() -> None:
    core = relay(max_clients=1)
    core.receive(opened(1))

    (close,) = core.receive(opened(2))

    assert isinstance(close, CloseClient)
    assert close.reason is CloseReason.LIMIT_EXCEEDED
    # What it had sent by then is nobody's.
    assert core.receive(Data(2, b"garbage")) == []
    assert core.receive(ClientClosed(2, CloseReason.NORMAL, "")) == []


def test_a_flood_is_handled_in_turns() -> None:
    core = relay()
    for client_id in (1, 2):
        core.receive(opened(client_id))
    syncs = [sync(3 + number) for number in range(1000)]

    assert core.receive(Data(1, b"".join(syncs))) == []
    assert core.receive(Data(2, sync(3))) == []
    turns = [core.receive(RequestsTurn(1))]
    # Now the other one has its turn, and all that it wanted is done.
    assert sent(core.receive(RequestsTurn(2))) == sync(2)
    assert not core.requests_wait(2)
    while core.requests_wait(1):
        turns.append(core.receive(RequestsTurn(1)))

    sizes = [len(sent(turn)) for turn in turns]
    assert max(sizes) == MESSAGES_PER_TURN * 12
    assert sum(sizes) == 12_000
    # Its credit comes back as it goes, in the order of its requests.
    assert [credit(turn) for turn in turns] == sizes
    assert b"".join(map(sent, turns)) == b"".join(sync(2 + n) for n in range(1000))
    assert core.receive(RequestsTurn(1)) == []


def test_a_message_in_pieces_is_no_turn() -> None:
    core = relay()
    core.receive(opened(1))

    core.receive(Data(1, sync(3)[:8]))

    assert core.receive(RequestsTurn(1)) == []
    assert not core.requests_wait(1)
    core.receive(Data(1, sync(3)[8:]))
    commands = core.receive(RequestsTurn(1))
    assert (len(sent(commands)), credit(commands)) == (12, 12)


def test_a_flood_of_events_is_handled_in_turns() -> None:
    play = Playbook()
    registry = play.host_thing("wl_registry")
    remove = registry.interface.event("global_remove")
    [name] = [n for n, (i, _) in play.host.globals.items() if i == "wl_compositor"]
    event = encode_message(registry.id, remove, (name,))

    turns = [play.relay.receive(FromCompositor(1, event * 100, ()))]
    while play.relay.events_wait(1):
        turns.append(play.relay.receive(EventsTurn(1)))

    told = [len(to_guest(turn)) // len(event) for turn in turns]
    assert max(told) == MESSAGES_PER_TURN
    assert sum(told) == 100
    assert play.relay.receive(EventsTurn(1)) == []


def test_a_client_that_was_closed_has_no_turn_any_more() -> None:
    core = relay()
    core.receive(opened(1))
    core.receive(Data(1, sync(3)))

    core.receive(ClientClosed(1, CloseReason.NORMAL, ""))

    assert not core.requests_wait(1)
    assert not core.events_wait(1)
    assert core.receive(RequestsTurn(1)) == core.receive(EventsTurn(1)) == []


def _err(_context: object) -> bool:
    return bool(1 // 0)


def able(
    core: Relay | Twins, capabilities: CompositorCapabilities
) -> list[dict[str, Plain]]:
    """The clients to which the host is able to do this."""
    return [
        each
        for each in known(core, "Context")
        if isinstance(found := each["capabilities"], dict)
        and found["dmabuf_reason"] == capabilities.dmabuf_reason
    ]


def test_what_was_half_done_for_a_client_that_failed_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(offer, "is_advertised", _err)
    core = relay()
    core.receive(opened(1))
    core.receive(Data(1, struct.pack("=3I", 1, 12 << 16 | 1, 2)))
    with pytest.raises(ZeroDivisionError):  # a bug of ours
        core.receive(RequestsTurn(1))

    event, trace, close = core.receive(ClientFailed(1, CloseReason.FAILED, "no"))

    assert isinstance(event, SendFrame)
    assert isinstance(trace, Trace)
    assert trace.message == "app(4711): no"
    assert close == CloseClient(1, CloseReason.FAILED, "wlproxy: no")


@pytest.mark.parametrize("client_id", [0, 1])
def test_a_client_id_is_never_used_twice(client_id: int) -> None:
    core = relay()
    core.receive(opened(1))

    with pytest.raises(ChannelError, match="used again"):
        core.receive(opened(client_id))


@pytest.mark.parametrize("client_id", [0, 5])
def test_data_of_a_client_that_never_was(client_id: int) -> None:
    core = relay()
    core.receive(opened(1))

    with pytest.raises(ChannelError, match="never opened"):
        core.receive(Data(client_id, b"12345678"))
    with pytest.raises(ChannelError, match="never opened"):
        core.receive(Released(client_id, 1))


def test_a_frame_that_is_none_of_its_business() -> None:
    with pytest.raises(LocalProtocolError):
        relay().receive(Ping(1))  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError):
        relay().receive(Goodbye(CloseReason.NORMAL, ""))  # type: ignore[arg-type]


def test_the_guest_closes_a_client() -> None:
    core = relay()
    core.receive(opened(1))

    commands = core.receive(ClientClosed(1, CloseReason.NORMAL, "bye"))

    assert commands == [
        Trace(1, TraceLevel.INFO, "app(4711) left bye"),
        CloseClient(1, CloseReason.NORMAL, "bye", silent=True),
    ]
    assert core.client_labels == {}


def test_a_client_that_is_gone_hears_nothing_and_does_nothing() -> None:
    core = relay()
    core.receive(opened(1))
    core.receive(ClientClosed(1, CloseReason.NORMAL, ""))

    located = Located(1, 1, LocateStatus.FAILED, 5, False, ())

    assert core.receive(Data(1, b"12345678")) == []
    assert core.receive(located) == []
    assert core.receive(Released(1, 1)) == []
    assert core.receive(ClientClosed(1, CloseReason.NORMAL, "")) == []
    assert core.receive(FromCompositor(1, b"12345678", ())) == []
    assert core.receive(BufferCreated(1, Handle(2))) == []
    assert core.receive(BufferFailed(1, Handle(2), 12, "no")) == []
    assert core.receive(CompositorClosed(1, "gone")) == []


def test_new_abilities_are_for_clients_yet_to_come() -> None:
    play = Stage(NOTHING)
    play.relay.receive(CompositorFound(ONLY_SHM))
    (one,) = play.buffers(1)
    play.show(play.surface, one)
    assert play.mode == "C"

    play.relay.receive(opened(2))
    assert [each["client_id"] for each in able(play.relay, ONLY_SHM)] == [2]


def test_a_client_that_comes_while_there_is_no_compositor_waits() -> None:
    """What it is offered depends on what the next one can do."""
    core = relay()
    core.receive(opened(1))
    core.receive(CompositorAway())
    core.receive(opened(2))
    get_registry = Data(2, struct.pack("=4I", 1, 12 << 16 | 1, 2, 0)[:12])

    assert core.receive(get_registry) == []  # and no credit either

    commands = core.receive(CompositorFound(ONLY_SHM))
    assert [type(each) for each in commands] == [SendToCompositor, GrantCredit]
    assert {each.client_id for each in commands} == {2}
    assert [each["client_id"] for each in able(core, ONLY_SHM)] == [2]
    assert core.receive(CompositorFound(NOTHING)) == []
    assert [each["client_id"] for each in able(core, ONLY_SHM)] == [2]  # it goes on so


def test_a_client_that_waits_may_break_the_rules_or_leave() -> None:
    core = relay()
    core.receive(CompositorAway())
    for client_id in (1, 2):
        core.receive(opened(client_id))
        core.receive(Data(client_id, struct.pack("=4I", 99, 16 << 16, 0, 0)))
    core.receive(ClientClosed(1, CloseReason.NORMAL, ""))

    commands = core.receive(CompositorFound(ONLY_SHM))

    [closed] = [each for each in commands if isinstance(each, CloseClient)]
    assert (closed.client_id, closed.reason) == (2, CloseReason.PROTOCOL_ERROR)


def test_the_compositor_hangs_up_and_the_app_is_told() -> None:
    play = Playbook()
    play.relay.receive(opened(2))

    play.run(play.relay.receive(CompositorClosed(1, "the compositor hung up")))

    assert play.app.error == (1, 3, "wlproxy: the compositor hung up")
    assert play.closed is not None
    assert play.closed.reason is CloseReason.COMPOSITOR_GONE
    assert list(play.relay.client_labels) == [2]


def test_what_the_shell_cannot_do_ends_the_client_which_is_told() -> None:
    play = Playbook()

    play.run(
        play.relay.receive(ClientFailed(1, CloseReason.LIMIT_EXCEEDED, "65 pipes"))
    )

    assert play.app.error == (1, 2, "wlproxy: 65 pipes")
    assert play.closed is not None
    assert play.closed.reason is CloseReason.LIMIT_EXCEEDED
    assert play.relay.receive(ClientFailed(1, CloseReason.FAILED, "again")) == []


def test_the_compositor_hangs_up_after_an_error() -> None:
    play = Playbook()
    play.host.event(play.host.display, "error", 1, 3, b"no")
    play.flush()

    play.run(play.relay.receive(CompositorClosed(1, "hung up")))

    assert play.closed is not None
    assert play.closed.reason is CloseReason.PROTOCOL_ERROR
    assert play.app.error == (1, 3, "no")


def test_the_end_of_the_session_closes_everybody() -> None:
    core = relay()
    core.receive(opened(1))
    core.receive(opened(2))

    assert core.receive(SessionEnded(CloseReason.FAILED, "the channel closed")) == [
        CloseClient(1, CloseReason.FAILED, "the channel closed"),
        CloseClient(2, CloseReason.FAILED, "the channel closed"),
    ]
    assert core.client_labels == {}


def test_a_client_that_errs_ends_alone_and_is_told() -> None:
    play = Playbook()
    play.run(play.relay.receive(opened(2)))

    play.send(b"\x63\0\0\0\0\0\x08\0")

    assert play.app.error == (1, 0, "invalid object 99")
    assert play.closed is not None
    assert play.closed.reason is CloseReason.PROTOCOL_ERROR
    assert list(play.relay.client_labels) == [2]
    assert "app(4711): object 1, error 0: invalid object 99" in play.warnings()


def test_an_error_that_quotes_a_peer_at_length_is_cut() -> None:
    play = Playbook()
    spec = play.app.registry.interface.request("bind")
    absurd = NewId(b"\xff" + b"x" * 60000, 1, 50)

    play.send(encode_message(play.app.registry.id, spec, (1, absurd)))

    assert play.app.error is not None
    assert play.app.error[2].startswith("invalid global \ufffdxxx")
    assert play.closed is not None
    assert len(play.closed.message.encode()) <= MAX_TEXT


@pytest.mark.parametrize("message", ["x" * 5000, "\xe4" * 5000, "a\0b", "\udcff"])
def test_whatever_ends_a_client_fits_its_frame(message: str) -> None:
    core = relay()
    core.receive(opened(1))
    core.receive(opened(2))

    commands = core.receive(CompositorClosed(1, message)) + core.receive(
        SessionEnded(CloseReason.FAILED, message)
    )
    closed = [command for command in commands if isinstance(command, CloseClient)]
    assert [command.client_id for command in closed] == [1, 2]
    for close in closed:
        assert len(close.message.encode()) <= MAX_TEXT
        assert "\0" not in close.message


def test_credit_comes_back_for_what_was_handled() -> None:
    play = Playbook()
    before = play.credit

    data, _callback = play.app.encode(play.app.display, "sync", ())

    for start in range(0, 12, 4):
        play.send(data[start : start + 4])

    assert play.credit - before == 12


def test_no_bytes_are_no_credit() -> None:
    core = relay()
    core.receive(opened(1))

    assert core.receive(Data(1, b"")) == []


def test_every_surface_is_reported() -> None:
    play = Playbook(ZERO_COPY)
    surfaces = play.app.bind("wl_compositor")
    play.app.request(surfaces, "create_surface")

    (status,) = play.relay.surfaces()

    assert status.mode == "none"
    assert status.label == "app(4711)"
    assert status.frames == status.bytes_copied == status.width == status.height == 0
