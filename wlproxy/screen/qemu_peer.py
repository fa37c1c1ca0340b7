"""The connection on which we call QEMU, sans-IO: who asked for which answer, and who is called.

All of the machine's screens share it, and so does its clipboard.  Whatever QEMU calls here is answered at
once: its main loop may stand still meanwhile.
"""

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from wlproxy.protocol.dbus.connection import (
    FAILED,
    PROPERTIES,
    UNKNOWN_METHOD,
    Connection,
    Outgoing,
)
from wlproxy.protocol.dbus.messages import Message, MessageKind
from wlproxy.protocol.dbus.values import Value, Variant
from wlproxy.protocol.errors import DBusError, WlproxyError
from wlproxy.screen.commands import Fd

FdT = TypeVar("FdT", bound=Fd)
"""An fd, ours or QEMU's."""

Answered = Callable[[Message[FdT]], None]
"""Takes the answer to a call, which may be an error."""
Served = Callable[[str, str, tuple[Value, ...]], tuple[str, tuple[Value, ...]]]
"""Does what QEMU calls: name, signature and arguments in, signature and values of the answer out."""


MAX_OWED: Final = 1 << 22
"""Bytes of answers to what came at once: QEMU waits for each before it asks for the next."""


class RefusedCallError(WlproxyError):
    """What QEMU has called is not done; the text says why."""


class QemuPeer(Generic[FdT]):
    """Our end."""

    def __init__(self, uid: int) -> None:
        """Begin it.

        Args:
            uid: whose socket it is.
        """
        self._connection = Connection[FdT](uid)
        self._owed = 0
        self._waiting: dict[int, Answered[FdT]] = {}
        self._following: dict[str, Callable[[str, dict[str, Variant]], None]] = {}
        self._serving: dict[str, Served] = {}

    def receive(self, data: bytes, fds: Sequence[FdT] = ()) -> None:
        """Take what came.

        Raises:
            DBusError: it is no D-Bus, QEMU does not let us in, or wants more answers at once
                than it can have.
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
        self._owed = 0
        return self._connection.take_output()

    def abandon(self) -> list[Outgoing[FdT]]:
        """Take what will not be sent any more."""
        return self._connection.abandon()

    def close(self) -> None:
        """Close the fds that came, which nobody wants."""
        for file in self._connection.waiting_fds:
            file.close()

    def ask(
        self,
        path: str,
        method: str,
        signature: str,
        body: tuple[Value, ...],
        answered: Answered[FdT],
    ) -> None:
        """Call a method, and have somebody take the answer, which may never come."""
        serial = self._connection.call(path, method, signature, body)
        self._waiting[serial] = answered

    def tell(
        self, path: str, method: str, signature: str, body: tuple[Value, ...]
    ) -> None:
        """Call a method that wants no answer."""
        self._connection.call(path, method, signature, body, wants_reply=False)

    def follow(
        self, path: str, changed: Callable[[str, dict[str, Variant]], None]
    ) -> None:
        """Have somebody told of an object's properties that change, with their interface."""
        self._following[path] = changed

    def serve(self, interface: str, do: Served) -> None:
        """Have somebody do what QEMU calls of an interface.

        Args:
            interface: its name.
            do: raises `RefusedCallError` for what it does not do.
        """
        self._serving[interface] = do

    def _take(self, message: Message[FdT]) -> None:
        match message.kind:
            case MessageKind.METHOD_CALL:
                self._called(message)
            case MessageKind.SIGNAL:
                self._signalled(message)
            case _:
                answered = self._waiting.pop(message.fields.reply_to, None)
                if answered is not None:
                    answered(message)

    def _called(self, call: Message[FdT]) -> None:
        fields = call.fields
        if fields.interface == PROPERTIES and fields.member == "GetAll":
            # GDBus asks when it is told of somebody to call: there are none.
            self._connection.reply(call, "a{sv}", ({},))
            return
        do = self._serving.get(fields.interface)
        if do is None:
            self._connection.refuse(call, UNKNOWN_METHOD, "nothing is here")
            return
        try:
            answer = do(fields.member, fields.signature, call.body)
        except RefusedCallError as exc:
            self._connection.refuse(call, FAILED, str(exc))
        else:
            self._owe(answer[1])
            self._connection.reply(call, *answer)

    def _owe(self, values: tuple[Value, ...]) -> None:
        self._owed += sum(len(each) for each in values if isinstance(each, bytes))
        if self._owed > MAX_OWED:
            raise DBusError("QEMU asks for more at once than it can have")

    def _signalled(self, signal: Message[FdT]) -> None:
        fields = signal.fields
        changed = self._following.get(fields.path)
        if (
            changed is not None
            and (fields.interface, fields.member) == (PROPERTIES, "PropertiesChanged")
            and fields.signature == "sa{sv}as"
        ):
            changed(signal.body[0], signal.body[1])


def error_text(error: Message[FdT]) -> str:
    """Return what an error says."""
    said = error.body[0] if error.fields.signature[:1] == "s" else ""
    return f"{error.fields.error_name[:100]}: {said[:200]}"
