"""The pointer: where it is over the window, it is in the guest; its buttons and its wheel.

A guest's pointer can be put somewhere (a tablet), or only be moved (a mouse).  The latter is
locked in the window once a button is pressed there, for without that it would leave before it reached
the guest's edge.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from wlproxy.protocol.wayland.message import Message
from wlproxy.screen import console
from wlproxy.screen.console import InputCall
from wlproxy.screen.keycodes import (
    BUTTONS,
    WHEEL_DOWN,
    WHEEL_LEFT,
    WHEEL_RIGHT,
    WHEEL_UP,
)

FIXED: Final = 256
"""What 1.0 is as a number of Wayland's kind "fixed"."""
CLICK: Final = 120
"""One click of a wheel, in the units of `axis_value120`."""
SMOOTH_CLICK: Final = 10 * FIXED
"""How far something scrolls that has no clicks, for the guest to see one: what libinput says
that a click of a wheel is in `axis`, and a bit less."""
MOST_CLICKS: Final = 20
"""Clicks that are passed on of one frame."""
FRAMES_SINCE: Final = 5
"""The version of `wl_seat` that says what belongs together."""

_WHEELS: Final = {0: (WHEEL_UP, WHEEL_DOWN), 1: (WHEEL_LEFT, WHEEL_RIGHT)}
"""`wl_pointer.axis` -> the buttons that are its two directions to QEMU."""


class Surroundings(Protocol):
    """What a pointer has to know of the window that it is over."""

    @property
    def absolute(self) -> bool:
        """Whether the guest's pointer can be put somewhere."""

    @property
    def locked(self) -> bool:
        """Whether the pointer stays where it is, and only its motion is told."""

    def to_guest(self, x: float, y: float) -> tuple[int, int]:
        """Return the guest's pixel at a place of the surface."""

    def entered(self, serial: int) -> None:
        """Show the guest's cursor."""

    def pressed(self) -> None:
        """Lock the pointer, if that has to be."""


class Pointer:
    """A pointer's events, as calls."""

    def __init__(
        self,
        tell: Callable[[InputCall], None],
        around: Surroundings,
        version: int,
    ) -> None:
        """It is nowhere yet.

        Args:
            tell: takes each call.
            around: the window.
            version: of `wl_pointer`.
        """
        self._tell = tell
        self._around = around
        self._in_frames = version >= FRAMES_SINCE
        self._pressed: dict[int, int] = {}
        self._last: tuple[float, float] | None = None
        self._rest = [0.0, 0.0]
        """What was moved, and was less than a pixel."""
        self._clicks = {0: 0.0, 1: 0.0}
        """What was scrolled, and was less than a click."""
        self._frame: dict[int, float] = {}
        self._smooth: dict[int, float] = {}

    def on_event(self, name: str, event: Message[Any]) -> None:
        """Take an event of `wl_pointer`."""
        match name:
            case "enter":
                self._last = None
                self._around.entered(event.integer(0))
                self._moved_to(event.integer(2) / FIXED, event.integer(3) / FIXED)
            case "leave":
                self.release_all()
            case "motion":
                self._moved_to(event.integer(1) / FIXED, event.integer(2) / FIXED)
            case "button":
                self._button(event.integer(2), down=bool(event.integer(3)))
            case "frame":
                self._scrolled()
            case _:
                self._axis(name, event)

    def on_relative(self, name: str, event: Message[Any]) -> None:
        """Take an event of `zwp_relative_pointer_v1`: unaccelerated is what a mouse says."""
        if name == "relative_motion" and self._around.locked:
            self._moved_by(event.integer(4) / FIXED, event.integer(5) / FIXED)

    def release_all(self) -> None:
        """Let go of every button."""
        for number in self._pressed.values():
            self._tell(console.button(number, down=False))
        self._pressed.clear()

    def _moved_to(self, x: float, y: float) -> None:
        last, self._last = self._last, (x, y)
        if self._around.absolute:
            self._tell(console.place(*self._around.to_guest(x, y)))
        elif last is not None and not self._around.locked:
            self._moved_by(x - last[0], y - last[1])

    def _moved_by(self, x: float, y: float) -> None:
        if self._around.absolute:
            return
        moved = []
        for axis, distance in enumerate((x, y)):
            whole = int(self._rest[axis] + distance)
            self._rest[axis] += distance - whole
            moved.append(whole)
        if any(moved):
            self._tell(console.move(*moved))

    def _button(self, evdev: int, *, down: bool) -> None:
        if down:
            number = BUTTONS.get(evdev)
            if number is None:
                return
            self._around.pressed()
            self._pressed[evdev] = number
        else:
            released = self._pressed.pop(evdev, None)
            if released is None:
                return
            number = released
        self._tell(console.button(number, down=down))

    def _axis(self, name: str, event: Message[Any]) -> None:
        match name:
            case "axis":
                axis, distance = event.integer(1), event.integer(2)
                self._smooth[axis] = self._smooth.get(axis, 0) + distance
            case "axis_discrete":
                axis, clicks = event.integer(0), event.integer(1)
                self._frame[axis] = self._frame.get(axis, 0) + clicks * CLICK
            case "axis_value120":
                axis, parts = event.integer(0), event.integer(1)
                self._frame[axis] = self._frame.get(axis, 0) + parts
            case _:
                return
        if not self._in_frames:
            self._scrolled()

    def _scrolled(self) -> None:
        """Press the wheel's buttons for what was scrolled: a wheel says it in two ways."""
        smooth, self._smooth = self._smooth, {}
        clicks, self._frame = self._frame, {}
        for axis, distance in smooth.items():
            clicks.setdefault(axis, distance / SMOOTH_CLICK * CLICK)
        for axis, parts in clicks.items():
            if axis not in _WHEELS:
                continue
            if (
                parts * self._clicks[axis] < 0
            ):  # the other way: what was left is not meant
                self._clicks[axis] = 0
            self._clicks[axis] += parts
            count = int(self._clicks[axis] / CLICK)
            self._clicks[axis] -= count * CLICK
            number = _WHEELS[axis][count > 0]
            for _ in range(min(abs(count), MOST_CLICKS)):
                self._tell(console.button(number, down=True))
                self._tell(console.button(number, down=False))
