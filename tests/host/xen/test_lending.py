"""Fds of grants from another process: questions, answers, and who may ask."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.xen.fake_domain import PAGE, FakeDomain
from wlproxy.host.errors import GrantError
from wlproxy.host.xen import lending
from wlproxy.host.xen.gntdev import MAX_LIMIT, map_pages
from wlproxy.host.xen.lending import (
    ANSWER,
    COUNT,
    MAX_RUNS,
    LentGrants,
    decode_answer,
    decode_runs,
    encode_question,
    lend,
)

u32 = st.integers(0, 2**32 - 1)


class Lender:
    """The other process, as a thread: answers as many questions as come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.domain = FakeDomain()
        self.users = {os.geteuid()}
        self.said: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.said.append(lend(connection, self.domain, self.users))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[Lender]:
    made = Lender(tmp_path / "socket")
    yield made
    made.close()


def test_pages_come_as_a_fd(lender: Lender) -> None:
    for reference in (20, 21, 9):
        lender.domain.grant(reference, b"%d" % reference)
    granted = LentGrants(lender.path)
    with granted.open([(20, 2), (9, 1)]) as fd, map_pages(fd, 3) as pages:
        assert not os.get_inheritable(fd.fileno())
        assert [pages[at : at + 2] for at in (0, PAGE)] == [b"20", b"21"]
        assert pages[2 * PAGE : 2 * PAGE + 2] == b"9\0"
    assert lender.domain.asked == [((20, 2), (9, 1))]
    assert granted.limit() == lender.domain.most


def test_a_driver_that_refuses(lender: Lender) -> None:
    lender.domain.fails = errno.ENOMEM
    with pytest.raises(GrantError, match="could not make a fd") as caught:
        LentGrants(lender.path).open([(20, 2)])
    assert caught.value.errno == errno.ENOMEM


def test_who_may_not_ask_is_hung_up_on(lender: Lender) -> None:
    lender.users = {4711}
    with pytest.raises(GrantError):
        LentGrants(lender.path).open([(20, 2)])
    assert not lender.domain.asked


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(GrantError, match="does not answer") as caught:
        LentGrants(tmp_path / "none").limit()
    assert "wlproxy xen-gntdev --domid N" in caught.value.remedy


def test_who_never_answers_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time is for connecting, asking and the answer together."""
    monkeypatch.setattr(lending, "SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        with pytest.raises(GrantError, match="does not answer") as caught:
            LentGrants(tmp_path / "socket").open([(20, 2)])
    assert "xen-gntdev" in caught.value.remedy


def ask(lender: Lender, data: bytes) -> bytes:
    """Ask anything, and hang up; return what is answered."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(lender.path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(100)


@pytest.mark.parametrize(
    "question",
    [
        COUNT.pack(MAX_RUNS + 1),
        COUNT.pack(2**32 - 1),
        encode_question([(0, 1)]),
        encode_question([(9, 0)]),
        encode_question([(9, MAX_LIMIT)] * 2),
        encode_question([(2**32 - 1, 2)]),
        encode_question([(9, 1)])[:-1],
        COUNT.pack(3) + b"x",
    ],
)
def test_questions_that_are_none(lender: Lender, question: bytes) -> None:
    number, _ = ANSWER.unpack(ask(lender, question))
    assert number == errno.EINVAL
    assert not lender.domain.asked
    lender.domain.grant(9, b"")
    LentGrants(lender.path).open([(9, 1)]).close()  # the next is served


def test_who_asks_slowly_is_left(
    lender: Lender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lending, "SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(lender.path))
        connection.sendall(b"\1")
        assert connection.recv(1) == b""
    assert "timed out" in lender.said[0]


def test_too_many_runs_are_not_asked_for(tmp_path: Path) -> None:
    with pytest.raises(GrantError, match="runs of grants"):
        encode_question([(9, 1)] * (MAX_RUNS + 1))


@given(st.lists(st.tuples(u32, u32), max_size=20))
def test_round_trip(runs: list[tuple[int, int]]) -> None:
    question = encode_question(runs)
    assert COUNT.unpack(question[:4]) == (len(runs),)
    assert decode_runs(question[4:]) == runs


@given(st.binary(max_size=40))
def test_garbage(data: bytes) -> None:
    try:
        assert encode_question(decode_runs(data))[4:] == data
    except GrantError:
        assert len(data) % 8
    try:
        assert decode_answer(data) >= 0
    except GrantError:
        assert len(data) != ANSWER.size or any(data[:4])
