"""A little of `make fuzz`, and proof that it would find something."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import TARGETS, fuzz, inputs
from tests.fuzz.mutants import MUTANTS

TREE = Path(__file__).parents[2]
SEED = 6
SHARE = {"relay": 18.0, "channel": 6.0, "lanes": 6.0, "wire": 6.0}
"""Seconds of each target."""
INPUTS = 2000
"""Each mutant is found with fewer, by the same seed."""

pytestmark = pytest.mark.slow


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seed", str(SEED), *arguments],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str) -> None:
    done = run("--target", target, "--seconds", str(SHARE[target]))
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{target}: " in done.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_fault_is_found(mutant: str) -> None:
    done = run("--mutant", mutant, "--inputs", str(INPUTS))
    print(done.stdout)
    assert done.returncode == 1, f"{mutant} is not found\n{done.stdout}{done.stderr}"
    assert "1 findings" in done.stdout


def test_the_same_seed_makes_the_same_inputs() -> None:
    one, two = inputs("relay", SEED), inputs("relay", SEED)
    assert [next(one) for _ in range(20)] == [next(two) for _ in range(20)]
    other = inputs("relay", SEED + 1)
    assert [next(two) for _ in range(20)] != [next(other) for _ in range(20)]


def test_an_input_is_the_same_life_again() -> None:
    lives = [
        fuzz("relay", inputs("relay", SEED), lambda tally: tally.inputs < 3)
        for _ in range(2)
    ]
    assert lives[0].messages == lives[1].messages > 0
