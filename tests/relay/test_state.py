"""Forwarding: every message of every allowed interface, ids and fds translated."""

import itertools
from collections import deque
from collections.abc import Iterator

import pytest

from tests.relay.playbook import ZERO_COPY, Playbook, Stage, all_turns
from tests.relay.shell import guest_memory
from tests.relay.things import SERVER
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientOpened,
    Data,
)
from wlproxy.protocol.errors import WaylandError
from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, MessageSpec
from wlproxy.protocol.wayland.interfaces import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue, RawMessage
from wlproxy.protocol.wayland.wire import decode_message, encode_message
from wlproxy.relay.commands import (
    AdoptStream,
    Command,
    CreateStream,
    Direction,
    SendFile,
    SendFrame,
    SendToCompositor,
)
from wlproxy.relay.context import RelayConfig
from wlproxy.relay.filters import EVENT_FILTERS, REQUEST_FILTERS
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FdKind, ReceivedFd
from wlproxy.relay.objects import ProtocolObject
from wlproxy.relay.policy import effective_policy
from wlproxy.relay.relay import Relay

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
        self.relay = Relay(RelayConfig(), guest_memory(), ZERO_COPY)
        self.relay.receive_frame(ClientOpened(1, 1, 1, 1, "app"))
        self.table = self.relay._clients[1]._context.objects
        self.state = self.relay._clients[1]._state
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

    commands = all_turns(world.relay, Data(1, data, (WRITE_END,) * spec.fd_count))

    send = only_send(commands)
    raw = RawMessage(entry.host_id, spec.opcode, bytearray(send.data))
    message = decode_message(spec, raw, deque(send.handles))
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

    commands = world.relay.receive_from_compositor(1, data, fds)

    (frame,) = [c.frame for c in commands if isinstance(c, SendFrame)]
    assert isinstance(frame, Data)
    raw = RawMessage(entry.guest_id, spec.opcode, bytearray(frame.data))
    message = decode_message(spec, raw, deque(frame.attachments))
    assert frame.data[:4] == entry.guest_id.to_bytes(4, "little")
    for arg, sent, seen in zip(spec.args, args, message.args, strict=True):
        if arg.is_id:
            assert isinstance(seen, int)
            assert isinstance(sent, int)
            assert world.table.guest(seen) is world.table.host(sent)
        else:
            assert seen == sent
    for attachment in message.fds:
        if kind is FdKind.FILE:
            assert attachment.kind is AttachmentKind.FILE
            assert SendFile(1, attachment.object_id, Handle(11), 5) in commands
        else:
            assert attachment.flags is AttachmentFlags.HOLDER_WRITES
            assert attachment.object_id % 2 == 1
            assert way is not None
            assert AdoptStream(1, attachment.object_id, Handle(11), way) in commands


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
    offered_again = play.host.event(play.host_thing("wl_data_device"), "data_offer")
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


def test_the_app_reads_what_the_compositor_writes() -> None:
    play = Playbook()
    devices = play.app.bind("wl_data_device_manager")
    play.app.request(devices, "create_data_source")
    source = play.host_thing("wl_data_source")

    pipe = ReceivedFd(Handle(1), FdKind.STREAM, 0, Direction.TO_GUEST)
    play.host.event(source, "send", b"text/plain", fds=[pipe])
    play.flush()

    assert play.app.received[0].flags is AttachmentFlags.HOLDER_READS


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
def test_an_event_with_an_fd_that_cannot_be_carried_is_dropped(kind: FdKind) -> None:
    play = Playbook()
    play.app.request(play.app.bind("wl_seat"), "get_keyboard")
    play.said()

    play.host.event(
        *(play.host_thing("wl_keyboard"), "keymap", 1, 60000),
        fds=[ReceivedFd(Handle(1), kind)],
    )
    play.flush()

    assert play.said() == ["shell: CloseHandle(1)"]
    assert play.warnings() == [f"dropped wl_keyboard.keymap: its fd is a {kind.value}"]


def test_a_stream_that_the_app_reads() -> None:
    play = Playbook()
    offered(play)
    play.said()

    play.app.request(play.app.created[0], "receive", b"x", attach=[READ_END])

    assert play.said()[0] == "shell: CreateStream(4, to compositor)"


def test_an_fd_that_cannot_be_forwarded_ends_the_client() -> None:
    play = Playbook()
    offered(play)

    other = Attachment(AttachmentKind.OTHER, AttachmentFlags.NONE, 1, 0)
    play.app.request(play.app.created[0], "receive", b"x", attach=[other])

    assert play.app.error == (
        *(1, 3),
        "wlproxy: cannot forward the OTHER fd of wl_data_offer.receive",
    )


def test_what_a_zombie_creates_is_known() -> None:
    play = Stage()
    devices = play.app.bind("wl_data_device_manager")
    seat = play.app.bind("wl_seat")
    device = play.app.request(devices, "get_data_device", seat.id)
    host_device = play.host_thing("wl_data_device")
    table = play.relay._clients[1]._context.objects
    entry = table.guest(device.id)
    table.forget_guest(entry)  # as if the app could free it before `delete_id`
    play.said()

    offer = play.host.event(host_device, "data_offer")
    play.host.event(offer, "offer", b"text/plain")
    play.host.event(host_device, "selection", offer.id)
    play.flush()

    assert play.said() == []
    assert play.closed is None


def test_an_object_that_must_be_there_is_gone() -> None:
    play = Stage()
    seat = play.app.bind("wl_seat")
    keyboard = play.app.request(seat, "get_keyboard")
    table = play.relay._clients[1]._context.objects
    table.forget_guest(table.guest(play.surface.id))
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
