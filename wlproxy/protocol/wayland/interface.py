"""The types that describe what Wayland messages look like.

The tables themselves are in `interface_table`. A `MessageSpec` works out once what `wire` would
otherwise have to work out for every message.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Final

HEADER_SIZE: Final = 8
"""Bytes before a message's arguments: the sender's id, then `size << 16 | opcode`."""

WORD_SIZE: Final = 4
"""Every argument is a whole number of these."""


@unique
class ArgKind(Enum):
    """An argument's type; the values are libwayland's signature characters."""

    INT = "i"
    UINT = "u"
    FIXED = "f"
    STRING = "s"
    OBJECT = "o"
    NEW_ID = "n"
    ARRAY = "a"
    FD = "h"


_WORDS: Final = {
    ArgKind.INT: "i",
    ArgKind.UINT: "I",
    ArgKind.FIXED: "i",
    ArgKind.OBJECT: "I",
    ArgKind.NEW_ID: "I",
}
"""How `struct` spells the arguments that are one word."""

_WIRE_SIZES: Final = {
    ArgKind.STRING: None,
    ArgKind.ARRAY: None,
    ArgKind.FD: 0,  # travels beside the bytes
}


@dataclass(frozen=True, slots=True)
class ArgSpec:
    """One argument of a message.

    Attributes:
        kind: its type.
        nullable: whether a STRING or OBJECT may be null.
        interface: of an OBJECT or NEW_ID; `None` if any (`wl_display.error`), and for
            a NEW_ID if the message itself says which (`wl_registry.bind`).
        name: as in the protocol's XML; "new_id" for that of a request.
        is_id: whether it is an OBJECT or NEW_ID.
        is_new_id: whether it is a NEW_ID.
        is_untyped_new_id: whether interface name and version precede the id.
        wire_size: bytes in the message's body; `None` if each message differs.
    """

    kind: ArgKind
    nullable: bool = False
    interface: str | None = None
    name: str = field(default="", compare=False)
    is_id: bool = field(init=False, repr=False, compare=False)
    is_new_id: bool = field(init=False, repr=False, compare=False)
    is_untyped_new_id: bool = field(init=False, repr=False, compare=False)
    wire_size: int | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        untyped = self.kind is ArgKind.NEW_ID and self.interface is None
        derived = {
            "is_id": self.kind in (ArgKind.OBJECT, ArgKind.NEW_ID),
            "is_new_id": self.kind is ArgKind.NEW_ID,
            "is_untyped_new_id": untyped,
            "wire_size": None if untyped else _WIRE_SIZES.get(self.kind, WORD_SIZE),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class MessageSpec:
    """One request or event.

    Attributes:
        interface: the interface that it belongs to.
        name: as in the protocol's XML.
        opcode: its number among the interface's requests or events.
        since: the interface version that introduced it.
        args: its arguments in order.
        is_destructor: whether it ends its object.  One with a client's id ends for good
            with `delete_id`; for ids of the compositor's (0xff000000 and up) there is none.
        fd_count: how many of them are fds.
        new_id_index: which of them is the (first) NEW_ID, if any.
        size: bytes of every such message, header included; `None` if they differ.
        offsets: where each argument starts in the message, if `size` is fixed (that
            of an fd: where the next one does); else empty.
        words: reads and writes all arguments at once, if each is one word; else `None`.
        required_ids: which arguments are ids that may not be null.
        id_offsets: (offset, spec) of each OBJECT and NEW_ID, if these are the same in
            every such message, which they may be even if `size` differs; else `None`.
        has_ids: whether there are any.
        has_untyped_new_id: whether a new object's interface is named on the wire, so
            that the message cannot be translated without decoding it.
        places: which argument has which name.
    """

    interface: str
    name: str
    opcode: int
    since: int
    args: tuple[ArgSpec, ...]
    is_destructor: bool = field(default=False, compare=False)
    fd_count: int = field(init=False, repr=False, compare=False)
    new_id_index: int | None = field(init=False, repr=False, compare=False)
    size: int | None = field(init=False, repr=False, compare=False)
    offsets: tuple[int, ...] = field(init=False, repr=False, compare=False)
    words: struct.Struct | None = field(init=False, repr=False, compare=False)
    required_ids: tuple[int, ...] = field(init=False, repr=False, compare=False)
    id_offsets: tuple[tuple[int, ArgSpec], ...] | None = field(
        init=False, repr=False, compare=False
    )
    has_ids: bool = field(init=False, repr=False, compare=False)
    has_untyped_new_id: bool = field(init=False, repr=False, compare=False)
    places: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kinds = [arg.kind for arg in self.args]
        new_id = ArgKind.NEW_ID
        derived = {
            "fd_count": kinds.count(ArgKind.FD),
            "new_id_index": kinds.index(new_id) if new_id in kinds else None,
            "has_ids": any(arg.is_id for arg in self.args),
            "has_untyped_new_id": any(arg.is_untyped_new_id for arg in self.args),
            "places": {arg.name: place for place, arg in enumerate(self.args)},
            "words": _words(self.args),
            "required_ids": tuple(
                place
                for place, arg in enumerate(self.args)
                if arg.is_id and not arg.nullable
            ),
            **_layout(self.args),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return f"{self.interface}.{self.name}"


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface: its requests and events, by opcode.

    Attributes:
        name: as in the protocol's XML.
        version: the highest that the table describes.
        requests: what a client sends to such an object.
        events: what the compositor sends from such an object.
    """

    name: str
    version: int
    requests: tuple[MessageSpec, ...]
    events: tuple[MessageSpec, ...]
    _requests_by_name: dict[str, MessageSpec] = field(
        init=False, repr=False, compare=False
    )
    _events_by_name: dict[str, MessageSpec] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for side, specs in (("requests", self.requests), ("events", self.events)):
            by_name = {spec.name: spec for spec in specs}
            object.__setattr__(self, f"_{side}_by_name", by_name)

    def request(self, name: str) -> MessageSpec:
        """Find a request by its name.

        Raises:
            KeyError: there is none.
        """
        return self._requests_by_name[name]

    def event(self, name: str) -> MessageSpec:
        """Find an event by its name.

        Raises:
            KeyError: there is none.
        """
        return self._events_by_name[name]


def _words(args: tuple[ArgSpec, ...]) -> struct.Struct | None:
    """Say how all arguments are read at once, if each is one word."""
    if any(arg.wire_size != WORD_SIZE for arg in args):
        return None
    return struct.Struct("=" + "".join(_WORDS[arg.kind] for arg in args))


def _layout(args: tuple[ArgSpec, ...]) -> dict[str, object]:
    """Work out where arguments are, as far as every message has them at the same place."""
    offset: int | None = HEADER_SIZE
    offsets: list[int] = []
    id_offsets: list[tuple[int, ArgSpec]] | None = []
    for arg in args:
        if arg.is_id and (offset is None or arg.is_untyped_new_id):
            id_offsets = None
        if offset is None:
            continue
        offsets.append(offset)
        if arg.is_id and id_offsets is not None:
            id_offsets.append((offset, arg))
        offset = None if arg.wire_size is None else offset + arg.wire_size
    return {
        "size": offset,
        "offsets": () if offset is None else tuple(offsets),
        "id_offsets": None if id_offsets is None else tuple(id_offsets),
    }
