"""Which window of an app the user has just pressed a key, a button or a finger in: `ask` goes by it.

A gesture is good for a moment, for the seat that it was made at, and for as long as that seat's
keyboard has not gone from the window.  Popups and subsurfaces are of the window below them: a menu is.
"""

from dataclasses import dataclass, field

from wlproxy.relay.buffers.surfaces import Surface
from wlproxy.relay.commands import StartTimer
from wlproxy.relay.policy_tree import GESTURE_SECONDS
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import ProtocolObject


@dataclass(slots=True, eq=False)
class Gesture:
    """The last one.

    Attributes:
        number: of its timer.
        seat: the global's name.
        window: where it was made; None: the user was asked instead, and no window has the focus.
        about: the only thing that it is good for, since the user was asked; empty: there is none such.
        away: the keyboard has gone from there since.
    """

    number: int
    seat: int
    window: Surface | None
    about: str = ""
    away: bool = False


@dataclass(slots=True, eq=False)
class Gestures:
    """The gestures of one client, and where its seats are."""

    _context: Context
    _seats: dict[int, int] = field(default_factory=dict)
    """Host ids of seats, and of what was made of them: the global's name."""
    _at: dict[int, Surface] = field(default_factory=dict)
    """Host ids of pointers, pens and keyboards: where they are."""
    _focus: dict[int, Surface | None] = field(default_factory=dict)
    """Names of seats with a keyboard: the window that has it."""
    _newest: Gesture | None = None
    _count: int = 0

    def add_seat(self, entry: ProtocolObject, name: int) -> None:
        """Enter a seat, of a global with this name."""
        self._seats[entry.host_id] = name

    def follow(self, entry: ProtocolObject, other: ProtocolObject) -> None:
        """Something is of the same seat as something else: a pointer, or what copies for it."""
        self._seats.pop(entry.host_id, None)  # of what had the id before
        if (seat := self.seat_of(other)) is not None:
            self._seats[entry.host_id] = seat

    def seat_of(self, entry: ProtocolObject) -> int | None:
        """Say by its name of which seat something is."""
        return self._seats.get(entry.host_id)

    def come(self, entry: ProtocolObject, surface: Surface | None) -> None:
        """A pointer, a pen or a keyboard is at a surface now, or at none."""
        if surface is None:
            self._at.pop(entry.host_id, None)
        else:
            self._at[entry.host_id] = surface

    def focus(self, entry: ProtocolObject, surface: Surface | None) -> None:
        """The same of a keyboard: where it is, the seat's focus is."""
        self.come(entry, surface)
        seat, last = self.seat_of(entry), self._newest
        if seat is None:
            return
        window = None if surface is None else surface.window
        self._set_focus(seat, window)
        if last is None or last.seat != seat:
            return
        last.away = window is None
        gone = window is not None and window is not last.window
        self._remember(None if gone else last)

    def press(self, entry: ProtocolObject, surface: Surface | None = None) -> None:
        """Something was pressed: at this surface, or where `entry` is."""
        surface, seat = surface or self._at.get(entry.host_id), self.seat_of(entry)
        if surface is not None and seat is not None:
            self._begin(seat, surface.window)

    def end(self, number: int) -> None:
        """The time of a gesture is over."""
        if self._newest is not None and self._newest.number == number:
            self._remember(None)

    def allow(self, seat: int | None, about: str) -> bool:
        """Whether what is asked for at a seat now is what was pressed for, or asked about."""
        last = self._newest
        if last is None or last.seat != seat or last.away:
            return False
        return last.about in ("", about)

    def allow_vm(self, seat: int | None) -> bool:
        """Whether something was just pressed at a seat in any window of the VM's apps."""
        return any(name == seat for _, name in self._context.shared.pressed)

    def forget(self, window: Surface) -> None:
        """A window is gone, and not every compositor says that the keyboard is."""
        for seat in [seat for seat, has in self._focus.items() if has is window]:
            self._set_focus(seat, None)

    def lose(self, seat: int) -> None:
        """A seat is gone, or its keyboard: nobody tells us more of it."""
        if seat in self._focus:
            self._set_focus(seat, None)

    def close(self) -> None:
        """The client is gone."""
        self._remember(None)
        for seat in self._focus:
            self._set_focus(seat, None)

    def may_ask(self, seat: int, *, about_vm: bool = False) -> bool:
        """Whether the user may be asked instead: not if they are busy with another app.

        Args:
            seat: whose user.
            about_vm: another app of the VM's may have the keyboard.
        """
        if about_vm:
            return any(name == seat for _, name in self._context.shared.focused)
        return self.window(seat) is not None

    def window(self, seat: int) -> Surface | None:
        """Return the window that has a seat's keyboard."""
        return self._focus.get(seat)

    def grant(self, seat: int, about: str) -> None:
        """The user was asked and said yes: for this alone, it is as good as a gesture."""
        self._begin(seat, self.window(seat), about)

    def _set_focus(self, seat: int, window: Surface | None) -> None:
        self._focus[seat] = window
        focused, ours = self._context.shared.focused, (self._context.client_id, seat)
        if window is None:
            focused.discard(ours)
        else:
            focused.add(ours)

    def _begin(self, seat: int, window: Surface | None, about: str = "") -> None:
        self._count += 1
        self._remember(Gesture(self._count, seat, window, about))
        timer = StartTimer(self._context.client_id, self._count, GESTURE_SECONDS)
        self._context.command(timer)

    def _remember(self, gesture: Gesture | None) -> None:
        """The last one is this now; the VM's other apps know of it unless it is good for one thing alone."""
        pressed, client = self._context.shared.pressed, self._context.client_id
        if self._newest is not None:
            pressed.discard((client, self._newest.seat))
        self._newest = gesture
        if gesture is not None and not gesture.away and not gesture.about:
            pressed.add((client, gesture.seat))
