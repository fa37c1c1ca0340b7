"""What WLCS says of each test, what differs with wlproxy between, and what of that is expected.

Values only: nothing is run here (`tests.wlcs.running`).
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Outcome(StrEnum):
    """What became of one test; WLCS skips what needs a global that is not there."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CRASHED = "crashed"


Results = dict[str, Outcome]
"""A test's name to what became of it."""

_LINE = re.compile(
    r"\[ *(RUN|OK|FAILED|SKIP) *\] ([A-Za-z]\S*?)(?:,.*|)(?: \(\d+ ?ms\)|$)"
)
_OUTCOMES = {"OK": Outcome.PASSED, "FAILED": Outcome.FAILED, "SKIP": Outcome.SKIPPED}


def parse(log: str) -> Results:
    """Read what WLCS has printed; a test that has begun and not ended has crashed."""
    results: Results = {}
    for line in log.splitlines():
        if not (match := _LINE.search(line)):
            continue
        word, name = match.group(1), match.group(2)
        if word == "RUN":
            results[name] = Outcome.CRASHED
        elif line.endswith("ms)"):  # not of the list at the end
            results[name] = _OUTCOMES[word]
    return results


@dataclass(frozen=True, slots=True)
class Expected:
    """A difference that is as it should be.

    Attributes:
        runs: where it is seen.
        reason: why.
        tests: patterns (fnmatch) of names: all that pass without us and match do differ.
    """

    runs: tuple[str, ...]
    reason: str
    tests: tuple[str, ...]

    def matches(self, test: str) -> bool:
        """Whether a test is one of them."""
        return any(fnmatchcase(test, pattern) for pattern in self.tests)


def read_expected(text: str) -> list[Expected]:
    """Read the file of expected differences."""
    return [
        Expected(tuple(entry["runs"]), entry["reason"], tuple(entry["tests"]))
        for entry in tomllib.loads(text)["expected"]
    ]


def differing(direct: Mapping[str, Outcome], through: Mapping[str, Outcome]) -> Results:
    """Find the tests that pass without wlproxy and not with it."""
    return {
        test: through.get(test, Outcome.CRASHED)
        for test, outcome in direct.items()
        if outcome is Outcome.PASSED and through.get(test) is not Outcome.PASSED
    }


def unlisted(
    run: str, differ: Iterable[str], expected: Iterable[Expected]
) -> list[str]:
    """Name the differing tests that no entry has."""
    entries = [entry for entry in expected if run in entry.runs]
    return sorted(
        test for test in differ if not any(entry.matches(test) for entry in entries)
    )


def outdated(
    run: str,
    direct: Mapping[str, Outcome],
    through: Mapping[str, Outcome],
    expected: Iterable[Expected],
) -> list[str]:
    """Name what is listed and passes, and patterns of nothing that WLCS has."""
    found = []
    for entry in expected:
        if run not in entry.runs:
            continue
        found += [
            test
            for test, outcome in through.items()
            if outcome is Outcome.PASSED
            and direct.get(test) is Outcome.PASSED
            and entry.matches(test)
        ]
        found += [
            pattern
            for pattern in entry.tests
            if not any(fnmatchcase(test, pattern) for test in direct)
        ]
    return sorted(found)
