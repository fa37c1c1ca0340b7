"""Links between documents lead somewhere, as `make docs` finds out later and more thoroughly."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.blocks import ROOT, named

CODE = re.compile(r"^```(?s:.*?)^```$|`[^`\n]+`|^ {4}.*$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


DOCUMENTS = sorted(
    {
        *ROOT.glob("*.md"),
        *(
            path
            for place in ("bench", "docs", "guest-agent", "kernel", "lab")
            for path in (ROOT / place).rglob("*.md")
        ),
        *ROOT.glob("wlproxy-channel/*.md"),
    }
)


def anchors(path: Path) -> set[str]:
    """Return how headings can be linked to, by the rule of Python's Markdown."""
    text = re.sub(r"(?ms)^```.*?^```$", "", path.read_text())
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+)$", text, re.MULTILINE):
        shown = LINK.sub("]", heading)
        word = re.sub(r"[^\w\s-]", "", shown.encode("ascii", "ignore").decode())
        found.add(re.sub(r"[-\s]+", "-", word.strip().lower()))
    return found


def dead_links(path: Path) -> Iterator[str]:
    """Yield the links of a document to files and headings that are not there."""
    for link in LINK.findall(CODE.sub("", path.read_text())):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = path.parent / parts.path if parts.path else path
        if not target.exists() or (
            parts.fragment and parts.fragment not in anchors(target)
        ):
            yield link


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    assert list(dead_links(path)) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# It's `x` of [y](z)\n\n```text\n# None\n```\n")
    page = tmp_path / "a.md"
    page.write_text(
        "## A B\n[1](b.md) [2](#a-b) [3](b.md#its-x-of-y) [4](https://x/y) `[5](none)`\n"
        "[6](none.md) [7](b.md#none) [8](#none) [9](../none/)\n\n    [10](none)\n\n[11](b)\n"
    )
    assert list(dead_links(page)) == ["none.md", "b.md#none", "#none", "../none/", "b"]
