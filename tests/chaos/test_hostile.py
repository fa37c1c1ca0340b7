"""An honest app's frames go on beside each kind of flood, and the proxy answers.

A short version of `tests.chaos.hostile`, with bounds that a busy machine keeps, too.
"""

from collections.abc import Iterator

import pytest

from tests.chaos.hostile import Measured, Measuring
from tests.chaos.stage import can_run, native_stage
from tests.clients.floods import FLOODS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

KEPT = 0.3
"""Where 0.5 is what it should be."""
ANSWERED = 3.0
"""Seconds, where 1 is what it should be."""
TRIES = 3
"""The best counts: the machine may have had something else to do."""
SECONDS = 1.0


@pytest.fixture(scope="module")
def measuring() -> Iterator[Measuring]:
    if not can_run("weston"):
        pytest.skip("needs weston, setpriv and prlimit: apt-get install weston")
    with native_stage("weston") as stage:
        yield Measuring(stage, SECONDS)


def keeps_up(measured: Measured) -> bool:
    return (
        not measured.problem and measured.ratio >= KEPT and measured.status <= ANSWERED
    )


@pytest.mark.parametrize("kind", FLOODS)
def test_an_honest_app_goes_on(measuring: Measuring, kind: str) -> None:
    tries: list[Measured] = []
    while len(tries) < TRIES and not (tries and keeps_up(tries[-1])):
        tries.append(measuring.measure(kind))
    assert keeps_up(tries[-1]), tries
