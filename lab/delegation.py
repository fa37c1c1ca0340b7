"""Runs the tests that need the lab's machines over there, and reports their results here.

`pytest --lab` on a developer's machine hands the tests marked `lab` or `guest`, a module or a
group at a time, to a run of pytest in the lab's host VM, and those marked `xen` to one in dom0 of
the machine that runs Xen.  It replays the reports: one session,
one summary, in pytest's own words.  Inside the VM this same module writes those reports.

Under TCG the guest's KVM is emulated, and not perfectly: now and then a kernel in there panics
or stands still (lab/README.md).  When a machine is lost that way, nothing is known about the
test that it was busy with, so the rest goes to a fresh machine.  A test that fails on a machine
which lives on is tried once more on another.  The summary tells both.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import pytest

from lab import runner
from lab.guest import GuestLostError

MARK: Final = "@@report "
"""Begins the lines of the log that are reports; the log survives the machine."""

TIMEOUT: Final = 720
"""Seconds that the tests of one module may take together, or all that need no guest.  The
longest takes 480 beside other work."""

XEN_TIMEOUT: Final = 3600
"""Seconds that all tests that need Xen may take together: they share the domUs, which are slow
to boot."""

LOST_MACHINES: Final = "lost_machines"
"""What a test that runs here records (`record_property`): how many machines it lost."""

ATTEMPTS: Final = 2
"""Times that a test may be tried on machines that were not lost."""

MACHINES: Final = 6
"""Machines that one job may use up."""

# How `python3 -m lab` is asked for pytest on each machine.
_KINDS: Final = {
    "lab": ("pytest",),
    "guest": ("pytest", "--guest"),
    "xen": ("xen", "--pytest"),
}

Reports = dict[str, list[pytest.TestReport]]


def lost_here(reports: Iterable[object]) -> int:
    """Sum up the machines that tests have lost on this very machine, as they recorded it."""
    return sum(
        int(str(value))
        for report in reports
        # What a test records is in the report of its teardown as well.
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == LOST_MACHINES
    )


def in_lab() -> bool:
    """Say whether this is the lab's host VM."""
    return os.environ.get("WLPROXY_LAB") == "1"


def machine_for(item: pytest.Item) -> str | None:
    """Name the machine that a test needs: "guest", "lab", "xen", or None for any."""
    for mark in ("guest", "lab", "xen"):
        if item.get_closest_marker(mark):
            return mark
    return None


def register(config: pytest.Config) -> None:
    """Choose what this session does about such tests."""
    if in_lab():
        config.pluginmanager.register(_Writer(config))
    elif config.getoption("--lab"):
        delegation = _Delegation(config)
        config.pluginmanager.register(delegation)
        config.pluginmanager.register(_Replay(delegation))


class _Writer:
    """In the VM: writes every report to the output, past pytest's capturing."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._out: TextIO = os.fdopen(os.dup(1), "w", buffering=1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(
            config=self._config, report=report
        )
        self._out.write(f"\n{MARK}{json.dumps(data)}\n")

    def pytest_exception_interact(self, call: "pytest.CallInfo[object]") -> None:
        # Each further test would wait for an answer as well, and then fail.
        if call.excinfo is not None and call.excinfo.errisinstance(GuestLostError):
            pytest.exit("the guest is lost", returncode=runner.LOST)

    def pytest_unconfigure(self) -> None:
        self._out.close()


class _Delegation:
    """On the developer's machine: runs them there, replays the reports here."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._nodeids: dict[tuple[str, str], list[str]] = {}
        self._reports: dict[tuple[str, str], Reports] = {}
        self._tails: dict[tuple[str, str], str] = {}
        self._repeated: list[str] = []
        self._lost_machines = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # Last, and each machine's together: whatever fails here is known early.
        order = {None: 0, "lab": 1, "guest": 2, "xen": 3}
        items.sort(key=lambda item: order[machine_for(item)])
        for item in items:
            if (job := _job_of(item)) is not None:
                self._nodeids.setdefault(job, []).append(item.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item
    ) -> Generator[None, object, object]:
        # A wrapper, to be outside pytest-timeout's: its limit is for one test.
        job = _job_of(item)
        if job is not None and job not in self._reports:
            self._reports[job] = self._run(job)
        return (yield)

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        reports = [each for some in terminalreporter.stats.values() for each in some]
        if lost := self._lost_machines + lost_here(reports):
            terminalreporter.write_line(
                f"machines that panicked, stood still or were ended by QEMU: {lost}"
            )
        for nodeid in self._repeated:
            terminalreporter.write_line(f"PASSED on a later machine only: {nodeid}")

    def replay(self, item: pytest.Item) -> bool | None:
        """Report what became of a test in the lab; None if it runs here."""
        job = _job_of(item)
        if job is None:
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = self._reports[job].get(item.nodeid) or [self._lost(item, job)]
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(self, job: tuple[str, str]) -> Reports:
        """Run the tests of a job, on as many machines as that takes."""
        reports: Reports = {}
        left = self._nodeids[job]
        tries = 0
        for machine in range(1, MACHINES + 1):
            found, lost = self._run_once(job, left, machine)
            passed = [each for each in left if _passed(found, each)]
            reports |= {each: found[each] for each in passed} if lost else found
            if lost:
                self._lost_machines += 1
            if machine > 1:
                self._repeated += passed
            left = [each for each in left if each not in passed]
            tries += not lost
            if not left or tries == ATTEMPTS:
                break
        return reports

    def _run_once(
        self, job: tuple[str, str], nodeids: Sequence[str], number: int
    ) -> tuple[Reports, bool]:
        """Run tests on one machine; tell what it reported, and if it was lost."""
        machine, name = job
        log = Path("build") / f"lab-{machine}-{Path(name).stem}-{number}.log"
        log.parent.mkdir(exist_ok=True)
        began = time.monotonic()
        command = [sys.executable, "-m", "lab", *_KINDS[machine]]
        command += ["--timeout", str(_limit(machine, nodeids))]
        command += ["--out", str(log.with_suffix(""))]  # logs of agent and proxy
        command += ["--", "-v", "-p", "no:cacheprovider", "-p", "no:randomly"]
        with log.open("wb") as file:
            done = subprocess.run(
                [*command, *nodeids],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
        text = log.read_text(errors="replace")
        reports: Reports = {}
        for report in self._read(text):
            reports.setdefault(report.nodeid, []).append(report)
        lines = [each for each in text.splitlines() if not each.startswith(MARK)]
        self._tails[job] = "\n".join(lines)[-6000:]
        passed = sum(_passed(reports, each) for each in nodeids)
        self._say(
            f"{machine}: {passed} of {len(nodeids)} good in "
            f"{time.monotonic() - began:.0f} s, status {done.returncode}, log: {log}"
        )
        return reports, done.returncode in runner.LOST_STATUSES

    def _read(self, text: str) -> Iterator[pytest.TestReport]:
        for line in text.splitlines():
            if line.startswith(MARK):
                try:
                    data: dict[str, Any] = json.loads(line.removeprefix(MARK))
                except ValueError:  # cut short, or something else wrote into it
                    continue
                report = self._config.hook.pytest_report_from_serializable(
                    config=self._config, data=data
                )
                # A skip's (path, line, reason), which JSON makes a list of; pytest's
                # summary insists on a tuple.
                if isinstance(report.longrepr, list):
                    report.longrepr = tuple(report.longrepr)
                yield report

    def _lost(self, item: pytest.Item, job: tuple[str, str]) -> pytest.TestReport:
        """Make the report of a test that the machine said nothing about: a failure."""
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr=f"no report from the lab; its log ends:\n{self._tails[job]}",
            when="call",
        )

    def _say(self, text: str) -> None:
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\nwlproxy lab, {text}")


class _Replay:
    """Stands in for pytest's own way to run a test, where the lab has run it."""

    def __init__(self, delegation: _Delegation) -> None:
        self._delegation = delegation

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        return self._delegation.replay(item)


def _job_of(item: pytest.Item) -> tuple[str, str] | None:
    """Name the job that a test belongs to: a machine, and a group or the test's module."""
    mark = item.get_closest_marker("guest")
    if mark is not None:
        # Machines may break: not all in one job, but what is at ease with each other.
        return "guest", mark.kwargs.get("group") or str(item.path)
    # What needs no guest breaks no machine: all in one job.  So are those that need Xen, whose
    # domUs they share.
    machine = machine_for(item)
    return (machine, "host") if machine else None


def _limit(machine: str, nodeids: Sequence[str]) -> int:
    """Return the seconds that tests may take together on a machine."""
    if machine == "xen":
        return XEN_TIMEOUT
    modules = {nodeid.partition("::")[0] for nodeid in nodeids}
    return TIMEOUT * (len(modules) if machine == "guest" else 1)


def _passed(reports: Reports, nodeid: str) -> bool:
    """Say whether a test went through to its end without failing (skips count)."""
    found = reports.get(nodeid, [])
    ended = any(report.when == "teardown" for report in found)
    return ended and not any(report.failed for report in found)
