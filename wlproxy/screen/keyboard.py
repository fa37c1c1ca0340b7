"""The keyboard: what is pressed in the window is pressed in the guest, and let go of with the focus.

Ctrl+Alt+G is for us: it gives all keys to the guest, those that the desktop would take for itself too,
and the pointer if it is one that only moves; and takes them back.  So is Ctrl+Alt+F: it makes the window as large
as the output, and gives all keys to the guest; and undoes that.
"""

from collections.abc import Callable
from typing import Any

from wlproxy.protocol.wayland.message import Message
from wlproxy.screen import console
from wlproxy.screen.console import InputCall
from wlproxy.screen.keycodes import ALT, CTRL, KEY_F, KEY_G, qemu_key

_KEY_RELEASED = 0
"""`wl_keyboard.key_state`."""


class Keyboard:
    """A keyboard's events, as calls.

    Attributes:
        held: QEMU's number of the key that was pressed last, while it is: it repeats, which a
            compositor leaves to its clients.
        delay: seconds until it does so first.
        interval: seconds from then on; 0 if it never does.
    """

    def __init__(
        self,
        tell: Callable[[InputCall], None],
        toggle_grab: Callable[[], None],
        toggle_fullscreen: Callable[[], None],
    ) -> None:
        """Nothing is pressed.

        Args:
            tell: takes each call.
            toggle_grab: is for Ctrl+Alt+G.
            toggle_fullscreen: is for Ctrl+Alt+F.
        """
        self.held: int | None = None
        self.delay, self.interval = 0.6, 0.04
        self._tell = tell
        self._ours = {KEY_G: toggle_grab, KEY_F: toggle_fullscreen}
        self._pressed: dict[int, int] = {}

    def on_event(self, name: str, event: Message[Any]) -> None:
        """Take an event of `wl_keyboard`."""
        match name:
            case "key":
                self._key(event.integer(2), down=event.integer(3) != _KEY_RELEASED)
            case "leave":
                self.release_all()
            case "repeat_info":
                rate, delay = event.integer(0), event.integer(1)
                self.interval = 1 / min(rate, 100) if rate > 0 else 0
                self.delay = max(delay, 1) / 1000
            case _:
                return  # keymap, modifiers: the guest has its own

    def release_all(self) -> None:
        """Let go of every key."""
        for number in self._pressed.values():
            self._tell(console.key(number, down=False))
        self._pressed.clear()
        self.held = None

    def _key(self, evdev: int, *, down: bool) -> None:
        ours = self._ours.get(evdev)
        if down and ours is not None and self._with(CTRL) and self._with(ALT):
            ours()
            return
        if down:
            number = qemu_key(evdev)
            if number is None:
                return
            self._pressed[evdev] = self.held = number
        elif (released := self._pressed.pop(evdev, None)) is not None:
            number = released
            if self.held == number:
                self.held = None
        else:
            return  # it was pressed elsewhere
        self._tell(console.key(number, down=down))

    def _with(self, keys: frozenset[int]) -> bool:
        return not keys.isdisjoint(self._pressed)
