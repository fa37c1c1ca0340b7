"""What is logged and counted when a bug is met."""

import pytest
import trio
import trio.testing

from wlproxy.host.report.bugs import PAUSE, keep_running, report_bug
from wlproxy.host.report.metrics import Metrics
from wlproxy.host.report.vm_log import LINES_AT_ONCE, VmLog


def bug(text: str) -> Exception:
    try:
        dict[str, str]()[text]
    except KeyError as exc:
        return exc
    raise AssertionError


def test_a_bug_is_counted_and_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()

    report_bug(bug("\x1b[2J"), "app(7)", metrics, VmLog("vm"))

    assert metrics.totals()["bugs"] == 1
    [record] = caplog.records
    first, *lines = record.getMessage().split("\n")
    assert first == "[vm] a bug of wlproxy ends app(7); please report it"
    assert record.levelname == "ERROR"
    assert lines[0] == "    Traceback (most recent call last):"
    assert "in bug" in lines[1]
    assert "\x1b" not in record.getMessage()


def test_a_guest_cannot_fill_the_log_with_a_bug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics, log = Metrics(), VmLog("vm")

    for _ in range(2 * LINES_AT_ONCE):
        report_bug(bug("x"), "app(7)", metrics, log)

    assert metrics.bugs == 2 * LINES_AT_ONCE
    assert len(caplog.records) < 1.5 * LINES_AT_ONCE


async def test_a_task_that_met_a_bug_begins_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    metrics, began = Metrics(), trio.current_time()
    bugs = [bug("first"), bug("second")]

    async def run() -> None:
        await trio.lowlevel.checkpoint()
        if bugs:
            raise bugs.pop()

    await keep_running(run, "a watch", metrics, VmLog("vm"))

    assert metrics.bugs == 2
    assert trio.current_time() - began == pytest.approx(2 * PAUSE)
