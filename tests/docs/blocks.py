"""The commands that the documentation shows, and who runs them.

Each block of commands has a comment before it, which says so:

    <!-- run by: tests/docs/test_pages.py::test_qemu_args_run -->
    <!-- not run: needs a desktop -->

The comment is for whoever edits the page; readers of the site do not see it.  A picture has one that
names the command that makes it, `<!-- picture by: make demo -->`, or says how it was made:
`<!-- picture by hand: ... -->`.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
PAGES: Final = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "guest-agent" / "README.md",
)
NO_COMMANDS: Final = frozenset({"frame", "ini", "mermaid", "text"})
"""Languages of blocks in which nothing is to be typed or read by a program of ours."""

_COMMENT: Final = re.compile(r"<!-- *(.*?) *-->$")
_FENCE: Final = re.compile(r" {0,3}(```+)(\S*)")
_IMAGE: Final = re.compile(r"!\[[^]]*\]\(")
_RUN: Final = re.compile(r"run by: ([\w/.-]+\.py)(?:::(\w+))?")
_NOT_RUN: Final = re.compile(r"not run: \S.*")
_PICTURE: Final = re.compile(r"pictures? by: make ([\w-]+)")
_BY_HAND: Final = re.compile(r"picture by hand: \S.*")
_OPERATORS: Final = frozenset("();<>|&")


@dataclass(frozen=True)
class Block:
    """Lines of a page that are shown as they are."""

    page: Path
    line: int
    """The number of its first line, from 1."""

    heading: str
    """The nearest one above it, with its `#`."""

    lead: str
    """The line of text before it."""

    mark: str
    """The comment before it; empty if there is none."""

    kind: str
    """The language that its fence names; empty if it has no fence, or that no language."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{named(self.page)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """Return the words of each command, without variables and `sudo` before it."""
        return list(_commands("\n".join(self.lines)))


def named(page: Path) -> str:
    """Return how tests call a page."""
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Image:
    """A picture of a page."""

    page: Path
    line: int
    mark: str
    """The comment before it, or before the part of the page that a program writes."""


@dataclass
class Page:
    """What is in a page that has to be marked."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)

    def block(self, heading: str, lead: str = "") -> Block:
        """Return the first block below a heading, and after a line that ends so."""
        for each in self.blocks:
            if each.heading == heading and each.lead.endswith(lead):
                return each
        raise AssertionError(f"{self.path.name} has no commands in {heading!r}")


def read_page(path: Path) -> Page:
    """Find blocks and pictures."""
    return _Reader(path).read()


class _Reader:
    """Goes through a page line by line, and knows what it has last passed."""

    def __init__(self, path: Path) -> None:
        self._page = Page(path)
        self._lines = path.read_text().splitlines()
        self._next = 0
        self._heading = self._lead = self._mark = ""
        self._regions: list[tuple[str, str]] = []
        """What a program writes, from `<!-- name -->` on, and the mark before it."""

    def read(self) -> Page:
        """Go through all of it."""
        while self._next < len(self._lines):
            number, line = self._next, self._lines[self._next]
            self._next += 1
            after_blank = number == 0 or not self._lines[number - 1].strip()
            if found := _FENCE.match(line):
                self._block(number, found[2], self._until(found[1]))
            elif line.startswith("    ") and after_blank:
                self._block(number, "", self._indented(line))
            elif found := _COMMENT.match(line):
                self._mark = self._comment(found[1])
            elif _IMAGE.match(line):
                marks = [*(mark for _, mark in self._regions), self._mark]
                image = Image(self._page.path, number + 1, marks[0])
                self._page.images.append(image)
                self._mark = ""
            elif line.strip():
                self._mark, self._lead = "", line.strip()
                self._heading = line if line.startswith("#") else self._heading
        return self._page

    def _block(self, number: int, kind: str, lines: list[str]) -> None:
        above = (self._heading, self._lead, self._mark)
        block = Block(self._page.path, number + 1, *above, kind, tuple(lines))
        self._page.blocks.append(block)
        self._mark = ""

    def _until(self, fence: str) -> list[str]:
        """Take the lines before the end of a block with a fence, and that."""
        rest = [line.strip() for line in self._lines[self._next :]]
        count = rest.index(fence) if fence in rest else len(rest)
        taken = self._lines[self._next : self._next + count]
        self._next += count + 1
        return taken

    def _indented(self, first: str) -> list[str]:
        """Take the lines of a block without a fence."""
        taken = [first]
        while self._next < len(self._lines) and (
            self._lines[self._next].startswith("    ")
            or not self._lines[self._next].strip()
        ):
            taken.append(self._lines[self._next])
            self._next += 1
        return "\n".join(line[4:] for line in taken).rstrip().splitlines()

    def _comment(self, text: str) -> str:
        """Return the mark that a comment is, if it does not bound what a program writes."""
        if self._regions and text == f"/{self._regions[-1][0]}":
            self._regions.pop()
            return ""
        if f"<!-- /{text} -->" in self._lines[self._next :]:
            self._regions.append((text, self._mark))
            return ""
        return text


def _commands(script: str) -> Iterator[list[str]]:
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for token in [*lexer, ";"]:
            if not set(token) <= _OPERATORS:
                words.append(token)
                continue
            while words and (words[0] == "sudo" or re.match(r"\w+=", words[0])):
                words.pop(0)
            if words:
                yield words
            words = []


def fault_of(block: Block, root: Path = ROOT) -> str | None:
    """Say what is wrong with a block's mark, if anything is.

    Args:
        block: of any language.
        root: where the tests are that it may name.
    """
    if block.kind in NO_COMMANDS or _NOT_RUN.fullmatch(block.mark):
        return None
    found = _RUN.fullmatch(block.mark)
    if found is None:
        return (
            "no mark before it: <!-- run by: tests/...py::test_... -->, or "
            f"<!-- not run: why --> (or ```text, if it has no commands): {block.mark!r}"
        )
    path, test = root / found[1], found[2]
    if not path.is_file():
        return f"there is no {found[1]}"
    source = path.read_text()
    if test is not None and not re.search(
        rf"^(async )?def {test}\(", source, re.MULTILINE
    ):
        return f"{found[1]} has no {test}"
    if path.parent == Path(__file__).parent:
        return None  # those read the pages
    first = {words[0] for words in block.commands()}
    unknown = [word for word in first if word not in source]
    if unknown and block.page.name not in source:
        return f"{found[1]} has neither {block.page.name} nor {unknown}"
    return None


def picture_fault(image: Image, root: Path = ROOT) -> str | None:
    """Say what is wrong with a picture's mark, if anything is."""
    if _BY_HAND.fullmatch(image.mark):
        return None
    found = _PICTURE.fullmatch(image.mark)
    if found is None:
        return f"no <!-- picture by: make TARGET --> before it: {image.mark!r}"
    return None if found[1] in make_targets(root) else f"there is no `make {found[1]}`"


def make_targets(root: Path = ROOT) -> set[str]:
    """Return the targets that the Makefile explains."""
    text = (root / "Makefile").read_text()
    return set(re.findall(r"^([\w-]+):.*?##", text, re.MULTILINE))


def inline_code(path: Path) -> list[list[str]]:
    """Return the words of what stands in backticks in a page's text."""
    text = re.sub(r"(?ms)^```.*?^```$", "", path.read_text())
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", text)
    return [span.split() for span in spans]
