"""Tests that need the lab's machines, run there and reported here.

`pytest --lab` on a developer's machine hands every test marked `lab` or `guest` to one
run of pytest in the lab's host VM each, and replays the reports: one session, one
summary, in pytest's own words.  Inside the VM the same module writes those reports.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

REPORTS = "reports.jsonl"
TIMEOUT = {"lab": 900, "guest": 2700}
"""Seconds that the tests of one mark may take together."""


def in_lab() -> bool:
    """Say whether this is the lab's host VM."""
    return os.environ.get("WLPROXY_LAB") == "1"


def machine_for(item: pytest.Item) -> str | None:
    """Name the machine that a test needs: "guest", "lab", or None for any."""
    for mark in ("guest", "lab"):
        if item.get_closest_marker(mark):
            return mark
    return None


def register(config: pytest.Config) -> None:
    """Choose what this session does about such tests."""
    if in_lab():
        config.pluginmanager.register(_Writer(config, Path(os.environ["WLPROXY_OUT"])))
    elif config.getoption("--lab"):
        delegation = _Delegation(config)
        config.pluginmanager.register(delegation)
        config.pluginmanager.register(_Replay(delegation))


class _Writer:
    """In the VM: writes down every report."""

    def __init__(self, config: pytest.Config, out: Path) -> None:
        self._config = config
        self._path = out / REPORTS

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(
            config=self._config, report=report
        )
        with self._path.open("a") as file:
            file.write(json.dumps(data) + "\n")


class _Delegation:
    """On the developer's machine: runs them there, replays the reports here."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._items: dict[str, list[str]] = {}
        self._reports: dict[str, dict[str, list[pytest.TestReport]]] = {}
        self._failures: dict[str, str] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        # Last, and each machine's together: whatever fails here is known early.
        order = {None: 0, "lab": 1, "guest": 2}
        items.sort(key=lambda item: order[machine_for(item)])
        for item in items:
            machine = machine_for(item)
            if machine is not None:
                self._items.setdefault(machine, []).append(item.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item
    ) -> Generator[None, object, object]:
        # A wrapper, to be outside pytest-timeout's: its limit is for one test.
        machine = machine_for(item)
        if machine is not None and machine not in self._reports:
            self._reports[machine] = self._run(machine)
        return (yield)

    def replay(self, item: pytest.Item) -> bool | None:
        """Report what became of a test in the lab; None if it runs here."""
        machine = machine_for(item)
        if machine is None:
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = self._reports[machine].get(item.nodeid) or [self._lost(item, machine)]
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _run(self, machine: str) -> dict[str, list[pytest.TestReport]]:
        """Run all tests of a machine there; nodeid to its reports."""
        nodeids = self._items[machine]
        log = Path("build") / f"lab-{machine}.log"
        log.parent.mkdir(exist_ok=True)
        self._say(f"{len(nodeids)} tests in the lab ({machine}), log: {log}")
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="wlproxy-lab-") as out:
            command = [sys.executable, "-m", "lab", "pytest", "--out", out]
            command += ["--timeout", str(TIMEOUT[machine])]
            command += ["--guest"] if machine == "guest" else []
            command += ["--", "-v", "-p", "no:cacheprovider", "-p", "no:randomly"]
            with log.open("wb") as file:
                done = subprocess.run(
                    [*command, *nodeids],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    check=False,
                )
            reports: dict[str, list[pytest.TestReport]] = {}
            for report in self._read(Path(out) / REPORTS):
                reports.setdefault(report.nodeid, []).append(report)
        took = time.monotonic() - began
        self._say(f"back from the lab after {took:.0f} s, status {done.returncode}")
        tail = log.read_text(errors="replace")[-6000:]
        self._failures[machine] = f"no report from the lab; {log} ends:\n{tail}"
        return reports

    def _read(self, path: Path) -> Iterator[pytest.TestReport]:
        if not path.exists():
            return
        for line in path.read_text().splitlines():
            data: dict[str, Any] = json.loads(line)
            yield self._config.hook.pytest_report_from_serializable(
                config=self._config, data=data
            )

    def _lost(self, item: pytest.Item, machine: str) -> pytest.TestReport:
        """Make the report of a test that the machine said nothing about: a failure."""
        return pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="failed",
            longrepr=self._failures[machine],
            when="call",
        )

    def _say(self, text: str) -> None:
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(f"\nwlproxy: {text}")


class _Replay:
    """Stands in for pytest's own way to run a test, where the lab has run it."""

    def __init__(self, delegation: _Delegation) -> None:
        self._delegation = delegation

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        return self._delegation.replay(item)
