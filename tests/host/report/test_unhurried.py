"""Whoever has something to say never waits for who reads it."""

import os
import threading

import pytest

from wlproxy.host.report.unhurried import MAX_WAITING, THREAD, Unhurried
from wlproxy.transport.fds import OwnedFd


def pipe() -> tuple[OwnedFd, OwnedFd]:
    reading, writing = map(OwnedFd, os.pipe())
    return reading, writing


def read_all(fd: OwnedFd) -> bytes:
    data = b""
    while more := os.read(fd.fileno(), 1 << 16):
        data += more
    return data


def test_what_is_said_is_written_in_order() -> None:
    reading, writing = pipe()
    with reading, writing:
        with Unhurried(writing.fileno()) as stream:
            for number in range(100):
                assert stream.write(f"{number} \u2713\n") == len(f"{number} \u2713\n")
            stream.flush()
        writing.close()
        assert read_all(reading).decode() == "".join(
            f"{n} \u2713\n" for n in range(100)
        )


def test_what_nobody_reads_is_left_out_and_that_is_said() -> None:
    reading, writing = pipe()
    with reading, writing:
        page = "x" * 65535 + "\n"  # a pipe has room for 16 pages: one such text
        with Unhurried(writing.fileno()) as stream:
            for _ in range(MAX_WAITING + 10):
                stream.write(page)
            data = b""
            while data.count(b"\n") < MAX_WAITING:
                data += os.read(reading.fileno(), 1 << 20)
            stream.write("after\n")
        writing.close()
        rest = data + read_all(reading)
        assert b"lines are left out here)\nafter\n" in rest


def test_who_reads_has_gone() -> None:
    reading, writing = pipe()
    reading.close()
    with writing, Unhurried(writing.fileno()) as stream:
        stream.write("hello\n")


def test_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wlproxy.host.report.unhurried.LAST_SECONDS", 0.01)
    reading, writing = pipe()
    with reading, writing:
        with Unhurried(writing.fileno()) as stream:
            stream.write("x" * (1 << 20))
        # Nobody reads on: the thread's write ends in an error, and the thread with it.
        reading.close()
        for thread in threading.enumerate():
            if thread.name == THREAD:
                thread.join(30)
                assert not thread.is_alive()
