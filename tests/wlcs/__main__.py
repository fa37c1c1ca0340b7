"""`python -m tests.wlcs`: runs the Wayland conformance suite, without us and through us.

WLCS (the Wayland Conformance Test Suite) is run against Debian 13's Mir three times: as it is, through agent and
proxy, and through them with frames around the windows.  What passes in the first and not in the
others has to be in `expected.toml`, with a reason; what is listed there and passes is a failure, too.
A difference that is not listed is tried again before it counts.  What is listed as Mir's fault is
shown without us (`control`).
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.processes import BenchError
from tests.compositors import CannotRunError
from tests.wlcs import control
from tests.wlcs.results import (
    Expected,
    Outcome,
    Results,
    differing,
    outdated,
    read_expected,
    unlisted,
)
from tests.wlcs.running import COLOUR, NotHereError, Wlcs, again, debian

EXPECTED: Final = Path(__file__).with_name("expected.toml")
ALLOWED: Final = (
    *("zwlr_foreign_toplevel_manager_v1", "zwlr_virtual_pointer_manager_v1"),
    *("zwp_input_method_manager_v2", "zwp_input_method_v1"),
    "zwp_text_input_manager_v2",
)
"""What WLCS tests and no guest has unasked."""
UNFRAMED: Final = ("wl_shell", "zwlr_layer_shell_v1", "zxdg_shell_v6")
"""The same, and it makes windows that cannot be framed."""


def _allow(*names: str) -> tuple[str, ...]:
    return tuple(word for name in names for word in ("--allow", name))


RUNS: Final = {
    "plain": _allow(*ALLOWED, *UNFRAMED),
    "framed": (*_allow(*ALLOWED), "--frame", COLOUR),
}
"""Run through us to the proxy's options."""
TRIES: Final = 2
"""How often a difference is tried again."""


def main() -> str | None:
    """Do it; returns what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.wlcs", description=__doc__)
    parser.add_argument("--root", type=Path, help="where that Debian is, or is kept")
    parser.add_argument("--run", choices=RUNS, help="that one alone, and direct")
    arguments = parser.parse_args()
    expected = read_expected(EXPECTED.read_text())
    try:
        with debian(arguments.root) as root:
            wlcs = Wlcs(root)
            direct = _run(wlcs, "direct", None)
            wrong = [
                line
                for run, options in RUNS.items()
                if arguments.run in (None, run)
                for line in _compare(wlcs, run, options, direct, expected)
            ]
            if (blamed := control.check(root)) is not None:
                wrong.append(blamed)
    except (BenchError, CannotRunError, NotHereError) as exc:
        return str(exc)
    for line in wrong:
        print(line)
    return f"{len(wrong)} times, {EXPECTED.name} is wrong" if wrong else None


def _compare(
    wlcs: Wlcs,
    run: str,
    options: Sequence[str],
    direct: Results,
    expected: Sequence[Expected],
) -> list[str]:
    through = _run(wlcs, run, options)
    for _ in range(TRIES):
        if not (new := unlisted(run, differing(direct, through), expected)):
            break
        again(wlcs, options, new, through)
    differ = differing(direct, through)
    for entry in expected:
        if run in entry.runs:
            count = sum(entry.matches(test) for test in differ)
            print(f"  {count:4} differ: {entry.reason}")
    new = unlisted(run, differ, expected)
    return [
        *(f"{run}: {differ[test]}, and passes without us: {test}" for test in new),
        *(
            f"{run}: listed, and does not differ: {test}"
            for test in outdated(run, direct, through, expected)
        ),
    ]


def _run(wlcs: Wlcs, run: str, options: Sequence[str] | None) -> Results:
    began = time.monotonic()
    results = wlcs.run(options)
    counts = Counter(results.values())
    said = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome)
    print(f"{run}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
