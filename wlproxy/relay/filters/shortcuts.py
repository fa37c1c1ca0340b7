"""The desktop's own key bindings: a window may have them, and the user can take them back at any time.

While an inhibitor is in force, keys go to the app that the desktop would take for itself, and not every
desktop has a key that is left out of that.  So the proxy has one: Ctrl+Alt+G, as in QEMU and in
`wlproxy screen`.  It listens by a keyboard of its own, since the app may have none, and then ends all
inhibitors of the app.  No app of the VM gets another one until the user presses the same keys again:
an app cannot press them, since a guest has no way to type on the host.
"""

from dataclasses import dataclass, field
from typing import Final

from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.commands import TraceLevel
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.objects import MUTED, Listener, OwnEvent, ProtocolObject

CTRL: Final = frozenset({29, 97})
ALT: Final = frozenset({56, 100})
KEY_G: Final = 34
"""linux/input-event-codes.h; both keys of a kind, left and right."""

KEYBOARD: Final = 2
"""`wl_seat.capability`."""

PRESSED: Final = 1
"""`wl_keyboard.key_state`."""


@dataclass(slots=True, eq=False)
class Keys(Listener):
    """What a keyboard of the proxy's own hears: every event, as long as it is there.

    Attributes:
        down: those of Ctrl and Alt that are pressed while a window of the app has the focus.
    """

    down: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Seat:
    """The role of a `wl_seat`.

    Attributes:
        has_keyboard: the compositor says so; to ask for one elsewhere is an error.
        keyboard: the proxy's own.
    """

    has_keyboard: bool = False
    keyboard: ProtocolObject | None = None


@dataclass(frozen=True, slots=True)
class Inhibitor:
    """The role of an inhibitor that the compositor knows."""


def note_capabilities(state: ClientState, event: Event) -> None:
    """`wl_seat.capabilities`: one whose keyboard goes takes ours, and with it what we hear."""
    seat = _seat(event.object)
    seat.has_keyboard = bool(event.numbers[0] & KEYBOARD)
    if not seat.has_keyboard:
        _stop_listening(state, seat)
        if (name := state.gestures.seat_of(event.object)) is not None:
            state.gestures.lose(name)
    state.forward_event(event.object, event.spec, event.raw)


def release_seat(state: ClientState, request: Request) -> None:
    """`wl_seat.release`: nobody tells us any more whether it has a keyboard."""
    _stop_listening(state, _seat(request.object))
    state.forward(request)


def inhibit(state: ClientState, request: Request) -> None:
    """`inhibit_shortcuts`: where we hear the keys by which the user ends it, and has not ended it."""
    seat = state.context.objects.guest(request.integer("seat"))
    if seat.interface.name != "wl_seat":
        state.forward(request)  # which says that it is none
    elif not _listen(state, seat) or state.context.shared.bindings.are_hosts:
        state.add_muted(request)
    else:
        state.forward_new(request).role = Inhibitor()


def hear(
    state: ClientState, keys: Keys, keyboard: ProtocolObject, event: OwnEvent
) -> None:
    """Take an event of a keyboard of our own."""
    name = keyboard.interface.events[event.opcode].name
    if name == "enter":
        held = event.args[2]
        assert isinstance(held, bytes)
        starts = range(0, len(held) - 3, 4)
        codes = {int.from_bytes(held[at : at + 4], "little") for at in starts}
        keys.down = codes & (CTRL | ALT)
    elif name == "leave":
        keys.down.clear()
    elif name == "key":
        key, pressed = event.integer(2), event.integer(3) == PRESSED
        if pressed and key == KEY_G and keys.down & CTRL and keys.down & ALT:
            _turn(state)
        if not pressed:
            keys.down.discard(key)
        elif key in CTRL | ALT:
            keys.down.add(key)


def _turn(state: ClientState) -> None:
    """The user takes the bindings back, or lets apps ask for them again."""
    bindings = state.context.shared.bindings
    if _end_all(state):
        bindings.are_hosts = True
        state.context.trace(
            TraceLevel.INFO,
            "Ctrl+Alt+G: the desktop's key bindings work again, "
            "and apps may ask for them when it is pressed once more",
        )
    else:
        bindings.are_hosts = False


def _end_all(state: ClientState) -> bool:
    """End all inhibitors of the app; say whether there were any."""
    objects = state.context.objects
    ended = [e for e in objects.guest_objects() if isinstance(e.role, Inhibitor)]
    ended = [entry for entry in ended if entry.host_id]
    for entry in ended:
        state.context.send(objects.detach_host(entry), "destroy")
        entry.role = MUTED
        state.context.send_event(entry, "inactive")
    return bool(ended)


def _listen(state: ClientState, entry: ProtocolObject) -> bool:
    """Have a keyboard of our own on a seat; False if there is none to be had.

    An app has one at most: with two, one press would be heard as two, of which the second undoes what
    the first has done.  So of an app that has bound its seat twice, one binding counts.
    """
    seat, context = _seat(entry), state.context
    if not context.hears_keys and seat.has_keyboard and entry.host_id:
        context.hears_keys = True
        interface = INTERFACES["wl_keyboard"]
        seat.keyboard = context.objects.add_own(interface, entry.version, Keys())
        context.send(entry, "get_keyboard", (seat.keyboard.host_id,))
    return seat.keyboard is not None


def _stop_listening(state: ClientState, seat: Seat) -> None:
    """What cannot be ended by the user any more ends at once."""
    keyboard, seat.keyboard, seat.has_keyboard = seat.keyboard, None, False
    if keyboard is None:
        return
    _end_all(state)
    state.context.hears_keys = False
    keyboard.listener = None
    if keyboard.version >= keyboard.interface.request("release").since:
        state.context.send(keyboard, "release")


def _seat(entry: ProtocolObject) -> Seat:
    if not isinstance(entry.role, Seat):
        entry.role = Seat()
    return entry.role
