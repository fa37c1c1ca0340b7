"""Forwarding: every message of every allowed interface, ids and fds translated."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relay.playbook import ZERO_COPY, Playbook, Stage
from tests.relay.shell import guest_memory
from tests.relay.things import SERVER
from tests.relay.twins import forget_guest
from tests.tables.families import messages, relayed
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    Data,
)
from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue, RawMessage
from wlproxy.protocol.wayland.wire import decode_message, encode_message
from wlproxy.relay.client import Client
from wlproxy.relay.commands import (
    AdoptStream,
    Command,
    CreateStream,
    Direction,
    SendContents,
    SendFile,
    SendFrame,
    SendToCompositor,
)
from wlproxy.relay.filters import EVENT_FILTERS, REQUEST_FILTERS
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import (
    EventsTurn,
    FdKind,
    FromCompositor,
    ReceivedFd,
    RequestsTurn,
)
from wlproxy.relay.policy import effective_policy
from wlproxy.relay.quotas import Quotas, Shares
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.context import Context, RelayConfig, Shared
from wlproxy.relay.wire.objects import ProtocolObject
from wlproxy.relay.wire.passed_fds import PURPOSES, Purpose, purpose_of

WRITE_END = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES, 2, 0)
READ_END = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS, 4, 0)


def reachable() -> list[str]:
    """Every interface whose messages a guest may meet under the default policy."""
    found, waiting = set(), ["wl_display", *effective_policy()]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            interface = INTERFACES[name]
            waiting += [
                arg.interface
                for spec in interface.requests + interface.events
                for arg in spec.args
                if arg.interface is not None
            ]
    return sorted(found)


class World:
    """A client with one object of every interface, ids differing on both sides."""

    def __init__(self) -> None:
        shared = Shared(RelayConfig(), guest_memory(), Quotas(1 << 30))
        context = Context(1, "app(1)", shared, ZERO_COPY, Shares(shared.quotas))
        self.table = context.objects
        self.state = ClientState(context)
        self.client = Client(context, self.state)
        for _ in range(7):
            self.table.add_own(INTERFACES["wl_callback"], 1)
        self.entries: dict[str, ProtocolObject] = {"wl_display": self.table.display}
        for guest_id, name in enumerate(reachable(), 2):
            if name != "wl_display":
                version = INTERFACES[name].version
                entry = self.table.add_guest(guest_id, INTERFACES[name], version)
                self.table.give_host_id(entry)
                self.entries[name] = entry
        self.state.surfaces.create(self.entries["wl_surface"])
        self.new_id = 900

    def receive(self, given: Data | FromCompositor | EventsTurn) -> list[Command]:
        self.client.receive(given)
        while self.client.requests_wait:
            self.client.receive(RequestsTurn(1))
        return self.client.take()

    def args(self, spec: MessageSpec, *, from_guest: bool) -> list[ArgValue]:
        return [self._value(arg, from_guest=from_guest) for arg in spec.args]

    def _value(self, arg: ArgSpec, *, from_guest: bool) -> ArgValue:
        match arg.kind:
            case ArgKind.INT | ArgKind.FIXED:
                return -77
            case ArgKind.UINT:
                return 0xFFFFFFF1
            case ArgKind.STRING:
                return b"text"
            case ArgKind.ARRAY:
                return b"\0\1\2\3\4"
            case ArgKind.FD:
                return None
            case ArgKind.NEW_ID:
                self.new_id += 1
                return self.new_id if from_guest else SERVER
            case ArgKind.OBJECT:
                entry = self.entries[arg.interface or "wl_output"]
                return entry.guest_id if from_guest else entry.host_id


def unclaimed(side: str) -> Iterator[MessageSpec]:
    claimed = REQUEST_FILTERS if side == "requests" else EVENT_FILTERS
    for name in reachable():
        specs: tuple[MessageSpec, ...] = getattr(INTERFACES[name], side)
        for spec in specs:
            if (name, spec.name) not in claimed:
                yield spec


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def only_send(commands: list[Command]) -> SendToCompositor:
    (send,) = [c for c in commands if isinstance(c, SendToCompositor)]
    return send


@pytest.mark.parametrize("spec", list(unclaimed("requests")), ids=str)
def test_a_request_is_forwarded_verbatim(world: World, spec: MessageSpec) -> None:
    entry = world.entries[spec.interface]
    args = world.args(spec, from_guest=True)
    data = encode_message(entry.guest_id, spec, args)

    commands = world.receive(Data(1, data, (WRITE_END,) * spec.fd_count))

    send = only_send(commands)
    raw = RawMessage(entry.host_id, spec.opcode, bytearray(send.data))
    message = decode_message(spec, raw, list(send.handles))
    assert send.data[:4] == entry.host_id.to_bytes(4, "little")
    for arg, sent, seen in zip(spec.args, args, message.args, strict=True):
        if arg.is_id:
            assert isinstance(seen, int)
            assert isinstance(sent, int)
            assert world.table.host(seen) is world.table.guest(sent)
            assert seen != sent
        else:
            assert seen == sent
    created = [c for c in commands if isinstance(c, CreateStream)]
    assert [c.handle for c in created] == list(message.fds)
    assert all(c.direction is Direction.TO_GUEST for c in created)


@pytest.mark.parametrize("spec", list(unclaimed("events")), ids=str)
@pytest.mark.parametrize("kind", [FdKind.FILE, FdKind.STREAM])
def test_an_event_is_forwarded_verbatim(
    world: World, spec: MessageSpec, kind: FdKind
) -> None:
    if kind is FdKind.STREAM and not spec.fd_count:
        return
    entry = world.entries[spec.interface]
    args = world.args(spec, from_guest=False)
    data = encode_message(entry.host_id, spec, args)
    way = Direction.TO_COMPOSITOR if kind is FdKind.STREAM else None
    size = 5 if kind is FdKind.FILE else 0
    fds = [ReceivedFd(Handle(11), kind, size, way)] * spec.fd_count

    commands = world.receive(FromCompositor(1, data, fds))

    (frame,) = [c.frame for c in commands if isinstance(c, SendFrame)]
    assert isinstance(frame, Data)
    raw = RawMessage(entry.guest_id, spec.opcode, bytearray(frame.data))
    message = decode_message(spec, raw, list(frame.attachments))
    assert frame.data[:4] == entry.guest_id.to_bytes(4, "little")
    for arg, sent, seen in zip(spec.args, args, message.args, strict=True):
        if arg.is_id:
            assert isinstance(seen, int)
            assert isinstance(sent, int)
            assert world.table.guest(seen) is world.table.host(sent)
        else:
            assert seen == sent
    purpose = purpose_of(spec.interface, spec.name)
    for attachment in message.fds:
        if purpose is Purpose.CONTENTS and kind is FdKind.STREAM:
            assert attachment.kind is AttachmentKind.FILE
            assert SendContents(1, attachment.object_id, b"") in commands
        elif kind is FdKind.FILE and purpose is not Purpose.WRITTEN:
            assert attachment.kind is AttachmentKind.FILE
            assert SendFile(1, attachment.object_id, Handle(11), 5) in commands
        else:
            assert attachment.flags is AttachmentFlags.HOLDER_WRITES
            assert attachment.object_id % 2 == 1
            to_write = Direction.TO_COMPOSITOR
            adopt = AdoptStream(1, attachment.object_id, Handle(11), to_write)
            assert adopt in commands


def forwarded(commands: list[Command]) -> bytes:
    """What the other side gets."""
    found = b""
    for command in commands:
        match command:
            case SendToCompositor(data=data) | SendFrame(frame=Data(data=data)):
                found += data
            case _:
                pass
    return found


DAMAGE = [INTERFACES["wl_surface"].request(n) for n in ("damage", "damage_buffer")]


@pytest.mark.parametrize("side", ["requests", "events"])
@settings(max_examples=30)
@given(choices=st.lists(st.integers(0, 1 << 16), min_size=2, max_size=40))
def test_messages_go_together_as_each_would_alone(
    side: str, choices: list[int]
) -> None:
    specs = [spec for spec in unclaimed(side) if not spec.fd_count]
    # Half of them without ids: many of these in a row are the usual case.
    plain = [spec for spec in specs if not spec.has_ids]
    specs = [*specs, *plain, *(DAMAGE if side == "requests" else [])]
    alone, together = World(), World()
    messages = []
    for choice in choices:
        spec = specs[choice % len(specs)]
        entry = alone.entries[spec.interface]
        args = alone.args(spec, from_guest=side == "requests")
        sender = entry.guest_id if side == "requests" else entry.host_id
        messages.append(encode_message(sender, spec, args))

    def told(world: World, data: bytes) -> bytes:
        given = Data(1, data) if side == "requests" else FromCompositor(1, data)
        commands = world.receive(given)
        while world.client.events_wait:
            commands += world.receive(EventsTurn(1))
        return forwarded(commands)

    each = b"".join(told(alone, message) for message in messages)

    assert told(together, b"".join(messages)) == each
    assert len(each) == sum(map(len, messages))


def test_every_claimed_message_exists() -> None:
    for interface, name in REQUEST_FILTERS:
        assert INTERFACES[interface].request(name).interface == interface
    for interface, name in EVENT_FILTERS:
        assert INTERFACES[interface].event(name).interface == interface


# ---------------------------------------------------------------- server-range ids


def offered(play: Playbook) -> None:
    """Have the compositor offer a selection."""
    devices = play.app.bind("wl_data_device_manager")
    seat = play.app.bind("wl_seat")
    play.app.request(devices, "get_data_device", seat.id)
    device = play.host_thing("wl_data_device")
    offer = play.host.event(device, "data_offer")
    play.host.event(offer, "offer", b"text/plain")
    play.host.event(device, "selection", offer.id)
    play.flush()


def test_an_offer_comes_is_read_and_goes() -> None:
    play = Playbook()
    offered(play)
    assert play.said()[-3:] == [
        f"app: wl_data_device@5.data_offer(new wl_data_offer@{SERVER})",
        f"app: wl_data_offer@{SERVER}.offer('text/plain')",
        f"app: wl_data_device@5.selection(@{SERVER})",
    ]

    (offer,) = play.app.created
    play.app.request(offer, "receive", b"text/plain", attach=[WRITE_END])
    assert play.said() == [
        "shell: CreateStream(2, to guest)",
        f"host: wl_data_offer@{SERVER}.receive('text/plain', fd 2)",
        "shell: CloseHandle(2)",  # or the app would never read its end
    ]
    play.app.request(offer, "destroy")
    device = play.host_thing("wl_data_device")
    offered_again = play.host.event(device, "data_offer")
    play.host.event(device, "selection", offered_again.id)
    play.flush()

    assert offered_again.id == SERVER
    assert [thing.id for thing in play.app.created] == [SERVER, SERVER]


def test_events_of_an_offer_that_the_app_has_freed() -> None:
    play = Playbook()
    offered(play)
    device, offer = play.host_thing("wl_data_device"), play.host_thing("wl_data_offer")
    play.deliver = False
    play.host.event(offer, "offer", b"text/html")
    play.host.event(device, "selection", offer.id)
    play.host.event(device, "enter", 1, play.host.display.id, 0, 0, offer.id)
    play.host.out.pop()
    play.app.request(play.app.created[0], "destroy")
    play.said()

    play.flush()

    assert play.said() == ["app: wl_data_device@5.selection(null)"]


def test_the_app_writes_what_the_compositor_asks_for() -> None:
    play = Playbook()
    devices = play.app.bind("wl_data_device_manager")
    play.app.request(devices, "create_data_source")
    source = play.host_thing("wl_data_source")
    play.said()

    pipe = ReceivedFd(Handle(1), FdKind.STREAM, 0, Direction.TO_COMPOSITOR)
    play.host.event(source, "send", b"text/plain", fds=[pipe])
    play.flush()

    assert play.said() == [
        "shell: AdoptStream(1, to compositor)",
        "app: wl_data_source@4.send('text/plain', fd stream 1)",
    ]
    assert play.app.received[0].flags is AttachmentFlags.HOLDER_WRITES


@pytest.mark.parametrize("kind", FdKind)
@pytest.mark.parametrize("direction", [None, *Direction])
def test_what_a_source_sends_into_is_written_to_whatever_it_is(
    kind: FdKind, direction: Direction | None
) -> None:
    play = Playbook()
    devices = play.app.bind("wl_data_device_manager")
    play.app.request(devices, "create_data_source")
    source = play.host_thing("wl_data_source")
    play.said()

    passed = ReceivedFd(Handle(1), kind, 0, direction)
    play.host.event(source, "send", b"text/plain", fds=[passed])
    play.flush()

    assert play.said()[0] == "shell: AdoptStream(1, to compositor)"
    assert play.app.received[0].flags is AttachmentFlags.HOLDER_WRITES


def test_a_keymap_is_carried_as_a_file() -> None:
    play = Playbook()
    play.app.request(play.app.bind("wl_seat"), "get_keyboard")
    play.said()

    keymap = ReceivedFd(Handle(1), FdKind.FILE, 60000)
    play.host.event(play.host_thing("wl_keyboard"), "keymap", 1, 60000, fds=[keymap])
    play.flush()

    assert play.said() == [
        "shell: SendFile(1)",
        "app: wl_keyboard@4.keymap(1, fd file 1, 60000)",
    ]
    assert play.app.received[0].size == 60000


@pytest.mark.parametrize("kind", [FdKind.OTHER, FdKind.STREAM])
def test_a_keymap_that_is_no_file_arrives_empty(kind: FdKind) -> None:
    play = Playbook()
    play.app.request(play.app.bind("wl_seat"), "get_keyboard")
    play.said()

    play.host.event(
        *(play.host_thing("wl_keyboard"), "keymap", 0, 0),
        fds=[ReceivedFd(Handle(1), kind)],
    )
    play.flush()

    assert play.said() == [
        "shell: CloseHandle(1)",
        "shell: SendContents(1)",
        "app: wl_keyboard@4.keymap(0, fd file 1, 0)",
    ]
    assert play.app.received[0].size == 0


MODES = [
    AttachmentFlags.NONE,
    AttachmentFlags.HOLDER_READS,
    AttachmentFlags.HOLDER_WRITES,
    AttachmentFlags.HOLDER_READS | AttachmentFlags.HOLDER_WRITES,
]


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        *((AttachmentKind.OTHER, flags) for flags in MODES),
        (AttachmentKind.MEMORY, AttachmentFlags.NONE),
        (AttachmentKind.MEMORY, AttachmentFlags.MEMORY_WRITABLE),
        (AttachmentKind.MEMORY, AttachmentFlags.MEMORY_DMABUF),
    ],
)
def test_whatever_an_app_has_pasted_into_becomes_a_stream(
    kind: AttachmentKind, flags: AttachmentFlags
) -> None:
    play = Playbook()
    offered(play)
    play.said()

    passed = Attachment(kind, flags, 7, 0)
    play.app.request(play.app.created[0], "receive", b"x", attach=[passed])

    assert play.said()[:2] == [
        "agent: OpenStream(7, 1)",
        "shell: CreateStream(1, to guest)",
    ]
    assert play.closed is None


def test_a_pipe_that_is_open_the_wrong_way_is_of_no_use() -> None:
    play = Playbook()
    offered(play)
    play.said()

    play.app.request(play.app.created[0], "receive", b"x", attach=[READ_END])

    assert play.said()[0] == "shell: CreateStream(4, to guest, unusable)"
    assert play.closed is None


def passed(kind: AttachmentKind, flags: AttachmentFlags) -> list[Command]:
    """What follows from a request whose fd is for something that we do not know."""
    world = World()
    fd = ArgSpec(ArgKind.FD)
    spec = MessageSpec("wl_seat", "take", 0, 1, (fd,))
    data = bytearray(encode_message(2, spec, (None,)))
    attachment = Attachment(kind, flags, 8, 0)
    seat = world.entries["wl_seat"]
    world.state.forward_raw(seat, spec, RawMessage(2, 0, data), (attachment,))
    return world.state.context.outbox.take()


@pytest.mark.parametrize(
    ("kind", "flags", "direction"),
    [
        (AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS, Direction.TO_COMPOSITOR),
        (AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES, Direction.TO_GUEST),
        (AttachmentKind.OTHER, AttachmentFlags.HOLDER_READS, Direction.TO_COMPOSITOR),
        (AttachmentKind.OTHER, AttachmentFlags.HOLDER_WRITES, Direction.TO_GUEST),
        (AttachmentKind.OTHER, MODES[3], Direction.TO_GUEST),
    ],
)
def test_an_fd_for_we_know_not_what_goes_the_way_it_is_open(
    kind: AttachmentKind, flags: AttachmentFlags, direction: Direction
) -> None:
    (created,) = [c for c in passed(kind, flags) if isinstance(c, CreateStream)]
    assert (created.direction, created.usable) == (direction, True)


@pytest.mark.parametrize("kind", [AttachmentKind.MEMORY, AttachmentKind.OTHER])
def test_an_fd_that_cannot_be_forwarded_ends_the_client(kind: AttachmentKind) -> None:
    message = f"wlproxy: cannot forward the {kind.name} fd of wl_seat.take"
    with pytest.raises(WaylandError, match=message):
        passed(kind, AttachmentFlags.NONE)


def test_every_message_with_an_fd_has_been_thought_of() -> None:
    """All that a guest may have, by default or on request."""
    with_fds = {
        (spec.interface, spec.name)
        for name in relayed()
        for spec in messages(name)
        if spec.fd_count
    }
    assert with_fds <= PURPOSES.keys() | REQUEST_FILTERS.keys()


def test_what_a_zombie_creates_is_known() -> None:
    play = Stage()
    devices = play.app.bind("wl_data_device_manager")
    seat = play.app.bind("wl_seat")
    device = play.app.request(devices, "get_data_device", seat.id)
    host_device = play.host_thing("wl_data_device")
    play.relay.edit(forget_guest(device.id))
    play.said()

    offer = play.host.event(host_device, "data_offer")
    play.host.event(offer, "offer", b"text/plain")
    play.host.event(host_device, "selection", offer.id)
    play.flush()

    assert play.said() == [f"host: wl_data_offer@{SERVER}.destroy()"]
    assert play.closed is None


def test_an_object_that_must_be_there_is_gone() -> None:
    play = Stage()
    seat = play.app.bind("wl_seat")
    keyboard = play.app.request(seat, "get_keyboard")
    play.relay.edit(forget_guest(play.surface.id))
    play.said()

    host_surface = play.host_thing("wl_surface")
    play.host.event(play.host_thing("wl_keyboard"), "enter", 1, host_surface.id, b"")
    play.flush()

    assert keyboard.alive
    assert play.said() == []


def test_what_has_no_host_side_is_not_forwarded() -> None:
    world = World()
    spec = INTERFACES["wl_surface"].request("attach")
    lost = world.table.add_guest(5000, INTERFACES["wl_buffer"], 1)
    args = (lost.guest_id, 0, 0)
    entry = world.entries["wl_surface"]
    for target in (entry, lost):
        data = bytearray(encode_message(entry.guest_id, spec, args))
        with pytest.raises(WaylandError, match="no host"):
            world.state.forward_raw(target, spec, RawMessage(5000, 1, data))


def test_an_object_of_the_wrong_type() -> None:
    play = Stage()

    play.app.request(play.surface, "attach", play.shm.id, 0, 0)

    assert play.app.error == (1, 0, f"object {play.shm.id} is no wl_buffer")


def test_an_interface_that_is_in_no_table() -> None:
    world = World()
    spec = MessageSpec(
        "wl_seat", "get_more", 0, 1, (ArgSpec(ArgKind.NEW_ID, interface="wl_more"),)
    )
    data = bytearray(encode_message(2, spec, (70,)))

    with pytest.raises(WaylandError, match="unknown interface wl_more"):
        world.state.forward_raw(world.entries["wl_seat"], spec, RawMessage(2, 0, data))


def test_ids_never_run_together() -> None:
    world = World()
    ids = [(e.guest_id, e.host_id) for e in world.entries.values()]

    assert all(a != b for a, b in ids[1:])
    assert not set(itertools.chain(ids)) & {(0, 0)}
