"""How a program of the bench leaves its table: printed, or in a document between two marks."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench.processes import BenchError


def add_into(parser: argparse.ArgumentParser, mark: str, before: str = "") -> None:
    """Have a program take `--into DOCUMENT`.

    Args:
        parser: its own.
        mark: the name of its place in the document.
        before: what its help begins with.
    """
    parser.add_argument(
        "--into",
        type=Path,
        metavar="DOCUMENT",
        help=f"{before}put it between <!-- {mark} --> and <!-- /{mark} -->",
    )


def print_table(make: Callable[[], str], into: Path | None, mark: str) -> int:
    """Make a table, print it, and put it into a document if there is one.

    Args:
        make: measures, and writes the table.
        into: the document.
        mark: the name of the table's place there.

    Returns:
        The program's exit status; why it is 1 was printed.
    """
    try:
        table = make()
        if into is not None:
            put_into(into, table, mark)
    except (BenchError, OSError, ValueError) as exc:
        print(exc, file=sys.stderr)
        return 1
    print(table, end="")
    return 0


def put_into(document: Path, table: str, mark: str) -> None:
    """Put a table into a document; raises as `replace_table`, or OSError."""
    document.write_text(replace_table(document.read_text(), table, mark))


def replace_table(document: str, table: str, mark: str) -> str:
    """Put a table between the marks of a document: ``<!-- bench -->`` and its end.

    Raises:
        ValueError: it has no such marks.
    """
    first, last = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    before, begin, rest = document.partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise ValueError(f"no {first.strip()} and {last} in the document")
    return f"{before}{begin}{table}{end}{after}"
