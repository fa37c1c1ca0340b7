"""`python -m bench`: measures, prints the table, and leaves it, the figures and plots in files."""

import argparse
import os
import sys
import time
from pathlib import Path

from bench.document import add_into, put_into
from bench.machine import describe_machine
from bench.plots import PLOTS, write_plots
from bench.processes import BenchError
from bench.report import markdown, short
from bench.results import Results, ResultsError
from bench.rounds import NAMES, QUICK, run

TREE = Path(__file__).resolve().parents[1]
KEPT = TREE / "docs" / "benchmarks"
SCRATCH = TREE / "build" / "bench"
"""For a run that leaves something out."""
ROUNDS, QUICK_ROUNDS = 5, 2
MARK = "bench"
"""Where the table goes in a document: ``<!-- bench -->``, and its end."""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line; exits on a wrong one."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two rounds of few units, not of everything: does it work?",
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how often each is measured"
    )
    parser.add_argument(
        "--only", choices=NAMES, action="append", help="measure this; repeatable"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the files go (default: docs/benchmarks; build/bench with --quick, --only)",
    )
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="measure nothing; print FILE's table"
    )
    add_into(parser, MARK, "with --table: ")
    parser.add_argument(
        "--short",
        action="store_true",
        help="with --table: only what a frame of each size costs, and no charts",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, or print what was measured; return the exit status."""
    options = parse(arguments)
    try:
        if options.table is not None:
            _print(options.table, options.into, only_short=options.short)
        else:
            _measure(options)
    except (BenchError, ResultsError, OSError, ValueError) as exc:
        print(f"bench: {exc}", file=sys.stderr)
        return 1
    return 0


def _print(file: Path, into: Path | None, *, only_short: bool) -> None:
    results = Results.read(file)
    table = short(results) if only_short else markdown(results)
    if into is None:
        print(table, end="")
        return
    charts = [
        f"![{title}]({os.path.relpath(file.parent / name, into.parent)})\n"
        for name, (_, title) in PLOTS.items()
        if (file.parent / name).exists() and not only_short
    ]
    block = "\n".join([table, *charts])
    put_into(into, block, MARK)


def _measure(options: argparse.Namespace) -> None:
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    how = {"rounds": str(rounds), "quick": "yes" if options.quick else "no"}
    how["began"] = time.strftime("%Y-%m-%d %H:%M %z")
    results = Results(describe_machine(), how)
    began = time.monotonic()
    names = options.only or (QUICK if options.quick else NAMES)
    run(results, names, rounds, quick=options.quick)
    results.options["seconds"] = f"{time.monotonic() - began:.0f}"
    out = options.out or (SCRATCH if options.quick or options.only else KEPT)
    out.mkdir(parents=True, exist_ok=True)
    results.write(out / "results.json")
    (out / "results.md").write_text(markdown(results))
    write_plots(results, out)
    print()
    print(markdown(results), end="")


if __name__ == "__main__":
    sys.exit(main())
