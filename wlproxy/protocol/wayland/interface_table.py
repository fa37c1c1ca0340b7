"""The table of every known interface, read from `interfaces.txt`.

That file is data of ours (`make tables` writes it, of the protocols' XML).  Blank lines
separate interfaces.  The first line of each has its name, its version and its protocol; the
others are its messages in the order of their opcodes: `request` or `event`, name, the version
that introduced it, `destructor` if it ends the object, and its arguments as
`name:kind:interface`, with a `?` after a kind that may be null.

The file is read as the module is imported (half a millisecond), an interface's lines when it
is first looked up.  One that is missing here cannot be decoded, so it must be hidden from the
client.
"""

import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, Interface, MessageSpec

_FILE: Final = "interfaces.txt"

_KINDS: Final = {
    "int": ArgKind.INT,
    "uint": ArgKind.UINT,
    "fixed": ArgKind.FIXED,
    "string": ArgKind.STRING,
    "object": ArgKind.OBJECT,
    "new_id": ArgKind.NEW_ID,
    "array": ArgKind.ARRAY,
    "fd": ArgKind.FD,
}


class _Interfaces(Mapping[str, Interface]):
    """Interfaces by name, made as they are asked for."""

    def __init__(self, text: str) -> None:
        blocks = (block.strip() for block in text.split("\n\n"))
        self._blocks = {
            block.partition(" ")[0]: block for block in blocks if block[:1] != "#"
        }
        self._made: dict[str, Interface] = {}

    def __getitem__(self, name: str) -> Interface:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = _interface(self._blocks[name])
        return made

    def __contains__(self, name: object) -> bool:
        return name in self._blocks

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)

    def version(self, name: str) -> int:
        """The highest known version of an interface, whose messages are not read yet."""
        return int(self._head(name)[1])

    def protocol(self, name: str) -> str:
        """Name the protocol that an interface belongs to."""
        return self._head(name)[2]

    def _head(self, name: str) -> list[str]:
        return self._blocks[name].partition("\n")[0].split(" ")


def _interface(block: str) -> Interface:
    head, *lines = block.split("\n")
    name, version, _protocol = head.split(" ")
    requests: list[MessageSpec] = []
    events: list[MessageSpec] = []
    for line in lines:
        side, *words = line.split()
        messages = requests if side == "request" else events
        is_request = messages is requests
        messages.append(_message(name, len(messages), words, is_request=is_request))
    return Interface(name, int(version), tuple(requests), tuple(events))


def _message(
    interface: str, opcode: int, words: list[str], *, is_request: bool
) -> MessageSpec:
    name, since, *args = words
    ends = args[:1] == ["destructor"]
    specs = tuple(_argument(arg, is_request) for arg in args[ends:])
    return MessageSpec(interface, name, opcode, int(since), specs, ends)


@cache
def _argument(text: str, is_request: bool) -> ArgSpec:  # noqa: FBT001
    """Make the description of an argument: one for all messages that have the same."""
    name, kind, *interface = text.split(":")
    plain = kind.removesuffix("?")
    made = is_request and plain == "new_id"
    return ArgSpec(
        _KINDS[plain],
        plain != kind,
        interface[0] if interface else None,
        "new_id" if made else name,
    )


INTERFACES: Final = _Interfaces((pkgutil.get_data(__package__, _FILE) or b"").decode())
"""Every known interface by name, in its highest known version."""
