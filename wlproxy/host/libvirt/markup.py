"""XML of which each element knows where it is in the text, so that all else stays as it was.

What one changes is replaced in place; what a parser would throw away (order, comments, quotes,
space) is never written anew.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self
from xml.parsers import expat

_TAG: Final = re.compile(rb"""<(?:[^'">]|"[^"]*"|'[^']*')*>""")


class MarkupError(ValueError):
    """The text is not XML, or has what a domain's never has."""


@dataclass(slots=True)
class Element:
    """An element.

    Attributes:
        tag: its name.
        attributes: by their names.
        start: the first byte of its start tag.
        inner: the byte after that tag.
        end: the byte after its end tag.
        text: all text directly in it.
        children: in order.
    """

    tag: str
    attributes: dict[str, str]
    start: int
    inner: int
    end: int = 0
    text: str = ""
    children: list[Self] = field(default_factory=list)

    def all(self, path: str) -> Iterator[Self]:
        """Find the elements at a path of names: `devices/channel`."""
        name, _, rest = path.partition("/")
        for child in self.children:
            if child.tag == name:
                if rest:
                    yield from child.all(rest)
                else:
                    yield child

    def first(self, path: str) -> Self | None:
        """Find the first element at a path."""
        return next(self.all(path), None)

    def get(self, path: str, attribute: str) -> str:
        """Return an attribute of the first element at a path; "" if there is none."""
        found = self.first(path)
        return found.attributes.get(attribute, "") if found is not None else ""


def parse(text: bytes) -> Element:
    """Parse XML.

    Raises:
        MarkupError: it is none, or declares a document type.
    """
    stack: list[Element] = []
    roots: list[Element] = []
    parser = expat.ParserCreate("utf-8")

    def begin(tag: str, attributes: dict[str, str]) -> None:
        start = parser.CurrentByteIndex
        found = _TAG.match(text, start)
        if found is None:
            raise MarkupError("a tag is not where it begins")
        element = Element(tag, attributes, start, found.end())
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def end(_: str) -> None:
        element, where = stack.pop(), parser.CurrentByteIndex
        element.end = element.inner
        if text[where : where + 2] == b"</":
            element.end = text.index(b">", where) + 1

    def take(characters: str) -> None:
        stack[-1].text += characters

    def refuse(*_: object) -> None:
        raise MarkupError("a domain has no document type")

    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = take
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text, True)  # noqa: FBT003 - as the library has it
    except expat.ExpatError as exc:
        raise MarkupError(f"this is no XML: {exc}") from exc
    return roots[0]


class Editor:
    """Changes to a text, each where an element is."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._edits: list[tuple[int, int, bytes]] = []

    def replace(self, element: Element, by: str) -> None:
        """Put something in an element's place."""
        self._edits.append((element.start, element.end, by.encode()))

    def set(self, element: Element, attribute: str, value: str) -> None:
        """Give an attribute that an element has another value, which needs no escapes."""
        tag = self._text[element.start : element.inner].decode()
        pattern = rf"(\s{attribute}\s*=\s*)(?:'[^']*'|\"[^\"]*\")"
        changed = re.sub(pattern, lambda found: f"{found[1]}'{value}'", tag, count=1)
        self._edits.append((element.start, element.inner, changed.encode()))

    def append(self, parent: Element, snippet: str, after: Element | None) -> None:
        """Add lines to an element that has an end tag, below its last child or one of these."""
        after = after or (parent.children[-1] if parent.children else None)
        if after is not None:
            lines = _indented(snippet, self._indent(after))
            self._edits.append((after.end, after.end, f"\n{lines}".encode()))
            return
        lines = _indented(snippet, self._indent(parent) + "  ")
        self._edits.append((parent.inner, parent.inner, f"\n{lines}".encode()))

    def result(self) -> bytes:
        """Return the text with all changes."""
        pieces, done = [], 0
        for start, end, by in sorted(self._edits, key=lambda edit: edit[:2]):
            pieces += [self._text[done:start], by]
            done = end
        return b"".join([*pieces, self._text[done:]])

    def _indent(self, element: Element) -> str:
        line = self._text[: element.start].rpartition(b"\n")[2]
        return line.decode() if not line.strip() else ""


def _indented(snippet: str, indent: str) -> str:
    return "\n".join(f"{indent}{line}" for line in snippet.rstrip().splitlines())
