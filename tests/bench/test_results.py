"""Medians, spreads, and when a number means little; and the file that keeps them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.results import Results, ResultsError, Summary
from tests.bench import runs

NUMBERS = st.lists(
    st.floats(min_value=-1e6, max_value=1e6, allow_subnormal=False), min_size=1
)


def test_median_and_range() -> None:
    summary = Summary.of([3.0, 1.0, 2.0])
    assert (summary.median, summary.low, summary.high) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize(
    ("samples", "noisy"),
    [
        ([100.0, 101.0, 102.0], False),
        ([100.0, 120.0], True),
        ([100.0, 100.0], False),
        ([0.0, 0.0], False),
        ([-1.0, 0.0, 1.0], True),
        ([100.0], True),
        # One that is far off says nothing about the middle half.
        ([100.0, 101.0, 102.0, 103.0, 500.0], False),
        ([60.0, 80.0, 100.0, 120.0, 140.0], True),
    ],
)
def test_a_spread_of_more_than_its_share_is_noise(
    samples: list[float], *, noisy: bool
) -> None:
    assert Summary.of(samples).noisy == noisy


@given(NUMBERS)
def test_any_samples_have_a_summary(samples: list[float]) -> None:
    summary = Summary.of(samples)
    assert summary.low <= summary.median <= summary.high
    assert summary.spread is None or summary.spread >= 0


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    results = runs.add(runs.results(), "frames-64", "wlproxy", "cpu_us", 1.5, 2.5)
    results.missing["waypipe none"] = "there is no waypipe"
    results.write(tmp_path / "results.json")
    assert Results.read(tmp_path / "results.json") == results


def test_the_file_says_what_is_noise(tmp_path: Path) -> None:
    results = runs.add(runs.results(), "sync", "direct", "p50_us", 1.0, 2.0, 3.0)
    results.write(tmp_path / "results.json")
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["workloads"]["sync"]["peers"]["direct"]["p50_us"] == {
        "median": 2.0,
        "low": 1.0,
        "high": 3.0,
        "spread": 1.0,
        "noisy": True,
        "samples": [1.0, 2.0, 3.0],
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}', '{"format": 1}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other").write_text(text)
    with pytest.raises(ResultsError):
        Results.read(tmp_path / "other")


def test_what_was_not_measured_has_no_summary() -> None:
    results = runs.add(runs.results(), "sync", "direct", "p50_us", 1.0)
    assert results.get("sync", "direct", "p99_us") is None
    assert results.get("sync", "waypipe none", "p50_us") is None
    assert results.get("flood", "direct", "p50_us") is None
