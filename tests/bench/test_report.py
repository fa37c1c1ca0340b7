"""The table: what is in it, what is marked, and where it goes."""

import pytest

from bench.report import markdown, number, short
from tests.bench import runs
from tests.bench.runs import add


def row(text: str, name: str) -> list[str]:
    """Find the cells of the one row of that name."""
    [line] = [each for each in text.splitlines() if each.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_row_has_medians_ranges_and_a_ratio() -> None:
    results = runs.results()
    add(results, "frames-480p", "wlproxy", "cpu_us", 900.0, 1000.0, 1010.0)
    add(results, "frames-480p", "waypipe none", "cpu_us", 2000.0, 2000.0, 2000.0)
    assert row(markdown(results), "frames-480p") == [
        "1,000 (900 to 1,010)",
        "2,000",
        "0.5",
    ]


def test_noise_is_marked_and_so_is_what_is_made_of_it() -> None:
    results = runs.results()
    add(results, "frames-480p", "wlproxy", "cpu_us", 500.0, 1000.0)
    add(results, "frames-480p", "waypipe none", "cpu_us", 750.0, 750.0)
    ours, theirs, ratio = row(markdown(results), "frames-480p")
    assert ours.startswith("~")
    assert not theirs.startswith("~")
    assert ratio == "~1.00"


def test_counts_are_not_marked() -> None:
    results = add(runs.results(), "frames-64", "wlproxy", "system_calls.app_side", 8.0)
    assert row(markdown(results), "frames-64 app's side") == ["8.00"]


def test_targets_are_first() -> None:
    results = runs.results()
    for peer, cpu in (("wlproxy", 1500.0), ("waypipe none", 150.0)):
        add(results, "frames-64", peer, "cpu_us", cpu, cpu)
    add(results, "frames-64", "wlproxy", "system_calls.app_side", 8.0)
    add(results, "frames-64", "wlproxy", "system_calls.compositor_side", 9.0)
    text = markdown(results)
    against = "CPU per 64x64 frame, against waypipe"
    assert row(text, against) == ["1.5, then 1.0", "10.0"]
    both = "system calls per 64x64 frame, agent and proxy"
    assert row(text, both) == ["8 and 9", "8.00 and 9.00"]


def test_what_more_of_it_costs_and_what_a_processor_carries() -> None:
    results = runs.results()
    add(results, "sync", "wlproxy", "cpu_us", 100.0, 100.0)
    add(results, "sync-200-apps", "wlproxy", "cpu_us", 140.0, 140.0)
    add(results, "frames-64", "wlproxy", "cpu_us.app_side", 100.0, 100.0)
    add(results, "frames-64", "wlproxy", "cpu_us.compositor_side", 100.0, 1000.0)
    text = markdown(results)
    idle = "an app more that does nothing, for another's sync, ns"
    assert row(text, idle) == ["200"]
    windows = "windows of 64x64 at 60 frames/s, per processor of agent and of proxy"
    assert row(text, windows) == ["~167 and 30.3"]
    assert "pixels more" not in text


def test_without_waypipe_there_are_no_ratios() -> None:
    results = add(runs.results(), "sync", "wlproxy", "cpu_us", 5.0, 5.0)
    results.missing["waypipe none"] = "there is no waypipe: apt-get install waypipe"
    text = markdown(results)
    assert row(text, "sync") == ["5.00"]
    assert "Not measured: waypipe none: there is no waypipe" in text


@pytest.mark.parametrize(
    ("others", "steal", "warned"),
    [(1.0, 1.0, False), (30.0, 0.0, True), (0, 12.0, True)],
)
def test_a_busy_machine_is_said_to_be_one(
    others: float, steal: float, *, warned: bool
) -> None:
    results = add(runs.results(), "sync", "direct", "others_percent", others)
    add(results, "sync", "direct", "steal_percent", steal)
    assert ("no figure here is good" in markdown(results)) == warned


def test_it_says_which_machine_and_which_versions() -> None:
    text = markdown(add(runs.results(quick="yes"), "sync", "direct", "p50_us", 1.0))
    assert "Abacus, 2 cores, 8 MiB, Linux 6.1, not virtual" in text
    assert "weston 14.0.1, waypipe 0.10" in text
    assert "too few units" in text


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (0.01234, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1,234")],
)
def test_numbers_have_the_digits_that_count(value: float, written: str) -> None:
    assert number(value) == written


def test_a_newcomer_sees_frames_and_nothing_else() -> None:
    results = runs.results()
    for workload in ("frames-64", "frames-4k", "sync"):
        add(results, workload, "wlproxy", "cpu_us", 900.0, 900.0)
        add(results, workload, "waypipe none", "cpu_us", 1800.0, 1800.0)
    table = short(results)
    assert table.startswith("CPU of both ends, µs per frame:\n\n|")
    assert row(table, "frames-64") == row(table, "frames-4k") == ["900", "1,800", "0.5"]
    assert "sync" not in table
