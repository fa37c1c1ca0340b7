"""Checks a host for everything that the proxy needs, and says what to do.

Findings are values; the command line renders them.  Nothing is changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


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
        remedy: what to do; empty if there is nothing.
    """

    subject: str
    verdict: Verdict
    explanation: str
    remedy: str = ""


def examine(environ: Mapping[str, str], display: str | None = None) -> list[Finding]:
    """Run every check.  Blocks for a second or so; raises nothing of its own."""
    raise NotImplementedError
