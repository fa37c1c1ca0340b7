"""The benchmark of the core: what is played is what was recorded."""

import pytest

from bench.relay import FRAMES, SCRIPTS, measure, record, replay


def test_a_frame_is_seven_messages() -> None:
    trace = record("frames")

    assert trace.messages == 7 * FRAMES
    assert replay(trace) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_recording_can_be_played(name: str) -> None:
    assert replay(record(name)) > 0


def test_the_middle_of_all_rounds_counts() -> None:
    times = iter([9.0, 3.0, 1.0, 2.0])

    result = measure("a name", 2, lambda: next(times), rounds=3)

    assert (result.fastest, result.microseconds, result.slowest) == (5e5, 1e6, 1.5e6)
    assert result.rate == 1
