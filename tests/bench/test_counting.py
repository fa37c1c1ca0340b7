"""What /proc and strace say."""

import os
import subprocess
import sys
import time

import pytest

from bench.counting import (
    Processors,
    SystemCalls,
    cpu_seconds,
    descendants,
    parse_strace,
    tree_anonymous_bytes,
    tree_cpu_seconds,
    tree_peak_bytes,
)


def test_processors_are_read_off_proc_stat() -> None:
    before = Processors.parse("cpu  100 0 50 1000 10 1 2 30 90 0")
    after = Processors.parse("cpu  200 0 50 1100 20 1 2 40 90 0")
    spent = after.since(before)
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert spent.total == pytest.approx(220 * tick)
    assert spent.idle == pytest.approx(110 * tick)
    assert spent.stolen == pytest.approx(10 * tick)


def test_system_calls_are_read_off_strace() -> None:
    report = (
        "    calls syscall\n--------- ----------------\n"
        "       30 epoll_wait\n       12 sendmsg\n        1 poll\n"
        "--------- ----------------\n       43 total\n"
    )
    counted = SystemCalls(parse_strace(report))
    assert counted.by_name == {"epoll_wait": 30, "sendmsg": 12, "poll": 1}
    assert (counted.total, counted.passes) == (43, 31)


def test_cpu_time_is_that_of_the_process() -> None:
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.5)


def test_children_count_while_they_live_and_afterwards() -> None:
    script = (
        "import os, sys, time\n"
        "if os.fork() == 0:\n"
        "    while time.process_time() < 0.1: pass\n"
        "    print('busy', flush=True); sys.stdin.readline(); os._exit(0)\n"
        "os.wait(); print('waited', flush=True); sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        assert len(descendants(process.pid)) == 2
        assert tree_cpu_seconds(process.pid) >= 0.1
        assert tree_anonymous_bytes(process.pid) > 0
        assert tree_peak_bytes(process.pid) > tree_anonymous_bytes(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "waited\n"
        assert descendants(process.pid) == [process.pid]
        assert tree_cpu_seconds(process.pid) >= 0.09  # in ticks
        process.stdin.write("\n")


def test_who_has_gone_has_nothing() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert tree_cpu_seconds(process.pid) == 0
    assert tree_anonymous_bytes(process.pid) == 0
