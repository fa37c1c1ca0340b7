"""What we call QEMU's display for: to be called ourselves, keys, the pointer, a size.

Input wants no answer, and none waits for QEMU.  The interfaces are QEMU's (ui/dbus-display1.xml):
`org.qemu.Display1.Console`, `Keyboard` and `Mouse`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from wlproxy.protocol.dbus.connection import (
    PROPERTIES,
    UNKNOWN_METHOD,
    Connection,
    Outgoing,
)
from wlproxy.protocol.dbus.messages import Message, MessageKind
from wlproxy.protocol.dbus.values import Value, Variant
from wlproxy.protocol.errors import DBusError
from wlproxy.screen.commands import Fd

FdT = TypeVar("FdT", bound=Fd)
"""An fd, ours or QEMU's."""

CONSOLE: Final = "org.qemu.Display1.Console"
KEYBOARD: Final = "org.qemu.Display1.Keyboard"
MOUSE: Final = "org.qemu.Display1.Mouse"
PLACE: Final = "org.qemu.Display1.Mouse.SetAbsPosition"


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
    body: tuple[int, ...]
    droppable: bool = False

    @property
    def lets_go(self) -> bool:
        """Whether a key or button is let go of, which QEMU must know one day."""
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


class Console(Generic[FdT]):
    """Our end of the connection on which we call.

    Attributes:
        absolute: whether the guest's pointer can be put somewhere; else it can be moved.
        takes_sizes: whether the guest's screen may be asked for another size.
        registered: whether QEMU has taken the display's socket.
        refusal: why it has not, if it has refused.
    """

    def __init__(self, uid: int, number: int = 0) -> None:
        """Begin it, and ask what there is.

        Args:
            uid: whose socket it is.
            number: which of the machine's screens.
        """
        self.absolute = False
        self.takes_sizes = True
        self.registered = False
        self.refusal = ""
        self._path = f"/org/qemu/Display1/Console_{number}"
        self._connection = Connection[FdT](uid)
        self._waiting: dict[int, Callable[[Message[FdT]], None]] = {}
        self._ask(f"{PROPERTIES}.GetAll", "s", (MOUSE,), self._mouse)

    def receive(self, data: bytes, fds: Sequence[FdT] = ()) -> None:
        """Take what came.

        Raises:
            DBusError: it is no D-Bus, or QEMU does not let us in.
        """
        try:
            self._connection.receive(data, fds)
            while (message := self._connection.next_message()) is not None:
                for file in message.fds:
                    file.close()
                self._take(message)
        except DBusError:
            self.close()
            raise

    def take_output(self) -> list[Outgoing[FdT]]:
        """Take what is to be sent."""
        return self._connection.take_output()

    def abandon(self) -> list[Outgoing[FdT]]:
        """Take what will not be sent any more."""
        return self._connection.abandon()

    def close(self) -> None:
        """Close the fds that came, which nobody wants."""
        for file in self._connection.waiting_fds:
            file.close()

    def register(self, listener: FdT) -> None:
        """Have QEMU call at the other end of a socket; it says whether it does.

        Args:
            listener: is held until whoever takes the output releases it.
        """
        listener.hold()
        self.registered, self.refusal = False, ""
        self._ask(f"{CONSOLE}.RegisterListener", "h", (listener,), self._answered)

    def want_size(self, width: int, height: int) -> None:
        """Ask the guest for a screen of this size, in pixels."""
        if self.takes_sizes:
            size = (0, 0, 0, 0, width, height)
            self._ask(f"{CONSOLE}.SetUIInfo", "qqiiuu", size, self._sized)

    def tell(self, call: InputCall) -> None:
        """Tell of input."""
        self._connection.call(
            self._path, call.method, call.signature, call.body, wants_reply=False
        )

    def _ask(
        self,
        method: str,
        signature: str,
        body: tuple[Value, ...],
        answered: Callable[[Message[FdT]], None],
    ) -> None:
        serial = self._connection.call(self._path, method, signature, body)
        self._waiting[serial] = answered

    def _take(self, message: Message[FdT]) -> None:
        match message.kind:
            case MessageKind.METHOD_CALL:
                self._connection.refuse(message, UNKNOWN_METHOD, "nothing is here")
            case MessageKind.SIGNAL:
                self._signalled(message)
            case _:
                answered = self._waiting.pop(message.fields.reply_to, None)
                if answered is not None:
                    answered(message)

    def _signalled(self, signal: Message[FdT]) -> None:
        fields = signal.fields
        if (
            (fields.interface, fields.member) == (PROPERTIES, "PropertiesChanged")
            and fields.signature == "sa{sv}as"
            and fields.path == self._path
            and signal.body[0] == MOUSE
        ):
            self._mouse_is(signal.body[1])

    def _mouse(self, answer: Message[FdT]) -> None:
        if answer.kind is MessageKind.ERROR:
            raise DBusError(f"QEMU has no such screen: {_text(answer)}")
        if answer.fields.signature == "a{sv}":
            self._mouse_is(answer.body[0])

    def _mouse_is(self, properties: dict[str, Variant]) -> None:
        absolute = properties.get("IsAbsolute")
        if absolute is not None and absolute.signature == "b":
            self.absolute = absolute.value

    def _answered(self, answer: Message[FdT]) -> None:
        if answer.kind is MessageKind.ERROR:
            self.refusal = _text(answer)
        else:
            self.registered = True

    def _sized(self, answer: Message[FdT]) -> None:
        if answer.kind is MessageKind.ERROR:
            self.takes_sizes = False


def _text(error: Message[FdT]) -> str:
    """Return what an error says."""
    said = error.body[0] if error.fields.signature[:1] == "s" else ""
    return f"{error.fields.error_name[:100]}: {said[:200]}"
