"""Break processes at random moments, and see that nothing else breaks.

    python3 -m tests.chaos [--rounds N] [--seed N] [--on COMPOSITOR]...
    python3 -m tests.chaos --lab [--rounds N]     # in the lab's host VM, with its guest
    python3 -m tests.chaos.hostile                # floods, beside an honest app

`make chaos` runs all three.  kill -9, SIGSTOP and SIGCONT, no fds, no memory, a full disk:
for an app, the agent, the proxy and the compositor, all of them real (`stage` says what is
not, outside the lab).  While one has too little of something, another one may be killed as
well, so that sessions begin and compositors are looked at under that limit.  Meanwhile an
honest app animates, and real apps come.  Then:

* nobody else has ended, and by SIGSTOP nobody at all;
* if an app was the target, or by SIGSTOP, all other apps go on, frame after frame;
* a new app is shown, in time;
* when the apps have gone, nobody holds more than before: fds by kind (pins are among
  them: the agent's pipes, gem_locate's), files, memory; at the end, threads;
* neither agent nor proxy has ended by a signal of its own, or logged a traceback.

Exit status 1 if any of that is not so.  What is printed as `seed 7, 30 rounds on sway` is
chosen again by `--seed 7 --rounds 30 --on sway`.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lab.guest import Guest
from tests.chaos.report import say_all
from tests.chaos.rounds import Chaos, plan
from tests.chaos.stage import Stage, can_run, lab_stage, native_stage, versions

NATIVE = ("weston", "sway")
LAB = ("weston", "weston-gl", "sway")


def main() -> int:
    """Run rounds on each compositor; return the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.chaos")
    parser.add_argument("--rounds", type=int, default=60, help="altogether")
    parser.add_argument("--seed", type=int, help="as an earlier run printed it")
    parser.add_argument("--on", action="append", choices=LAB, metavar="COMPOSITOR")
    parser.add_argument("--lab", action="store_true", help="with the lab's guest")
    options = parser.parse_args()
    seed = options.seed
    if seed is None:
        seed = int.from_bytes(os.urandom(4))
    compositors = options.on or (LAB if options.lab else NATIVE)
    usable = [each for each in compositors if options.lab or can_run(each)]
    for each in set(compositors) - set(usable):
        print(f"no {each} here, or no setpriv and prlimit: apt-get install {each}")
    # As evenly as may be; the first ones get one more.
    share, rest = divmod(options.rounds, len(usable) or 1)
    good = bool(usable)
    for index, compositor in enumerate(usable):
        rounds = share + (index < rest)
        chosen = seed + index
        print(f"seed {chosen}, {rounds} rounds on {versions(compositor)}", flush=True)
        with _stage(compositor, lab=options.lab) as stage:
            good &= _run(stage, chosen, rounds)
    return 0 if good else 1


def _run(stage: Stage, seed: int, rounds: int) -> bool:
    chaos = Chaos(stage, lambda text: print(text, flush=True))
    outcomes = chaos.run(plan(seed, rounds))
    if chaos.lost_guests:
        print(f"guests that were lost, and their rounds with them: {chaos.lost_guests}")
    return say_all(stage.compositor, outcomes, chaos.threads_left())


@contextmanager
def _stage(compositor: str, *, lab: bool) -> Iterator[Stage]:
    if lab:
        with Guest() as guest, lab_stage(compositor, guest) as stage:
            yield stage
    else:
        with native_stage(compositor) as native:
            yield native


if __name__ == "__main__":
    sys.exit(main())
