"""Protocols' XML as the lines of `interfaces.txt`: facts of the wire, and no text of theirs.

What a line says is described where they are read (`wlproxy.protocol.wayland.interface_table`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

SUPERSEDED = frozenset({"xdg-shell-unstable-v5.xml"})
"""Files whose interfaces have the names, but not the messages, of later ones."""

PLAIN = frozenset({"int", "uint", "fixed", "string", "object", "new_id", "array", "fd"})


class UnfitXmlError(Exception):
    """A file says what our tables cannot hold, or contradicts another one."""


@dataclass(frozen=True, slots=True)
class Described:
    """One interface, as one file has it.

    Attributes:
        name: of the interface.
        version: the highest that is described.
        protocol: which it belongs to.
        requests: a line of each.
        events: the same.
        creates: the interfaces whose objects its messages make.
    """

    name: str
    version: int
    protocol: str
    requests: tuple[str, ...]
    events: tuple[str, ...]
    creates: frozenset[str] = field(default=frozenset(), compare=False)

    def block(self) -> str:
        """Its lines, the first of which names it."""
        head = f"{self.name} {self.version} {self.protocol}"
        return "\n".join([head, *self.requests, *self.events]) + "\n"


def read(path: Path) -> list[Described]:
    """Read all interfaces of one file.

    Raises:
        UnfitXmlError: it has something that our tables cannot hold.
    """
    root = ET.parse(path).getroot()
    protocol = root.get("name", "")
    return [_interface(protocol, each) for each in root.iter("interface")]


def merge(described: Iterable[Described]) -> dict[str, Described]:
    """Choose the highest version of each interface, which several files may have.

    Protocols become stable under their old names, and are then in two files.

    Raises:
        UnfitXmlError: a lower version is not the beginning of a higher one: an object
            that is bound at the lower would be misread.
    """
    chosen: dict[str, Described] = {}
    for each in sorted(described, key=lambda each: (each.version, each.protocol)):
        before = chosen.setdefault(each.name, each)
        if not begins(before, each):
            raise UnfitXmlError(
                f"{each.name} of {each.protocol} contradicts that of {before.protocol}"
            )
        if each.version > before.version:
            chosen[each.name] = each
    return chosen


def begins(low: Described, high: Described) -> bool:
    """Whether all that the one has is in the other, at the same places."""
    sides = ((low.requests, high.requests), (low.events, high.events))
    return all(_called(some) == _called(more)[: len(some)] for some, more in sides)


def lines_of(interfaces: Iterable[Described]) -> str:
    """Write interfaces as the file has them, protocol by protocol."""
    ordered = sorted(interfaces, key=lambda each: each.protocol)  # else as in the XML
    return "\n".join(each.block() for each in ordered)


def _called(lines: Iterable[str]) -> list[list[str]]:
    """Leave out what arguments are called, which later versions may change."""
    return [
        [word if ":" not in word else word.partition(":")[2] for word in line.split()]
        for line in lines
    ]


def _interface(protocol: str, element: ET.Element) -> Described:
    name = element.get("name", "")
    version = int(element.get("version", "1"))
    requests = tuple(_message(name, each) for each in element.iter("request"))
    events = tuple(_message(name, each) for each in element.iter("event"))
    creates = {
        arg.get("interface", "")
        for arg in element.iter("arg")
        if arg.get("type") == "new_id"
    }
    for side in ("request", "event"):
        since = (int(each.get("since", "1")) for each in element.iter(side))
        if max(since, default=1) > version:
            raise UnfitXmlError(f"{name} has a message of a version beyond its own")
    return Described(name, version, protocol, requests, events, frozenset(creates))


def _message(interface: str, element: ET.Element) -> str:
    words = [element.tag, element.get("name", ""), element.get("since", "1")]
    if element.get("type") == "destructor":
        words.append("destructor")
    elif element.get("type"):
        raise UnfitXmlError(f"{interface}.{words[1]} is a {element.get('type')}")
    return "  " + " ".join([*words, *_arguments(interface, element)])


def _arguments(interface: str, message: ET.Element) -> Iterator[str]:
    for arg in message.iter("arg"):
        kind = arg.get("type", "")
        if kind not in PLAIN:
            raise UnfitXmlError(f"{interface}: an argument of type {kind!r}")
        null = "?" if arg.get("allow-null") == "true" else ""
        of = f":{arg.get('interface')}" if arg.get("interface") else ""
        yield f"{arg.get('name')}:{kind}{null}{of}"
