"""An honest app's frames go on beside each kind of flood, and the proxy answers; VMs, too.

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
KEPT_BY_OTHER_VM = 0.6
"""Where 0.9 is what it should be."""
BESIDE_A_VM = ("tiny_requests", "copies", "frames", "connections")
"""What takes most of the proxy, of memory, of the compositor, and of processes."""
TRIES = 3
"""The best counts: the machine may have had something else to do."""
SECONDS = 1.0


@pytest.fixture(scope="module")
def measuring() -> Iterator[Measuring]:
    if not can_run("weston"):
        pytest.skip("needs weston, setpriv and prlimit: apt-get install weston")
    with native_stage("weston") as stage:
        yield Measuring(stage, SECONDS)


@pytest.fixture(scope="module")
def beside_a_vm() -> Iterator[Measuring]:
    if not can_run("weston"):
        pytest.skip("needs weston, setpriv and prlimit: apt-get install weston")
    with (
        native_stage("weston") as stage,
        native_stage("weston", beside=stage) as other,
    ):
        other.wait_serving()
        yield Measuring(stage, SECONDS, other)


def keeps_up(measured: Measured, kept: float) -> bool:
    return (
        not measured.problem and measured.ratio >= kept and measured.status <= ANSWERED
    )


def check(measuring: Measuring, kind: str, kept: float = KEPT) -> None:
    """Check that an honest app keeps up beside a flood."""
    tries: list[Measured] = []
    while len(tries) < TRIES and not (tries and keeps_up(tries[-1], kept)):
        tries.append(measuring.measure(kind))
    assert keeps_up(tries[-1], kept), tries


@pytest.mark.parametrize("kind", FLOODS)
def test_an_honest_app_goes_on(measuring: Measuring, kind: str) -> None:
    check(measuring, kind)


@pytest.mark.parametrize("kind", BESIDE_A_VM)
def test_an_app_goes_on_beside_a_hostile_vm(beside_a_vm: Measuring, kind: str) -> None:
    check(beside_a_vm, kind, KEPT_BY_OTHER_VM)
