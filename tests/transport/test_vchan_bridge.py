"""A bridge in a thread, between Unix sockets and vchans without Xen."""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.vchan import FakeVchan, fake_vchan
from wlproxy.transport import vchan_bridge
from wlproxy.transport.vchan import RING, VchanClosedError
from wlproxy.transport.vchan_bridge import Bridge

SECONDS = 20
MANY = os.urandom(5 * RING + 77)


class Source:
    """Vchans that a test has made.

    Attributes:
        ready: our ends of those that wait to be opened.
        fails: why there will be none.
    """

    def __init__(self) -> None:
        self.ready: list[FakeVchan] = []
        self.made: list[FakeVchan] = []
        self.fails: OSError | None = None
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def add(self) -> FakeVchan:
        """Make one; return the other domain's end."""
        theirs, ours = fake_vchan()
        self.made += [theirs, ours]
        self.ready.append(ours)
        self.change()
        return theirs

    def change(self) -> None:
        os.eventfd_write(self._event, 1)

    def open(self) -> FakeVchan | None:
        return self.ready.pop(0) if self.ready else None

    def fileno(self) -> int:
        return self._event

    def look(self) -> None:
        os.eventfd_read(self._event)
        if self.fails is not None:
            raise self.fails

    def close(self) -> None:
        os.close(self._event)
        for each in self.made:
            each.release()


class Running:
    """A bridge.

    Attributes:
        ended: with what.
    """

    def __init__(self, path: Path, *users: int) -> None:
        self.source = Source()
        self.path = path
        self.ended: list[Exception] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self.bridge = Bridge(self._listener, users or (os.geteuid(),), self.source)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.bridge.run()
        except OSError as exc:
            self.ended.append(exc)
        finally:
            self._listener.close()

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SECONDS)
        connection.connect(str(self.path))
        return connection

    def close(self) -> None:
        self.source.fails = self.source.fails or OSError("the domain has gone")
        self.source.change()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        for each in self.source.made:
            assert each.missed == 0
        self.source.close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vchan_bridge, "PAUSE", 0.001)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path / "socket")
    yield made
    made.close()


def wait(vchan: FakeVchan) -> None:
    assert select.select([vchan], [], [], SECONDS)[0], "nothing happens"
    vchan.acknowledge()


def read_exactly(vchan: FakeVchan, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if more := vchan.read(size - len(data)):
            data += more
        else:
            wait(vchan)
    return data


def write_all(vchan: FakeVchan, data: bytes) -> None:
    while data := data[vchan.write(data) :]:
        wait(vchan)


def read_to_end(vchan: FakeVchan) -> bytes:
    data = b""
    while True:
        try:
            more = vchan.read(RING)
        except VchanClosedError:
            return data
        data += more
        if not more:
            wait(vchan)


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def check_next(running: Running) -> None:
    """Check that the next program is served, by the next vchan."""
    theirs = running.source.add()
    with running.connect() as connection:
        connection.sendall(b"next")
        assert read_exactly(theirs, 4) == b"next"


def test_bytes_both_ways_more_than_a_ring_has_room_for(running: Running) -> None:
    theirs = running.source.add()
    with running.connect() as connection:
        sending = threading.Thread(target=connection.sendall, args=(MANY,))
        sending.start()
        assert read_exactly(theirs, len(MANY)) == MANY
        sending.join()
        sending = threading.Thread(target=write_all, args=(theirs, MANY))
        sending.start()
        assert receive_exactly(connection, len(MANY)) == MANY
        sending.join()


def test_a_vchan_that_comes_later(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(b"hello")
        running.source.change()  # something else
        theirs = running.source.add()
        assert read_exactly(theirs, 5) == b"hello"


def test_a_program_that_goes_before_there_is_a_vchan(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(b"of the first")
    with running.connect() as connection:
        theirs = running.source.add()
        connection.sendall(b"of the second")
        assert read_exactly(theirs, 13) == b"of the second"


def test_what_a_program_said_before_it_went_arrives(running: Running) -> None:
    theirs = running.source.add()
    with running.connect() as connection:
        connection.sendall(b"hello")
        assert read_exactly(theirs, 5) == b"hello"
        connection.sendall(b"goodbye")
    assert read_to_end(theirs) == b"goodbye"


def test_what_the_other_domain_said_before_it_went_arrives(running: Running) -> None:
    theirs = running.source.add()
    theirs.write(b"goodbye")
    theirs.close()
    with running.connect() as connection:
        assert receive_exactly(connection, 100) == b"goodbye"


def test_each_program_has_a_vchan_of_its_own(running: Running) -> None:
    theirs = running.source.add()
    with running.connect() as connection:
        connection.sendall(b"1")
        assert read_exactly(theirs, 1) == b"1"
        theirs.write(b"which nobody reads")
    assert read_to_end(theirs) == b""
    following = running.source.add()
    with running.connect() as connection:
        following.write(b"2")
        assert connection.recv(100) == b"2"


def test_a_domain_that_reads_nothing_keeps_nobody(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vchan_bridge, "LAST_SECONDS", 0.01)
    theirs = running.source.add()
    with running.connect() as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.sendall(MANY * 100)
    check_next(running)
    assert 0 < len(read_to_end(theirs)) <= RING


def test_a_program_that_reads_nothing_keeps_nobody(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vchan_bridge, "LAST_SECONDS", 0.01)
    theirs = running.source.add()
    with running.connect() as connection:
        connection.sendall(b"1")
        assert read_exactly(theirs, 1) == b"1"
        # Until the socket, and then the ring, is full.
        while theirs.write(bytes(RING)) or select.select([theirs], [], [], 0.2)[0]:
            if select.select([theirs], [], [], 0)[0]:
                theirs.acknowledge()
        theirs.close()
        while connection.recv(RING):
            pass
    check_next(running)


def test_an_event_channel_that_breaks(running: Running) -> None:
    theirs = running.source.add()
    with running.connect() as connection:
        connection.sendall(b"1")
        assert read_exactly(theirs, 1) == b"1"
        ours = running.source.made[1]
        ours.broken = True
        theirs.write(b"2")
        receive_exactly(connection, 100)  # until it hangs up
    assert ours.closed


def test_another_user_is_turned_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    running = Running(tmp_path / "socket", os.geteuid() + 1)
    running.source.add()
    with running.connect() as connection:
        assert connection.recv(1) == b""
    assert len(running.source.ready) == 1
    assert "may not connect" in caplog.text
    running.close()


@pytest.mark.parametrize("joined", [True, False])
def test_a_domain_that_ends(running: Running, joined: bool) -> None:
    """No end of a vchan is told of that; XenStore is."""
    with running.connect() as connection:
        if joined:
            connection.sendall(b"1")
            read_exactly(running.source.add(), 1)
        running.source.fails = OSError("gone")
        running.source.change()
        with contextlib.suppress(ConnectionResetError):  # it had not been accepted
            assert connection.recv(1) == b""
    running.close()
    running.close = lambda: None  # type: ignore[method-assign]
    assert [str(each) for each in running.ended] == ["gone"]
