"""Fingers: what they do on the window they do in the guest, or the first of them is its pointer.

QEMU says that each screen can be touched, whatever devices the guest has.  So whoever starts us
says it: without such a device, what fingers do would be lost.
"""

from collections.abc import Callable
from typing import Any, Final

from wlproxy.protocol.wayland.message import Message
from wlproxy.screen import console
from wlproxy.screen.console import InputCall, TouchKind

FIXED: Final = 256
"""What 1.0 is as a number of Wayland's kind "fixed"."""
MAX_FINGERS: Final = 10
"""What QEMU has slots for (INPUT_EVENT_SLOTS_MAX in its ui/input.h)."""
LEFT: Final = 0
"""QEMU's number of the left button."""


class Touch:
    """The events of `wl_touch`, as calls."""

    def __init__(
        self,
        tell: Callable[[InputCall], None],
        to_guest: Callable[[float, float], tuple[int, int]],
        is_absolute: Callable[[], bool],
        *,
        touches: bool,
    ) -> None:
        """No finger is down.

        Args:
            tell: takes each call.
            to_guest: returns the guest's pixel at a place of the surface.
            is_absolute: tells whether the guest's pointer can be put somewhere: one that can
                only be moved, no finger points with.
            touches: whether the guest can be touched; else a finger is its pointer.
        """
        self._tell = tell
        self._to_guest = to_guest
        self._is_absolute = is_absolute
        self._most = MAX_FINGERS if touches else 1
        self._touches = touches
        self._fingers: dict[int, tuple[int, tuple[int, int]]] = {}
        """The compositor's number of each: its slot, and where it was last."""

    def on_event(self, name: str, event: Message[Any]) -> None:
        """Take an event of `wl_touch`."""
        match name:
            case "down":
                self._down(event.integer(3), event.integer(4), event.integer(5))
            case "up":
                self._up(event.integer(2))
            case "motion":
                self._moved(event.integer(1), event.integer(2), event.integer(3))
            case "cancel":
                self.release_all()
            case _:
                return  # frame, shape, orientation

    def release_all(self) -> None:
        """Take all fingers away."""
        for finger in list(self._fingers):
            self._up(finger)

    def _down(self, finger: int, x: int, y: int) -> None:
        used = {slot for slot, _ in self._fingers.values()}
        free = [slot for slot in range(self._most) if slot not in used]
        if not free or finger in self._fingers:
            return
        if not (self._touches or self._is_absolute()):
            return
        at = self._to_guest(x / FIXED, y / FIXED)
        self._fingers[finger] = free[0], at
        if self._touches:
            self._tell(console.touch(TouchKind.BEGIN, free[0], *at))
        else:
            self._tell(console.place(*at))
            self._tell(console.button(LEFT, down=True))

    def _moved(self, finger: int, x: int, y: int) -> None:
        if finger not in self._fingers:
            return
        slot, _ = self._fingers[finger]
        at = self._to_guest(x / FIXED, y / FIXED)
        self._fingers[finger] = slot, at
        if self._touches:
            self._tell(console.touch(TouchKind.UPDATE, slot, *at))
        else:
            self._tell(console.place(*at))

    def _up(self, finger: int) -> None:
        if (known := self._fingers.pop(finger, None)) is None:
            return
        slot, at = known
        if self._touches:
            self._tell(console.touch(TouchKind.END, slot, *at))
        else:
            self._tell(console.button(LEFT, down=False))
