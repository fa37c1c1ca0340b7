"""What we call one of the machine's screens for: to be called ourselves, keys, the pointer, a size.

Input wants no answer, and none waits for QEMU.  The interfaces are QEMU's (ui/dbus-display1.xml):
`org.qemu.Display1.Console`, `Keyboard`, `Mouse` and `MultiTouch`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic

from wlproxy.protocol.dbus.connection import PROPERTIES
from wlproxy.protocol.dbus.messages import Message, MessageKind
from wlproxy.protocol.dbus.values import Variant
from wlproxy.screen.qemu_peer import FdT, QemuPeer, error_text

CONSOLE: Final = "org.qemu.Display1.Console"
KEYBOARD: Final = "org.qemu.Display1.Keyboard"
MOUSE: Final = "org.qemu.Display1.Mouse"
TOUCH: Final = "org.qemu.Display1.MultiTouch.SendEvent"
PLACE: Final = "org.qemu.Display1.Mouse.SetAbsPosition"


class TouchKind(IntEnum):
    """What a finger does: `InputMultiTouchType` in QEMU's qapi/ui.json."""

    BEGIN = 0
    UPDATE = 1
    END = 2


@dataclass(frozen=True, slots=True)
class InputCall:
    """A call that tells QEMU of input.

    Attributes:
        method: interface and name.
        signature: types of the arguments.
        body: the arguments.
        droppable: whether little is lost without it.
    """

    method: str
    signature: str
    body: tuple[float, ...]
    droppable: bool = False

    @property
    def lets_go(self) -> bool:
        """Whether a key or button is let go of, which QEMU must know one day."""
        if self.method == TOUCH:
            return self.body[0] == TouchKind.END
        return self.method.endswith(".Release")

    def replaces(self, earlier: "InputCall") -> bool:
        """Tell whether an earlier call is needless, if this one comes right after it."""
        return self.method == earlier.method == PLACE


def key(number: int, *, down: bool) -> InputCall:
    """Press or release a key; `number` is QEMU's."""
    return InputCall(f"{KEYBOARD}.{'Press' if down else 'Release'}", "u", (number,))


def button(number: int, *, down: bool) -> InputCall:
    """Press or release a button; `number` is QEMU's."""
    return InputCall(f"{MOUSE}.{'Press' if down else 'Release'}", "u", (number,))


def place(x: int, y: int) -> InputCall:
    """Put the pointer somewhere, in pixels of the guest."""
    return InputCall(PLACE, "uu", (x, y), droppable=True)


def move(x: int, y: int) -> InputCall:
    """Move the pointer by so much."""
    return InputCall(f"{MOUSE}.RelMotion", "ii", (x, y), droppable=True)


def touch(kind: TouchKind, slot: int, x: float, y: float) -> InputCall:
    """Put a finger down, move it or take it away.

    Args:
        kind: which of these.
        slot: the finger's number, from 0 on.
        x: where, in pixels of the guest.
        y: the same.
    """
    droppable = kind is TouchKind.UPDATE
    return InputCall(TOUCH, "utdd", (kind, slot, x, y), droppable=droppable)


class Console(Generic[FdT]):
    """A screen of the machine, as we call it.

    Attributes:
        absolute: whether the guest's pointer can be put somewhere; else it can be moved.
        takes_sizes: whether the guest's screen may be asked for another size.
        registered: whether QEMU has taken the display's socket.
        refusal: why it has not, if it has refused, or has no such screen.
    """

    def __init__(self, peer: QemuPeer[FdT], number: int = 0) -> None:
        """Ask what there is.

        Args:
            peer: QEMU.
            number: which of the machine's screens.
        """
        self.absolute = False
        self.takes_sizes = True
        self.registered = False
        self.refusal = ""
        self._path = console_path(number)
        self._peer = peer
        self._wanted: tuple[int, int] | None = None
        self._sizing = False
        peer.follow(self._path, self._changed)
        peer.ask(self._path, f"{PROPERTIES}.GetAll", "s", (MOUSE,), self._mouse)

    def register(self, listener: FdT) -> None:
        """Have QEMU call at the other end of a socket; it says whether it does.

        Args:
            listener: is held until whoever takes the output releases it.
        """
        listener.hold()
        self.registered, self.refusal = False, ""
        method = f"{CONSOLE}.RegisterListener"
        self._peer.ask(self._path, method, "h", (listener,), self._answered)

    def want_size(self, width: int, height: int, *, at_once: bool = False) -> None:
        """Ask the guest for a screen of this size, in pixels; of none: to take it for unplugged.

        Args:
            width: of it.
            height: of it.
            at_once: not only when QEMU has answered the last time, which nobody may be there to hear.
        """
        self._wanted = width, height
        if at_once or not self._sizing:
            self._ask_size()

    def tell(self, call: InputCall) -> None:
        """Tell of input."""
        self._peer.tell(self._path, call.method, call.signature, call.body)

    def _changed(self, interface: str, properties: dict[str, Variant]) -> None:
        if interface == MOUSE:
            self._mouse_is(properties)

    def _mouse(self, answer: Message[FdT]) -> None:
        if answer.kind is MessageKind.ERROR:
            self.refusal = f"it has no such screen ({error_text(answer)})"
        elif answer.fields.signature == "a{sv}":
            self._mouse_is(answer.body[0])

    def _mouse_is(self, properties: dict[str, Variant]) -> None:
        absolute = properties.get("IsAbsolute")
        if absolute is not None and absolute.signature == "b":
            self.absolute = absolute.value

    def _answered(self, answer: Message[FdT]) -> None:
        if answer.kind is MessageKind.ERROR:
            self.refusal = error_text(answer)
        else:
            self.registered = True

    def _ask_size(self) -> None:
        """Ask for the last size that was wanted: for one at a time, as QEMU answers."""
        wanted, self._wanted = self._wanted, None
        if wanted is not None and self.takes_sizes:
            self._sizing = True
            method = f"{CONSOLE}.SetUIInfo"
            size = (0, 0, 0, 0, *wanted)
            self._peer.ask(self._path, method, "qqiiuu", size, self._sized)

    def _sized(self, answer: Message[FdT]) -> None:
        self._sizing = False
        if answer.kind is MessageKind.ERROR:
            self.takes_sizes = False
        self._ask_size()


def console_path(number: int) -> str:
    """Say where a screen of the machine's is."""
    return f"/org/qemu/Display1/Console_{number}"
