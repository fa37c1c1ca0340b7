"""Tables of what came of all rounds."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.chaos.faults import Fault
from tests.chaos.rounds import NEWCOMERS, Outcome
from tests.chaos.stage import Role


def table_of(title: str, outcomes: Sequence[Outcome]) -> Table:
    """Count, for each pair of fault and target."""
    table = Table(title=title)
    table.add_column("fault")
    table.add_column("of")
    for name in ("rounds", "ended", "apps went on", "slowest", "left", "wrong"):
        table.add_column(name, justify="right")
    for fault in Fault:
        for role in Role:
            own = [
                each
                for each in outcomes
                if (each.round.fault, each.round.target) == (fault, role)
            ]
            if own:
                table.add_row(fault.value, role.value, *_row(own))
    table.add_section()
    table.add_row("all", "", *_row(outcomes))
    return table


def _row(outcomes: Sequence[Outcome]) -> list[str]:
    apps = 1 + NEWCOMERS
    return [
        str(len(outcomes)),
        str(sum(each.round.target in each.ended for each in outcomes)),
        f"{sum(each.survivors for each in outcomes)} of {apps * len(outcomes)}",
        f"{max((each.recovery for each in outcomes), default=0):.1f} s",
        str(sum(each.left.total() for each in outcomes)),
        str(sum(len(each.findings) for each in outcomes)),
    ]


def say_all(title: str, outcomes: Sequence[Outcome], threads: Counter[str]) -> bool:
    """Print the table and whatever is wrong; returns whether nothing is."""
    console = Console(width=100, highlight=False, markup=False)
    console.print(table_of(title, outcomes))
    left: Counter[str] = Counter(threads)
    modes: Counter[str] = Counter()
    for each in outcomes:
        left += each.left
        modes += each.modes
        for finding in each.findings:
            console.print(f"round {each.round}: {finding}")
    ended = Counter(role.value for each in outcomes for role in each.ended)
    tries = sum(each.tries > 1 for each in outcomes)
    console.print(f"frames of the honest app before the fault, by mode: {dict(modes)}")
    console.print(f"processes that ended and were started again: {dict(ended)}")
    console.print(f"rounds in which the first app afterwards was not shown: {tries}")
    console.print(f"left behind: {dict(left) or 0}")
    return bool(outcomes) and not left and all(each.good for each in outcomes)
