"""What a window was last told to be, so that it can be told once more.

An app that asks for what it may not have waits for a configuration (xdg-shell, `set_fullscreen`).  The
compositor has none for it that does no harm: one for the opposite moves the window on some, or ends
what the user's own key began.  So the last one is repeated, with its serial.
"""

from dataclasses import dataclass
from typing import Final

from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import ProtocolObject

FULLSCREEN: Final = 2
"""In `xdg_toplevel.state`."""

State = tuple[int, int, bytes]
"""Width, height and states."""


@dataclass(slots=True, eq=False)
class Configured:
    """What a window was told.

    Attributes:
        xdg_surface: the window's.
        next: what the next serial stands for.
        last: what the last one does.
        serial: the last one; None: there was none yet.
        acknowledged: what the app has acknowledged last, and the compositor knows of.
        open: the app has heard of `next`, whose serial is yet to come.
        hides: the surface's next commit shows nothing.
    """

    xdg_surface: ProtocolObject
    next: State = (0, 0, b"")
    last: State = (0, 0, b"")
    serial: int | None = None
    acknowledged: int | None = None
    open: bool = False
    hides: bool = False

    @property
    def fullscreen(self) -> bool:
        """Whether the window fills the screen."""
        return has_state(self.last[2], FULLSCREEN)

    def begin(self, state: State) -> None:
        """Note what the next serial stands for."""
        self.next, self.open = state, True

    def end(self, serial: int) -> None:
        """Note the serial that ends a configuration."""
        self.last, self.serial, self.open = self.next, serial, False
        if serial == self.acknowledged:  # a compositor may use one again
            self.acknowledged = None

    def acknowledge(self, serial: int) -> bool:
        """Note what the app acknowledges; say whether the compositor has yet to hear it."""
        if serial == self.acknowledged:
            return False
        self.acknowledged = serial
        return True

    def commit(self) -> None:
        """Note a commit: what was hidden is configured anew before it shows anything."""
        if self.hides:
            self.next = self.last = (0, 0, b"")
            self.serial, self.open, self.hides = None, False, False

    def repeat(self, context: Context, toplevel: ProtocolObject) -> None:
        """Tell the app once more what it was told last, if it was told anything.

        What the next serial stands for follows, if the app has heard of it: an app takes the
        newest that it has heard before a serial.
        """
        if self.serial is not None and self.xdg_surface.guest_id:
            context.send_event(toplevel, "configure", self.last)
            context.send_event(self.xdg_surface, "configure", (self.serial,))
            if self.open:
                context.send_event(toplevel, "configure", self.next)


def has_state(states: bytes, state: int) -> bool:
    """Whether an array of numbers has one."""
    return state in memoryview(states[: len(states) & ~3]).cast("I")
