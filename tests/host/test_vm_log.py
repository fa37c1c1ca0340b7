"""A guest forges no lines in the log, and does not fill it."""

import logging

import pytest

from wlproxy.host.vm_log import LINES_AT_ONCE, VmLog


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
    monkeypatch.setattr("wlproxy.host.vm_log.time.monotonic", lambda: now)
    log = VmLog("work")
    for _ in range(LINES_AT_ONCE + 1000):
        log.of_client(logging.WARNING, "once more")
    log.of_client(logging.DEBUG, "not logged at all")
    assert len(lines(caplog)) == LINES_AT_ONCE

    log.warning("this is not of a client")
    now += 1
    log.of_client(logging.WARNING, "again")
    assert lines(caplog)[-3:] == [
        "[work] this is not of a client",
        "[work] 1000 lines about clients are left out here",
        "[work] again",
    ]
