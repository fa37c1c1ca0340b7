"""One end of a connection, sans-IO: its beginning, calls and answers; to a peer, or to a bus.

Both ends call: QEMU is told of keys, and tells what its screen shows.  Bytes and fds go in
by `receive`; messages are taken by `next_message`; what is to be sent is taken by `take_output`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic

from wlproxy.protocol.dbus.auth import ServerAnswer, client_half
from wlproxy.protocol.dbus.messages import (
    Fields,
    Message,
    MessageFlag,
    MessageKind,
    MessageReader,
    encode_message,
)
from wlproxy.protocol.dbus.values import FdT, Value

PROPERTIES: Final = "org.freedesktop.DBus.Properties"
"""The interface by which an object's properties are read."""
FAILED: Final = "org.freedesktop.DBus.Error.Failed"
UNKNOWN_METHOD: Final = "org.freedesktop.DBus.Error.UnknownMethod"

_LAST_SERIAL: Final = 0xFFFFFFFF


@dataclass(slots=True)
class Outgoing(Generic[FdT]):
    """Bytes to be sent, and the fds that go with them."""

    data: bytes
    fds: tuple[FdT, ...] = ()


class Connection(Generic[FdT]):
    """Our end, the client's."""

    def __init__(self, uid: int, *, greeted: bool = False) -> None:
        """Begin it.

        Args:
            uid: whose socket it is, as the other end sees it.
            greeted: whether all that comes before messages has been sent and received.
        """
        self._answer = ServerAnswer(done=greeted)
        self._reader = MessageReader[FdT]()
        self._serial = 0
        self._output: list[Outgoing[FdT]] = []
        self._greeting = [] if greeted else [Outgoing[FdT](client_half(uid))]

    @property
    def waiting_fds(self) -> tuple[FdT, ...]:
        """The fds that came and belong to no message that was taken."""
        return self._reader.waiting_fds

    @property
    def idle(self) -> bool:
        """Whether all that came has been taken."""
        return self._reader.idle

    def receive(self, data: bytes, fds: Sequence[FdT] = ()) -> None:
        """Take what came off the socket.

        Raises:
            DBusError: the other end does not let us in; the fds are in `waiting_fds`.
        """
        self._reader.feed(b"", fds)
        if not self._answer.done:
            data = self._answer.feed(data)
        self._reader.feed(data)

    def next_message(self) -> Message[FdT] | None:
        """Take a message, or `None` if that needs more bytes.

        Raises:
            DBusError: what came is none.
        """
        return self._reader.next_message()

    def take_output(self) -> list[Outgoing[FdT]]:
        """Take what is to be sent now: messages wait until the other end lets us in."""
        taken, self._greeting = self._greeting, []
        if self._answer.done:
            taken += self._output
            self._output = []
        return taken

    def abandon(self) -> list[Outgoing[FdT]]:
        """Take all that was to be sent, and will not be any more."""
        taken, self._greeting = self._greeting + self._output, []
        self._output = []
        return taken

    def call(
        self,
        path: str,
        method: str,
        signature: str = "",
        body: tuple[Value, ...] = (),
        *,
        destination: str = "",
        wants_reply: bool = True,
    ) -> int:
        """Call a method; return the serial that its answer has as `reply_to`.

        Args:
            path: of the object.
            method: its interface and name, with a dot between them.
            signature: types of the arguments.
            body: the arguments.
            destination: on a bus, whom to call.
            wants_reply: whether the other end is to answer at all.
        """
        interface, _, member = method.rpartition(".")
        fields = Fields(
            path, interface, member, signature=signature, destination=destination
        )
        flags = MessageFlag.NONE if wants_reply else MessageFlag.NO_REPLY_EXPECTED
        return self._send(MessageKind.METHOD_CALL, fields, body, flags)

    def reply(
        self, call: Message[FdT], signature: str = "", body: tuple[Value, ...] = ()
    ) -> None:
        """Answer a call, if it wants an answer."""
        if call.wants_reply:
            fields = Fields(reply_to=call.serial, signature=signature)
            self._send(MessageKind.METHOD_RETURN, fields, body)

    def refuse(self, call: Message[FdT], error_name: str, text: str) -> None:
        """Answer a call with an error, if it wants an answer."""
        if call.wants_reply:
            fields = Fields(error_name=error_name, reply_to=call.serial, signature="s")
            self._send(MessageKind.ERROR, fields, (text,))

    def _send(
        self,
        kind: MessageKind,
        fields: Fields,
        body: tuple[Value, ...],
        flags: int = MessageFlag.NONE,
    ) -> int:
        self._serial = self._serial % _LAST_SERIAL + 1
        # `Message[FdT](...)` would cost more than all the rest.
        message: Message[FdT] = Message(kind, fields, body, (), self._serial, flags)
        self._output.append(Outgoing(*encode_message(message)))
        return self._serial
