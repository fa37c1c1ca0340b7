"""Rounds: a fault, what it did to everybody, and what was left behind.

In each round an honest app animates, a victim may, a real app comes while the fault
lasts; then everything has to work again, and when the apps have gone, everybody has to
hold what they held at rest.  Which faults, and when, follows from the seed alone.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lab.guest import GuestError
from tests.chaos.accounting import Usage, usage
from tests.chaos.app import App, HungError, eventually
from tests.chaos.faults import Fault, Target, inject
from tests.chaos.stage import PROCESSES, Role, Stage
from tests.integration.harness import ClientError

MOST_SLACK = 10
NEWCOMERS = 3
ALSO = 0.5
"""How often someone else is killed while a process is limited."""
LEFT_PATIENCE = 15.0
"""Seconds for what is let go of late: the agent's pins, threads that idle."""
SETTLING = 2.5
"""Seconds after which pins have gone that outlive their session (the agent's `GRACE`)."""
LOG_SHOWN = 4000
"""Characters of a log that are shown of a bad round."""
TRACEBACK = "Traceback (most recent call last)"
RAISED = re.compile(r"^[ |]*((?:\w+\.)*\w*(?:Error|Exception)\b.{,200})", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Round:
    """What to do.

    Attributes:
        number: from 1 on.
        target: whom to break; an app is not the honest one.
        fault: how.
        delay: seconds until then.
        hold: seconds until it is undone.
        slack: how little a limited process is left.
        newcomers: which real apps come meanwhile, modulo how many there are.
        also: who is killed meanwhile: the limited process has to start a session, or to
            look at a compositor, with the little that it is left.
    """

    number: int
    target: Role
    fault: Fault
    delay: float
    hold: float
    slack: int
    newcomers: tuple[int, ...]
    also: Role | None

    def __str__(self) -> str:
        also = f"+ kill {self.also.value}" if self.also else ""
        return f"{self.number:3} {self.fault.value:8}{self.target.value:11}{also:17}"

    @property
    def spares_apps(self) -> bool:
        """Whether no app but the target may notice anything but a pause."""
        return self.target is Role.APP or self.fault is Fault.STOP

    @property
    def may_end(self) -> set[Role]:
        """Who may end by it: by a limit, too, if in good order."""
        broken = {self.target} if self.fault is not Fault.STOP else set()
        return broken | ({self.also} if self.also else set())


def plan(seed: int, rounds: int) -> list[Round]:
    """Choose rounds; each pair of fault and target once, before any comes again."""
    chosen = random.Random(seed)
    pairs: list[tuple[Role, Fault]] = []
    result = []
    for number in range(1, rounds + 1):
        if not pairs:
            pairs = [(role, fault) for role in Role for fault in Fault]
            chosen.shuffle(pairs)
        target, fault = pairs.pop()
        limited = target in PROCESSES and fault not in (Fault.KILL, Fault.STOP)
        others = [each for each in PROCESSES if each is not target]
        also = chosen.choice(others) if limited and chosen.random() < ALSO else None
        result.append(
            Round(
                number,
                target,
                fault,
                delay=chosen.uniform(0, 0.3),
                hold=chosen.uniform(0.1, 1.0),
                slack=chosen.randint(0, MOST_SLACK),
                newcomers=tuple(chosen.randrange(60) for _ in range(NEWCOMERS)),
                also=also,
            )
        )
    return result


@dataclass(slots=True)
class Outcome:
    """What came of a round.

    Attributes:
        ended: who ended, of those that might.
        honest: what became of the honest app.
        survivors: how many of it and the newcomers went on.
        left: what was left behind, by whom.
        findings: what is wrong.
        tries: how many apps it took until one was shown again.
        recovery: seconds until then.
        modes: how the honest app was shown.
    """

    round: Round
    ended: list[Role] = field(default_factory=list)
    honest: str = ""
    survivors: int = 0
    left: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    tries: int = 0
    recovery: float = 0.0
    modes: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        return not self.findings and not self.left


class Chaos:
    """Runs rounds on a stage."""

    def __init__(self, stage: Stage, say: Callable[[str], None]) -> None:
        self._stage = stage
        self._say = say
        self._rest: dict[Role, Usage] = {}
        self._real: list[int] = []
        self.lost_guests = 0
        """How often the guest was booted again, each time for want of an answer."""
        self._victim = 0

    def run(self, rounds: list[Round]) -> list[Outcome]:
        """Run them all.

        Raises:
            HungError: it does not even work before anything is broken.
        """
        self._look_at_rest()
        outcomes = []
        for each in rounds:
            try:
                outcome = self._run_round(each)
            except GuestError as exc:
                # Emulated machines are lost now and then, whatever is done in them
                # (lab/README.md): that says nothing about the round.
                self._say(f"{each}  the guest is lost, and booted again: {exc}")
                self.lost_guests += 1
                self._real.clear()
                self._stage.boot_again()
                self._look_at_rest()
                continue
            self._say(describe(outcome))
            outcomes.append(outcome)
        return outcomes

    def threads_left(self) -> Counter[str]:
        """Count threads too many, once all that idle have ended (trio: ten seconds)."""
        rest = self._rest[Role.COMPOSITOR].threads
        wanted = {Role.COMPOSITOR: rest, Role.PROXY: 1, Role.AGENT: 1}

        def left() -> Counter[str]:
            now = {r: self._stage.processes[r].usage().threads for r in wanted}
            return Counter(
                {f"{r.value}: thread": n - wanted[r] for r, n in now.items()}
            )

        return self._wait_for_none(lambda: +left())

    # ---- before anything is broken

    def _look_at_rest(self) -> None:
        stage = self._stage
        stage.wait_serving()
        for _ in range(2):  # what is loaded once is loaded now
            app = stage.app()
            app.animate(stage.patience)
            app.shows(3, stage.patience)
            self._start_real((0, 1, 2, 3, 4))
            time.sleep(10 * stage.calm)
            self._end_apps([app])
        stage.wait_no_clients()
        self._rest = self._settled()
        for role, held in self._rest.items():
            self._say(f"{role.value} at rest: {dict(held.fds)}, {held.threads} threads")

    def _settled(self) -> dict[Role, Usage]:
        """Look until nobody lets go of anything any more."""
        found: list[dict[Role, Usage]] = []

        def settled() -> bool:
            time.sleep(SETTLING)
            found.append({r: self._stage.processes[r].usage() for r in PROCESSES})
            if len(found) < 2:
                return False
            before, now = found[-2:]
            return all(before[r].fds == now[r].fds for r in PROCESSES)

        eventually(settled, "everybody is at rest", self._stage.patience)
        return found[-1]

    # ---- a round

    def _run_round(self, what: Round) -> Outcome:
        outcome = Outcome(what)
        apps: list[App] = []
        try:
            try:
                self._disturb(what, outcome, apps)
                self._recover(outcome, apps)
            finally:
                self._end_apps(apps)
            self._account(outcome)
        except (HungError, TimeoutError, ClientError) as exc:
            outcome.findings.append(f"hangs: {exc}")
            self._start_over(outcome)
        self._read_logs(outcome)
        return outcome

    def _disturb(self, what: Round, outcome: Outcome, apps: list[App]) -> None:
        stage = self._stage
        honest = stage.app()
        apps.append(honest)
        honest.animate(stage.patience)
        honest.shows(2, stage.patience)
        target = self._target(what.target, apps)
        outcome.modes = self._frames_by_mode()
        time.sleep(what.delay)
        lift = inject(what.fault, target, what.slack)
        self._start_real(what.newcomers)
        if what.also:
            other = stage.processes[what.also]
            other.place.signal(other.pid, 9)
            time.sleep(stage.calm)
            self._start_again(outcome)
        time.sleep(what.hold)
        lift()
        outcome.honest = self._see(honest)
        if outcome.honest == "hangs":
            outcome.findings.append("the honest app is connected, and hangs")
        elif outcome.honest == "ended" and what.spares_apps:
            outcome.findings.append("the honest app has ended")

    def _target(self, role: Role, apps: list[App]) -> Target:
        """Whom to break: one of the processes, or an app that is started for it."""
        stage = self._stage
        where = stage.processes[role]
        if role is not Role.APP:
            rest, pid = self._rest[role], where.pid
        else:
            victim = stage.app()
            apps.append(victim)
            victim.animate(stage.patience)
            pid = self._victim = victim.pid
            rest = usage(where.place, pid, where.directory)
        return Target(where.place, pid, where.directory, stage.mounted, rest)

    def _see(self, honest: App) -> str:
        try:
            honest.shows(3, self._stage.patience)
        except ClientError as exc:
            return "ended" if exc.kind != "TimeoutError" else "hangs"
        except HungError:
            return "hangs"
        return "went on"

    def _recover(self, outcome: Outcome, apps: list[App]) -> None:
        """See who has ended, start them again, and see that a new app is shown."""
        stage = self._stage
        began = time.monotonic()
        self._start_again(outcome)
        stage.wait_serving()
        self._see_survivors(outcome)

        def shown() -> bool:
            outcome.tries += 1
            app = stage.app()
            apps.append(app)
            try:
                app.animate(stage.patience)
                app.shows(3, stage.patience)
            except ClientError as exc:
                if exc.kind == "TimeoutError":
                    raise HungError(f"a new app: {exc}") from exc
                time.sleep(stage.calm)
                return False
            return True

        eventually(shown, "a new app is shown", stage.patience)
        outcome.recovery = time.monotonic() - began

    def _start_again(self, outcome: Outcome) -> None:
        """Be everybody's supervisor."""
        stage = self._stage
        for role in PROCESSES:
            if stage.processes[role].alive:
                continue
            outcome.ended.append(role)
            if role not in outcome.round.may_end:
                outcome.findings.append(f"the {role.value} has ended")
            if role is outcome.round.target and role is not Role.COMPOSITOR:
                self._see_how_it_ended(role, outcome)
            stage.start(role)

    def _see_how_it_ended(self, role: Role, outcome: Outcome) -> None:
        process = self._stage.processes[role]
        status = process.place.status(process.pid)
        if status < 0 and outcome.round.fault is not Fault.KILL:
            outcome.findings.append(f"the {role.value} has ended by signal {-status}")

    def _see_survivors(self, outcome: Outcome) -> None:
        """Count the apps that go on."""
        if outcome.round.target is Role.APP and not self._stage.guest.alive(
            self._victim
        ):
            outcome.ended.append(Role.APP)
        gone = [pid for pid in self._real if not self._stage.guest.alive(pid)]
        outcome.survivors = len(self._real) - len(gone)
        outcome.survivors += outcome.honest == "went on"
        if gone and outcome.round.spares_apps:
            outcome.findings.append(f"{len(gone)} of {NEWCOMERS} newcomers have ended")

    def _account(self, outcome: Outcome) -> None:
        """Count what is left when the apps have gone."""
        self._stage.wait_no_clients()

        def left() -> Counter[str]:
            more: Counter[str] = Counter()
            for role in PROCESSES:
                above = self._stage.processes[role].usage().above(self._rest[role])
                if role is Role.COMPOSITOR:
                    above -= self._stage.compositors_own
                more += Counter(
                    {f"{role.value}: {what}": n for what, n in above.items()}
                )
            return more

        outcome.left = self._wait_for_none(left)

    def _read_logs(self, outcome: Outcome) -> None:
        logs = {
            role: self._stage.processes[role].news()
            for role in (Role.PROXY, Role.AGENT, Role.APP)
        }
        for role, news in logs.items():
            if TRACEBACK in news and role is not Role.APP:
                raised = RAISED.findall(news) or ["?"]
                outcome.findings.append(f"the {role.value} raised {raised[-1]}")
        if not outcome.good:
            for role, news in logs.items():
                self._say(f"---- {role.value}:\n{news[-LOG_SHOWN:]}")

    def _start_over(self, outcome: Outcome) -> None:
        """Kill everybody, so that the next round has a chance."""
        stage = self._stage
        for role in PROCESSES:
            process = stage.processes[role]
            self._say(f"---- {role.value}:\n{process.news()[-LOG_SHOWN:]}")
            process.place.signal(process.pid, 9)
        for role in PROCESSES:
            process = stage.processes[role]
            eventually(lambda: not process.alive, "they end", 30)  # noqa: B023
        stage.start_missing()
        stage.wait_serving()

    # ---- apps

    def _start_real(self, numbers: Sequence[int]) -> None:
        real = self._stage.real_apps
        for number in numbers if real else ():
            self._real.append(self._stage.real_app(real[number % len(real)]))

    def _end_apps(self, apps: list[App]) -> None:
        for app in apps:
            app.kill()
        for pid in self._real:
            self._stage.guest.signal(-pid, 9)
        self._real.clear()
        self._stage.forget_apps()

    def _frames_by_mode(self) -> Counter[str]:
        document = self._stage.status()
        surfaces = document["surfaces"] if document else []
        return Counter({each["mode"]: each["frames"] for each in surfaces})

    def _wait_for_none(self, left: Callable[[], Counter[str]]) -> Counter[str]:
        deadline = time.monotonic() + max(LEFT_PATIENCE, self._stage.patience / 4)
        while more := left():
            if time.monotonic() > deadline:
                break
            time.sleep(self._stage.calm)
        return more


def describe(outcome: Outcome) -> str:
    """One line about a round."""
    ended = ", ".join(each.value for each in outcome.ended) or "-"
    words = [
        f"{outcome.round}",
        f"ended: {ended:10}",
        f"honest app: {outcome.honest:8}",
        f"works again: {outcome.recovery:5.1f} s, {outcome.tries} tries",
        f"left: {dict(outcome.left) or 0}",
    ]
    return "  ".join(words + [f"!! {each}" for each in outcome.findings])
