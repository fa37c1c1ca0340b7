"""Wayland messages as values: split but not yet decoded, and decoded.

Reading and writing their bytes is the business of `wire`.
"""

from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final, Generic, TypeVar

from wlproxy.protocol.errors import LocalProtocolError

FdT = TypeVar("FdT")
"""What stands for an fd: the caller's choice, a handle or an attachment."""

DISPLAY_ID: Final = 1
"""The `wl_display` of every connection."""

FIRST_SERVER_ID: Final = 0xFF000000
"""Ids from here on are allocated by the compositor, those below by the client."""


@unique
class DisplayError(IntEnum):
    """`wl_display.error`: the codes that go with `DISPLAY_ID`."""

    INVALID_OBJECT = 0
    INVALID_METHOD = 1
    """No such request in this version, or its arguments are malformed."""
    NO_MEMORY = 2
    IMPLEMENTATION = 3


@dataclass(slots=True)
class RawMessage:
    """One whole message whose arguments have not been looked at.

    Attributes:
        object_id: the sender: the object that the message is about.
        opcode: which request or event of its interface.
        data: all of its bytes, header included. Belongs to this message alone, so it
            may be changed in place; the two fields above do not follow.
    """

    object_id: int
    opcode: int
    data: bytearray


@dataclass(frozen=True, slots=True)
class NewId:
    """A NEW_ID whose interface is named in the message (`wl_registry.bind`)."""

    interface: bytes
    version: int
    object_id: int


ArgValue = int | bytes | NewId | None
"""INT, UINT: int. FIXED: the raw int. OBJECT: its id, 0 for null. NEW_ID: its id, or
`NewId` if untyped. STRING: bytes without the NUL, `None` for null. ARRAY: bytes.
FD: `None`, as they are in `Message.fds`."""


# Neither this nor `RawMessage` is frozen: making one that is takes five times as long.
@dataclass(slots=True)
class Message(Generic[FdT]):
    """One decoded message.

    Attributes:
        object_id: the sender.
        opcode: which request or event of its interface.
        args: the arguments in order.
        fds: its fds in order.
    """

    object_id: int
    opcode: int
    args: tuple[ArgValue, ...]
    fds: tuple[FdT, ...] = ()

    def integer(self, index: int) -> int:
        """The INT, UINT, FIXED, OBJECT or typed NEW_ID at `index`.

        Raises:
            LocalProtocolError: that argument is something else.
        """
        return as_integer(self.args[index])

    def string(self, index: int) -> bytes | None:
        """The STRING at `index`, `None` if it is null.

        Raises:
            LocalProtocolError: that argument is something else.
        """
        return as_string(self.args[index])

    def array(self, index: int) -> bytes:
        """The ARRAY at `index`, or a STRING that is not nullable.

        Raises:
            LocalProtocolError: that argument is something else.
        """
        return as_array(self.args[index])

    def new_id(self, index: int) -> NewId:
        """The untyped NEW_ID at `index`.

        Raises:
            LocalProtocolError: that argument is something else.
        """
        return as_new_id(self.args[index])


def as_integer(value: ArgValue) -> int:
    """Tell the type checker that an argument is an INT, UINT, FIXED, OBJECT or NEW_ID.

    Raises:
        LocalProtocolError: it is something else.
    """
    if isinstance(value, int):
        return value
    raise LocalProtocolError(f"{value!r} is no number")


def as_string(value: ArgValue) -> bytes | None:
    """The same of a STRING, `None` if it is null."""
    if value is None or isinstance(value, bytes):
        return value
    raise LocalProtocolError(f"{value!r} is no string")


def as_array(value: ArgValue) -> bytes:
    """The same of an ARRAY, or a STRING that is not nullable."""
    if isinstance(value, bytes):
        return value
    raise LocalProtocolError(f"{value!r} is no array")


def as_new_id(value: ArgValue) -> NewId:
    """The same of an untyped NEW_ID."""
    if isinstance(value, NewId):
        return value
    raise LocalProtocolError(f"{value!r} is no untyped new_id")
