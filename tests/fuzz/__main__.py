"""`python -m tests.fuzz`: random inputs for all that faces a peer, until time is up.

Inputs that once found something are kept in `tests/fuzz/seeds/TARGET/`: they come first,
and random ones are mutated from them, as well as made from nothing.  A new finding is
written beside them; it is the developer who keeps it, once it is mended.

Exit status: 0 if nothing was found, 1 if something was.
"""

import argparse
import hashlib
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.fuzz.choices import Choices, fresh, mutated
from tests.fuzz.mutants import MUTANTS, install

SEEDS = Path(__file__).parent / "seeds"
TARGETS = ("relay", "channel", "lanes", "wire")
MUTATED = 0.3
"""The share of inputs that are made from seeds, where there are any."""


class Target(Protocol):
    """An input's life: `run` raises if something is wrong."""

    messages: int

    def run(self) -> None: ...


@dataclass
class Tally:
    """What a target has been through.

    Attributes:
        inputs: how many.
        messages: in all of them.
        findings: by where and what, the input that showed it, and the traceback.
    """

    inputs: int = 0
    messages: int = 0
    findings: dict[str, tuple[bytes, str]] = field(default_factory=dict)


def make(target: str) -> Callable[[Choices], Target]:
    """Import a target: late, since a mutant has to be there before."""
    if target == "relay":
        from tests.fuzz.relay import Conversation

        return Conversation
    if target == "channel":
        from tests.fuzz.channel import Wire

        return Wire
    if target == "lanes":
        from tests.fuzz.lanes import BackToBack

        return BackToBack
    from tests.fuzz.wire import Messages

    return Messages


def inputs(target: str, seed: int) -> Iterator[bytes]:
    """What is kept, and then whatever comes to mind; the same for the same seed."""
    kept = [path.read_bytes() for path in sorted((SEEDS / target).glob("*.bin"))]
    yield from kept
    rng = random.Random(f"{target} {seed}")
    while True:
        if kept and rng.random() < MUTATED:
            yield mutated(rng, rng.choice(kept))
        else:
            yield fresh(rng)


def fuzz(target: str, data: Iterator[bytes], goes_on: Callable[[Tally], bool]) -> Tally:
    """Run inputs as long as `goes_on` says."""
    tally = Tally()
    begin = make(target)
    while goes_on(tally):
        each = next(data)
        life = begin(Choices(each))
        try:
            life.run()
        except Exception as error:  # noqa: BLE001 - that is what it looks for
            tally.findings.setdefault(_name(error), (each, traceback.format_exc()))
        tally.inputs += 1
        tally.messages += life.messages
    return tally


def _name(error: BaseException) -> str:
    """Tell findings apart: by what they are and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}"


def _keep(target: str, data: bytes) -> Path:
    directory = SEEDS / target
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"new-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    path.write_bytes(data)
    return path


def main() -> int:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=TARGETS, action="append", help="not all")
    parser.add_argument("--seconds", type=float, default=600, help="in all")
    parser.add_argument("--inputs", type=int, help="per target, instead of a time")
    parser.add_argument("--seed", type=int, help="of the random inputs")
    parser.add_argument("--mutant", choices=MUTANTS, help="put a fault in first")
    arguments = parser.parse_args()
    targets = arguments.target or TARGETS
    if arguments.mutant:
        install(MUTANTS[arguments.mutant])
        targets = (MUTANTS[arguments.mutant].target,)
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    found = 0
    for target in targets:
        ends = time.monotonic() + arguments.seconds / len(targets)

        def goes_on(tally: Tally, ends: float = ends) -> bool:
            if arguments.mutant and tally.findings:
                return False
            if arguments.inputs is not None:
                return tally.inputs < int(arguments.inputs)
            return time.monotonic() < float(ends)

        tally = fuzz(target, inputs(target, seed), goes_on)
        found += len(tally.findings)
        print(
            f"{target}: {tally.inputs} inputs, {tally.messages} messages, "
            f"{len(tally.findings)} findings",
            flush=True,
        )
        for name, (data, trace) in tally.findings.items():
            kept = "" if arguments.mutant else f", kept as {_keep(target, data)}"
            print(f"  {name}{kept}\n{trace}", flush=True)
    return min(found, 1)


if __name__ == "__main__":
    sys.exit(main())
