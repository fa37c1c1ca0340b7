"""What is read of WLCS's output, and compared.  WLCS itself is run by `make wlcs`."""

import pytest

from tests.wlcs.__main__ import EXPECTED, RUNS
from tests.wlcs.results import (
    Expected,
    Outcome,
    differing,
    outdated,
    parse,
    read_expected,
    unlisted,
)

LOG = """\
[----------] 4 tests from Pointer
[ RUN      ] Pointer.moves
[       OK ] Pointer.moves (11 ms)
[ RUN      ] All/Pointer.enters/0
x.cpp:1: Failure
[  FAILED  ] All/Pointer.enters/0, where GetParam() = (4 bytes) (1002 ms)
[ RUN      ] Pointer.warps
[          ] Missing extension: gtk_primary_selection_device_manager>= 1
[     SKIP ] Pointer.warps (3ms)
[ RUN      ] Pointer.crashes
"""
END = """\
[  PASSED  ] 1 test
[  SKIPPED ] 1 test skipped:
[  FAILED  ] 1 test failed:
[  FAILED  ] Pointer.moves
"""
PASSED, FAILED = Outcome.PASSED, Outcome.FAILED


def test_a_test_that_does_not_end_has_crashed() -> None:
    assert parse(LOG) == {
        "Pointer.moves": PASSED,
        "All/Pointer.enters/0": FAILED,
        "Pointer.warps": Outcome.SKIPPED,
        "Pointer.crashes": Outcome.CRASHED,
    }


def test_the_list_at_the_end_is_of_no_test() -> None:
    assert parse(LOG + END) == parse(LOG)


def test_what_fails_without_us_differs_in_nothing() -> None:
    direct = {"a": PASSED, "b": FAILED, "c": PASSED, "d": PASSED}
    through = {"a": PASSED, "b": PASSED, "c": Outcome.SKIPPED}
    assert differing(direct, through) == {
        "c": Outcome.SKIPPED,
        "d": Outcome.CRASHED,
    }


def test_a_difference_is_listed_for_the_run_it_is_seen_in() -> None:
    entries = [Expected(("framed",), "frames", ("Popup.*",))]
    assert unlisted("framed", ["Popup.a", "Other.a"], entries) == ["Other.a"]
    assert unlisted("plain", ["Popup.a"], entries) == ["Popup.a"]


def test_what_is_listed_has_to_differ() -> None:
    entries = [Expected(("plain",), "", ("Popup.*", "Gone.*"))]
    direct = {"Popup.a": PASSED, "Popup.b": PASSED, "Popup.c": FAILED}
    through = {"Popup.a": PASSED, "Popup.b": FAILED, "Popup.c": PASSED}
    assert outdated("plain", direct, through, entries) == ["Gone.*", "Popup.a"]
    assert outdated("framed", direct, through, entries) == []


@pytest.mark.parametrize("entry", read_expected(EXPECTED.read_text()))
def test_each_entry_says_why(entry: Expected) -> None:
    assert entry.reason.strip()
    assert entry.tests
    assert set(entry.runs) <= set(RUNS)
