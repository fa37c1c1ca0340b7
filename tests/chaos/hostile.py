"""Measures an honest app's frame rate, and the proxy's answers, beside each kind of flood.

    python3 -m tests.chaos.hostile [--seconds S] [--on COMPOSITOR] [--direct | --two] [KIND]...

Exit status 1 if an honest app keeps less than half of the frame rate that it has alone, or
`wlproxy status` takes over a second to answer, beside any of `tests.clients.floods`.  With
--two the flood is in another VM, which has a proxy of its own, and the honest app is to keep
nine tenths.  With --direct both are clients of the compositor, and what it does about that
is what is shown.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.chaos.app import App, HungError
from tests.chaos.stage import Role, Stage, native_stage
from tests.clients.floods import FLOODS
from tests.integration.harness import ClientError

KEPT = 0.5
"""The share of its own frame rate that an honest app keeps."""
KEPT_BY_OTHER_VM = 0.9
ANSWERED = 1.0
"""Seconds."""
UNDER_WAY = 0.5
"""Seconds until a flood is what it will be."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an honest app had beside a flood.

    Attributes:
        kind: of flood.
        alone: frames per second without it.
        beside: frames per second with it.
        status: seconds that the slowest answer took.
        gone: seconds until nothing was left of it, once it was killed.
        problem: what went wrong altogether.
        kept: the share of its frame rate that the honest app is to keep.
    """

    kind: str
    alone: float
    beside: float
    status: float
    gone: float
    problem: str = ""
    kept: float = KEPT

    @property
    def ratio(self) -> float:
        return self.beside / self.alone if self.alone else 0.0

    @property
    def good(self) -> bool:
        return self.ratio >= self.kept and self.status <= ANSWERED and not self.problem


class Measuring:
    """Measures on a stage, with one honest app all the while."""

    def __init__(
        self, stage: Stage, seconds: float, other: Stage | None = None
    ) -> None:
        """Measure for so many seconds each, at the stage's display.

        With `other`, that is where the floods are.
        """
        self._stage = stage
        self._flooded = other or stage
        self._seconds = seconds
        self._honest: App | None = None

    def measure(self, kind: str) -> Measured:
        """Measure beside a flood.

        Raises:
            HungError: there is no honest app's frame even without it.
        """
        honest = self._honest_app()
        alone, _ = self._rate(honest)
        problem, beside, status = "", 0.0, 0.0
        with self._flood(kind):
            time.sleep(UNDER_WAY)
            try:
                beside, status = self._rate(honest)
            except (ClientError, TimeoutError) as exc:
                problem = f"the honest app: {exc}"
        began = time.monotonic()
        try:
            self._wait_gone()
            honest.shows(1, self._stage.patience)
        except (HungError, ClientError, TimeoutError) as exc:
            problem = problem or str(exc)
            self._start_over()
        gone = time.monotonic() - began
        kept = KEPT if self._flooded is self._stage else KEPT_BY_OTHER_VM
        return Measured(kind, alone, beside, status, gone, problem, kept)

    def _honest_app(self) -> App:
        if self._honest is None:
            self._stage.wait_serving()
            self._honest = self._stage.app()
            self._honest.animate(self._stage.patience)
            self._honest.shows(5, self._stage.patience)
        return self._honest

    def _rate(self, honest: App) -> tuple[float, float]:
        """Frames per second for a while, and the slowest answer to `status`."""
        began, before, slowest = time.monotonic(), honest.frames(), 0.0
        while time.monotonic() - began < self._seconds:
            asked = time.monotonic()
            document = self._stage.status()
            answered = time.monotonic() - asked
            slowest = max(slowest, answered if document else self._stage.patience)
            time.sleep(min(0.1, self._seconds / 10))
        after = honest.frames()
        return (after - before) / (time.monotonic() - began), slowest

    @contextmanager
    def _flood(self, kind: str) -> Iterator[None]:
        apps = self._flooded.processes[Role.APP]
        arguments, env = [kind, self._flooded.display], self._flooded.python()
        module = "tests.clients.floods"
        pid = apps.place.spawn_module(module, arguments, env, apps.log)
        try:
            yield
            if not apps.place.alive(pid):
                raise HungError(f"the flood has ended: {apps.news()[-1000:]}")
        finally:
            apps.place.signal(pid, 9)

    def _wait_gone(self) -> None:
        """Wait until only the honest app is left.

        Raises:
            HungError: others are, too.
        """
        deadline = time.monotonic() + self._stage.patience
        honest = self._flooded is self._stage
        while True:
            document = self._flooded.status()
            if document is not None and len(document["clients"]) <= honest:
                return
            if time.monotonic() > deadline:
                raise HungError("the flood is killed, and yet a client")
            time.sleep(0.02)

    def _start_over(self) -> None:
        """Kill proxy and agent, with all that they have got to do."""
        for role in (Role.PROXY, Role.AGENT):
            process = self._flooded.processes[role]
            process.place.signal(process.pid, 9)
            process.place.status(process.pid)
        self._flooded.start_missing()
        if self._honest is not None:
            self._honest.kill()
        self._honest = None


def measure_all(
    measuring: Measuring, kinds: Sequence[str], say: Callable[[Measured], None]
) -> list[Measured]:
    """Measure beside one flood after the other."""
    found = []
    for kind in kinds:
        found.append(measuring.measure(kind))
        say(found[-1])
    return found


def table_of(title: str, found: Sequence[Measured]) -> Table:
    """Lay out what was measured."""
    table = Table(title=title)
    table.add_column("flood")
    for name in ("frames/s alone", "beside it", "kept", "status", "gone after"):
        table.add_column(name, justify="right")
    table.add_column("")
    for each in found:
        table.add_row(
            each.kind,
            f"{each.alone:.0f}",
            f"{each.beside:.1f}",
            f"{each.ratio:.2f}",
            f"{each.status:.2f} s",
            f"{each.gone:.2f} s",
            each.problem or ("" if each.good else "too little"),
        )
    return table


def main() -> int:
    """Measure natively; return the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.chaos.hostile")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(FLOODS))
    parser.add_argument("--seconds", type=float, default=3.0)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--direct", action="store_true", help="without wlproxy")
    where.add_argument("--two", action="store_true", help="the flood in another VM")
    parser.add_argument("--on", default="weston", metavar="COMPOSITOR")
    options = parser.parse_args()

    def say(one: Measured) -> None:
        print(f"{one.kind}: {one.ratio:.2f} {one.problem}", flush=True)

    with ExitStack() as stages:
        stage = stages.enter_context(native_stage(options.on))
        if options.direct:
            stage.display = stage.compositor_display
        other = None
        if options.two:
            other = stages.enter_context(native_stage(options.on, beside=stage))
            other.wait_serving()
        measuring = Measuring(stage, options.seconds, other)
        found = measure_all(measuring, options.kinds or list(FLOODS), say)
    console = Console(width=100, highlight=False, markup=False)
    whose = "another VM's hostile one" if options.two else "a hostile one"
    console.print(table_of(f"an honest app beside {whose}", found))
    return 0 if all(each.good for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
