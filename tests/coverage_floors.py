"""Keeps coverage from falling: each module has a floor, and exceptions become fewer.

`coverage-floors.toml` has a goal for all modules, a floor for each, and the modules that
are below the goal, with the reason.  `check` fails where a module is below its floor or
has none, where an exception is needed no more, and, if it is `--strict`, where a floor has been
left far behind; `raise` writes the file anew, and never lowers a floor nor adds an exception.

Both read what `coverage run` has left.  Which of two tasks comes first is not always the
same, so that a few lines may be run today and not tomorrow: so many may be missing before
`check` calls it a fault, and a floor is left behind if it is twice as far below.  They are
counted in lines, not in percent: they stay where they are if their module becomes smaller.
Another machine may run more of the tests, which is no fault: so only `--strict` finds that.
"""

import argparse
import json
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).parent.parent
FILE = Path(__file__).with_name("coverage-floors.toml")
HEAD = """\
# What tests/coverage_floors.py checks, in percent of lines and branches.
# `make floors` writes this file: numbers only rise, and [exceptions] only shrinks.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the tests ran of a module: so many of its lines and branches."""

    ran: int
    all: int

    @property
    def percent(self) -> int:
        return self._percent(0)

    @property
    def at_best(self) -> int:
        """The percentage of a luckier run of the same tests."""
        return self._percent(-self._luck)

    @property
    def overdue(self) -> int:
        """What a floor must not be below, even if this run was lucky."""
        return self._percent(2 * self._luck)

    @property
    def _luck(self) -> int:
        return min(4, self.all // 20)

    def _percent(self, luck: int) -> int:
        ran = min(max(self.ran - luck, 0), self.all)
        return 100 * ran // self.all if self.all else 100


@dataclass(frozen=True, slots=True)
class Floors:
    """The file's contents.

    Attributes:
        goal: the least floor of a module that is no exception, in percent.
        exceptions: module (its path in the repository) -> why its floor is lower.
        floors: module -> percent.
    """

    goal: int
    exceptions: Mapping[str, str]
    floors: Mapping[str, int]

    @classmethod
    def read(cls, path: Path) -> "Floors":
        table = tomllib.loads(path.read_text())
        return cls(table["goal"], table["exceptions"], table["floors"])

    def text(self) -> str:
        """Return what `read` reads."""
        lines = [f"{HEAD}goal = {self.goal}"]
        for title in ("exceptions", "floors"):
            lines += ["", f"[{title}]"]
            table = sorted(getattr(self, title).items())
            lines += [
                f"{json.dumps(key)} = {json.dumps(value)}" for key, value in table
            ]
        return "\n".join(lines) + "\n"

    def complaints(
        self, measured: Mapping[str, Measured], *, strict: bool = True
    ) -> list[str]:
        """Say what is wrong, a line for each fault; nothing if all is well.

        Args:
            measured: what was run of each module.
            strict: whether a floor that is left behind is a fault.
        """
        found = []
        for module, now in sorted(measured.items()):
            floor = self.floors.get(module)
            if floor is None:
                found.append(f"{module}: {now.percent} %, and no floor yet")
                continue
            if now.at_best < floor:
                found.append(f"{module}: {now.percent} %, and its floor is {floor} %")
            if strict and now.overdue > floor:
                found.append(
                    f"{module}: {now.percent} %, far above its floor, {floor} %"
                )
            if floor < self.goal and module not in self.exceptions:
                found.append(f"{module}: a floor below {self.goal} %, and no exception")
            if floor >= self.goal and module in self.exceptions:
                found.append(f"{module}: an exception that is needed no more")
        gone = (self.floors.keys() | self.exceptions.keys()) - measured.keys()
        return found + [f"{module}: no such module" for module in sorted(gone)]

    def raised(self, measured: Mapping[str, Measured]) -> "Floors":
        """Raise all floors that can be, and drop what is needed no more."""
        floors = {
            module: max(self.floors.get(module, 0), now.percent)
            for module, now in measured.items()
        }
        exceptions = {
            module: why
            for module, why in self.exceptions.items()
            if module in floors and floors[module] < self.goal
        }
        return Floors(self.goal, exceptions, floors)


def measure(data_file: Path) -> dict[str, Measured]:
    """Read what a `coverage run` has left.

    Args:
        data_file: usually `.coverage`.
    """
    coverage = Coverage(
        data_file=str(data_file), config_file=str(ROOT / "pyproject.toml")
    )
    coverage.load()
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        coverage.json_report(outfile=report.name)
        files = json.load(report)["files"]
    return {
        Path(ROOT, path).relative_to(ROOT).as_posix(): Measured(
            summary["covered_lines"] + summary["covered_branches"],
            summary["num_statements"] + summary["num_branches"],
        )
        for path, summary in ((path, file["summary"]) for path, file in files.items())
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, or raise; returns the exit status: 1 if something is to be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.coverage_floors")
    parser.add_argument("command", choices=["check", "raise"])
    parser.add_argument("--data", type=Path, default=ROOT / ".coverage")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--floors", type=Path, default=FILE)
    options = parser.parse_args(arguments)
    floors, measured = Floors.read(options.floors), measure(options.data)
    if options.command == "raise":
        floors = floors.raised(measured)
        options.floors.write_text(floors.text())
    complaints = floors.complaints(measured, strict=options.strict)
    for line in complaints:
        print(line)
    if complaints and options.command == "check":
        print("Test what is below its floor; `make floors` does what else can be done.")
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
