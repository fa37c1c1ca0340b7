"""What a check has found, and how that is printed."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

MARGIN: Final = 2
"""Columns between two."""
NARROWEST: Final = 30
"""Columns that an explanation has at least, whatever the terminal."""


class Verdict(Enum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not everything, or not as well as it could."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        subject: what was checked, a few words.
        verdict: how it came out.
        explanation: what was found.
        remedy: what to do; empty if there is nothing.  Commands are lines of their own, two
            columns to the right.
    """

    subject: str
    verdict: Verdict
    explanation: str
    remedy: str = ""


def report(findings: Sequence[Finding], columns: int = 80) -> str:
    """Lay out a table of the findings, and below it the remedies.

    Remedies have commands in them, so their lines are left as they are.
    """
    first = max((len(each.verdict.value) for each in findings), default=0) + MARGIN
    second = max((len(each.subject) for each in findings), default=0) + MARGIN
    width = max(columns - first - second, NARROWEST)
    lines = []
    for each in findings:
        head = f"{each.verdict.value:{first}}{each.subject:{second}}"
        for text in textwrap.wrap(printable(each.explanation), width) or [""]:
            lines.append(head + text)
            head = " " * (first + second)
    remedies: dict[str, list[str]] = {}
    for each in findings:
        if each.remedy:
            remedies.setdefault(each.remedy, []).append(each.subject)
    for remedy, subjects in remedies.items():
        lines += ["", f"{', '.join(subjects)}:", *map(printable, remedy.splitlines())]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def printable(text: str) -> str:
    """Return a line that any terminal can show, and that does not steer it."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
