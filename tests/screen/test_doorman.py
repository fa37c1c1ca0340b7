"""Who lets QEMU in, without a viewer that would do anything."""

import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from tests.screen.doormen import FOREVER, DoormanThread, doorman_in_thread
from tests.screen.fake_qemu import LET_IN as LINES
from tests.screen.fake_qemu import call, update_map
from wlproxy.protocol.dbus.connection import PROPERTIES
from wlproxy.protocol.dbus.messages import MessageReader
from wlproxy.protocol.dbus.values import Variant
from wlproxy.screen import doorman as doormans
from wlproxy.screen.door import Door
from wlproxy.screen.doorman import BEATS, GONE, LET_IN, LISTENER, REFUSED, SHUT

MAPS = "org.qemu.Display1.Listener.Unix.Map"
NUMBER = 7


@pytest.fixture
def doorman(monkeypatch: pytest.MonkeyPatch) -> Iterator[DoormanThread]:
    monkeypatch.setattr(doormans, "LOOK", 5)
    with DoormanThread() as doorman:
        yield doorman


class Sockets:
    """A listener's connection: `ours` is what a viewer has."""

    def __init__(self) -> None:
        self.ours, self.qemus = socket.socketpair()
        self.qemus.settimeout(FOREVER)
        self.ours.settimeout(FOREVER)

    def close(self) -> None:
        self.ours.close()
        self.qemus.close()


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = Sockets()
    yield sockets
    sockets.close()


def get_all(interface: str, serial: int = 1) -> bytes:
    return call(PROPERTIES, "GetAll", "s", interface, serial=serial)[0]


def test_what_qemu_asks_first_is_answered(
    doorman: DoormanThread, sockets: Sockets
) -> None:
    doorman.admit(sockets.ours, NUMBER, MAPS, "another")
    sockets.qemus.sendall(LINES[:36])
    sockets.qemus.sendall(LINES[36:] + get_all(LISTENER, 3))
    reader = MessageReader[int]()
    reader.feed(sockets.qemus.recv(1000))
    answer = reader.next_message()
    assert answer
    assert answer.fields.reply_to == 3
    assert answer.body == ({"Interfaces": Variant("as", [MAPS, "another"])},)
    sockets.qemus.sendall(get_all(MAPS, 4))
    reader.feed(sockets.qemus.recv(1000))
    answer = reader.next_message()
    assert answer
    assert (answer.fields.reply_to, answer.body) == (4, ({},))


@pytest.mark.parametrize(
    "first",
    [
        update_map(0, 0, 1, 1)[0],
        call(PROPERTIES, "Get", "s", LISTENER)[0],
        call(PROPERTIES, "GetAll", "s", LISTENER, flags=1)[0],
        get_all(LISTENER)[:50],
        b"garbage, of which there is enough",
    ],
)
def test_what_is_left_is_the_viewers(
    doorman: DoormanThread, sockets: Sockets, first: bytes
) -> None:
    doorman.admit(sockets.ours, NUMBER)
    sockets.qemus.sendall(LINES + get_all(LISTENER) + first)
    assert doorman.hear() == LET_IN + bytes([NUMBER])
    assert sockets.ours.recv(1000) == first


@pytest.mark.parametrize(
    "lines", [b"REJECTED EXTERNAL\r\n", b"OK 12\r\nERROR\r\n", b"O\r\n", b"x" * 1000]
)
def test_who_does_not_let_us_in(
    doorman: DoormanThread, sockets: Sockets, lines: bytes
) -> None:
    doorman.admit(sockets.ours, NUMBER)
    sockets.qemus.sendall(lines)
    assert doorman.hear() == REFUSED + bytes([NUMBER])
    assert sockets.ours.recv(1000) in (b"", lines[-len(lines) :], b"ERROR\r\n")


def test_who_hangs_up(doorman: DoormanThread, sockets: Sockets) -> None:
    doorman.admit(sockets.ours, NUMBER)
    sockets.qemus.close()
    assert doorman.hear() == GONE + bytes([NUMBER])


def let_in(doorman: DoormanThread, sockets: Sockets) -> None:
    doorman.admit(sockets.ours, NUMBER)
    sockets.qemus.sendall(LINES + update_map(0, 0, 1, 1)[0])
    assert doorman.hear() == LET_IN + bytes([NUMBER])


def test_what_is_not_read_is_shut_down(
    doorman: DoormanThread, sockets: Sockets
) -> None:
    let_in(doorman, sockets)
    assert sockets.qemus.recv(1000) == b""
    assert doorman.pulse[SHUT] == NUMBER
    assert sockets.ours.recv(1000) == update_map(0, 0, 1, 1)[0]
    assert sockets.ours.recv(1000) == b""


def test_who_does_not_keep_up_is_shut_down(
    doorman: DoormanThread, sockets: Sockets
) -> None:
    let_in(doorman, sockets)
    sockets.qemus.settimeout(0.001)
    deadline = time.monotonic() + FOREVER
    while (
        time.monotonic() < deadline
    ):  # something is read again and again, but never all
        doorman.pulse[BEATS] = (doorman.pulse[BEATS] + 1) % 256
        try:
            if not sockets.qemus.recv(1000):
                break
        except TimeoutError:
            continue
    assert doorman.pulse[SHUT] == NUMBER


def test_who_reads_is_left_alone(doorman: DoormanThread, sockets: Sockets) -> None:
    let_in(doorman, sockets)
    message = update_map(0, 0, 1, 1)[0]
    for _ in range(100):
        assert sockets.ours.recv(len(message), socket.MSG_WAITALL) == message
        sockets.qemus.sendall(message)
    assert sockets.ours.recv(1000) == message
    sockets.qemus.settimeout(0.1)  # many looks
    with pytest.raises(TimeoutError):
        sockets.qemus.recv(1000)
    assert not doorman.pulse[SHUT]


def test_the_viewer_ends(sockets: Sockets) -> None:
    with DoormanThread() as doorman:
        doorman.admit(sockets.ours, NUMBER)
        sockets.ours.close()
    assert sockets.qemus.recv(1000) == b""


def test_another_listener_comes_instead(
    doorman: DoormanThread, sockets: Sockets
) -> None:
    let_in(doorman, sockets)
    other = Sockets()
    doorman.admit(other.ours, NUMBER + 1)
    assert sockets.qemus.recv(1000) == b""
    other.qemus.sendall(LINES + update_map(0, 0, 1, 1)[0])
    assert doorman.hear() == LET_IN + bytes([NUMBER + 1])
    other.close()


async def test_a_doorman_of_its_own() -> None:
    """A process, which answers while this one does nothing, and ends with it."""
    sockets = Sockets()
    with Door.start() as door:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.run)
            with trio.fail_after(FOREVER):
                await door.ready.wait()
            listener = door.admit(sockets.ours, [MAPS])
            sockets.qemus.sendall(LINES + get_all(LISTENER))
            assert sockets.qemus.recv(1000)  # blocking all else here
            sockets.qemus.sendall(update_map(0, 0, 1, 1)[0])
            with trio.fail_after(FOREVER):
                await listener.answered.wait()
            assert listener.outcome == LET_IN
            door.beat()
            assert not door.was_shut(listener)
            nursery.cancel_scope.cancel()
    assert sockets.qemus.recv(1000) == b""
    sockets.close()


async def test_it_ends_with_its_viewer_and_not_by_signals() -> None:
    """systemd, and whoever closes a terminal, signal all processes at once."""
    others = children()
    door = Door.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.run)
        with trio.fail_after(FOREVER):
            await door.ready.wait()
        (pid,) = children() - others
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(pid, number)
        sockets = Sockets()
        listener = door.admit(sockets.ours, [])
        sockets.qemus.close()
        with trio.fail_after(FOREVER):
            await listener.answered.wait()  # it has lived on
        sockets.close()
        nursery.cancel_scope.cancel()
    door.close()
    assert pid not in children()


async def test_a_doorman_that_is_stopped_is_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wlproxy.screen.door.LEAVES", 0.01)
    others = children()
    door = Door.start()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.run)
        with trio.fail_after(FOREVER):
            await door.ready.wait()
        nursery.cancel_scope.cancel()
    (pid,) = children() - others
    os.kill(pid, signal.SIGSTOP)
    door.close()
    assert pid not in children()


async def test_who_is_cut_off_again_and_again_comes_back_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    sockets = Sockets()
    with Door.with_doorman(doorman_in_thread) as door:
        pauses = [door.pause_after(door.admit(sockets.ours, [])) for _ in range(6)]
        assert pauses == pytest.approx([0.1, 0.8, 6.4, 51.2, 60, 60])
        listener = door.admit(sockets.ours, [])
        autojump_clock.jump(61)
        assert door.pause_after(listener) == pytest.approx(0.1)
    sockets.close()


def children() -> set[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return set(map(int, file.read().split()))
