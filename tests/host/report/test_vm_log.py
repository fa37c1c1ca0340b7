"""A guest forges no lines in the log, and does not fill it."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wlproxy.host.report.vm_log import LINES_AT_ONCE, MAX_WARNED, WARN_AGAIN, VmLog


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_lines_begin_with_the_name_of_the_vm(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        VmLog("work").info("%s: %d surfaces", "foot(3)", 2)
        VmLog("work").info("100% zero-copy")
    assert lines(caplog) == ["[work] foot(3): 2 surfaces", "[work] 100% zero-copy"]


def test_a_quoted_peer_neither_begins_a_line_nor_moves_a_cursor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    VmLog("work").warning("%s left", "x\r\n[work] all is well\x1b[2J\u202e")
    assert lines(caplog) == ["[work] x?\n    [work] all is well?[2J? left"]


def test_lines_that_clients_bring_about_are_limited(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("wlproxy.host.report.vm_log.time.monotonic", lambda: now)
    caplog.set_level(logging.INFO)
    log = VmLog("work")
    for _ in range(LINES_AT_ONCE + 1000):
        log.of_client(logging.INFO, "once more")
    log.of_client(logging.DEBUG, "not logged at all")
    assert len(lines(caplog)) == LINES_AT_ONCE

    log.warning("this is not of a client")
    now += 1
    log.of_client(logging.INFO, "again")
    assert lines(caplog)[-3:] == [
        "[work] this is not of a client",
        "[work] 1000 lines about clients are left out here",
        "[work] again",
    ]


def test_a_warning_is_not_repeated_for_every_client(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("wlproxy.host.report.vm_log.time.monotonic", lambda: now)
    log = VmLog("work")
    for pid in range(1000):
        log.of_client(logging.WARNING, "%s: %d bytes too many", f"foot({pid})", pid)
    log.of_client(logging.WARNING, "%s: that is something else", "foot(7)")
    assert lines(caplog) == [
        "[work] foot(0): 0 bytes too many",
        "[work] 999 lines about clients are left out here",
        "[work] foot(7): that is something else",
    ]
    now += WARN_AGAIN
    log.of_client(logging.WARNING, "%s: %d bytes too many", "foot(7)", 7)
    assert lines(caplog)[-1] == "[work] foot(7): 7 bytes too many"


def test_what_is_remembered_of_warnings_is_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = VmLog("work")
    for number in range(3 * MAX_WARNED):
        log.of_client(logging.WARNING, "%s", "x" * number)
    assert len(log._warned) == MAX_WARNED  # noqa: SLF001 - nothing shows it but memory


def run_logging(stderr: int, environ: dict[str, str]) -> None:
    program = (
        "from wlproxy.host.report.vm_log import VmLog, set_up_logging as up; up('debug');"
        "log = VmLog('work'); log.debug('d'); log.info('i');"
        "log.warning('w\\nsecond line'); log.error('e')"
    )
    subprocess.run(
        [sys.executable, "-c", program], env=environ, stderr=stderr, check=True
    )


@pytest.mark.parametrize("ours", [True, False])
def test_the_journal_is_told_how_much_a_line_matters(
    tmp_path: Path, *, ours: bool
) -> None:
    """Unless stderr is something else than systemd said."""
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        inode = status.st_ino + (not ours)
        environ = {"JOURNAL_STREAM": f"{status.st_dev}:{inode}"}
        run_logging(journal.fileno(), environ)
        journal.seek(0)
        said = journal.read()
    assert ("<7>[work] d\n<6>[work] i\n<4>[work] w\n<4>    second" in said) is ours
    assert said.endswith("<3>[work] e\n") is ours
    assert ("ERROR   [work] e" in said) is not ours
