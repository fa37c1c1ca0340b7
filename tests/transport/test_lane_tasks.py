"""Tasks at lanes: whoever waits goes on when there is reason to, and what may leave is sent."""

import os
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from tests.transport.frames import taken
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    CloseReason,
    Credit,
    Data,
    FileData,
    Frame,
    Ping,
    Side,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Lane, Windows
from wlproxy.transport.fds import FdState, OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy.transport.pumps import Pumps, pump_from_peer, pump_to_peer
from wlproxy.transport.stream_end import make_pipe

READS, WRITES = AttachmentFlags.HOLDER_READS, AttachmentFlags.HOLDER_WRITES
CLIENT, STREAM = Lane(1), Lane(1, 2)


class Sender:
    """An agent's lanes and a wire that takes what it is told to take."""

    def __init__(self) -> None:
        windows = Windows(100, 100)
        self.lanes = LaneTasks(Lanes(Side.GUEST, windows, windows), self.flush)
        self.blocked = False
        self.sent: list[Frame] = []
        self.lanes.put(ClientOpened(1, 1, 2, 3, "app"))
        self.sent.clear()

    def flush(self) -> None:
        if not self.blocked:
            self.sent += taken(self.lanes)

    def attach(self, flags: AttachmentFlags) -> None:
        attachment = Attachment(AttachmentKind.STREAM, flags, STREAM.stream_id, 0)
        self.lanes.put(Data(1, b"x", (attachment,)))
        self.sent.clear()


@pytest.fixture
def sender() -> Sender:
    return Sender()


async def finished(
    nursery: trio.Nursery, wait: Callable[[], Awaitable[object]]
) -> Callable[[], Awaitable[object]]:
    """Start to wait for something, and return how to wait until that is over."""
    over = trio.Event()
    results: list[object] = []

    async def run() -> None:
        results.append(await wait())
        over.set()

    nursery.start_soon(run)
    await trio.testing.wait_all_tasks_blocked()
    assert not over.is_set()

    async def result() -> object:
        with trio.fail_after(30):
            await over.wait()
        return results[0]

    return result


async def test_what_is_put_is_sent_at_once(sender: Sender) -> None:
    sender.lanes.put(Ping(1))
    assert sender.sent == [Ping(1)]


async def test_credit_makes_room(sender: Sender, nursery: trio.Nursery) -> None:
    assert await sender.lanes.room(CLIENT) == 50
    for _ in range(2):
        sender.lanes.put(Data(1, bytes(50)))
    waited = await finished(nursery, lambda: sender.lanes.room(CLIENT, 20))
    sender.lanes.receive(Credit(1, 0, 10))
    await trio.testing.wait_all_tasks_blocked()
    sender.lanes.receive(Credit(1, 0, 15))
    assert await waited() == 25


async def test_a_lane_is_idle_when_the_wire_has_it(
    sender: Sender, nursery: trio.Nursery
) -> None:
    await sender.lanes.idle(CLIENT)
    sender.blocked = True
    sender.lanes.put(Data(1, b"x"))
    waited = await finished(nursery, lambda: sender.lanes.idle(CLIENT))
    sender.blocked = False
    sender.flush()
    await waited()


async def test_a_streams_bytes_are_waited_for(
    sender: Sender, nursery: trio.Nursery
) -> None:
    sender.attach(WRITES)
    waited = await finished(nursery, lambda: sender.lanes.pull(STREAM))
    assert sender.lanes.receive(StreamData(*STREAM, bytes(60)))
    assert await waited() == bytes(60)
    sender.lanes.consumed(STREAM, 60)
    assert sender.sent == [Credit(*STREAM, 60)]
    waited = await finished(nursery, lambda: sender.lanes.pull(STREAM))
    sender.lanes.receive(StreamClosed(*STREAM, CloseReason.NORMAL))
    assert await waited() is None


async def test_closed_it_keeps_nobody_waiting(
    sender: Sender, nursery: trio.Nursery
) -> None:
    sender.attach(WRITES)
    sender.blocked = True
    sender.lanes.put(Data(1, b"x"))
    waits = [
        await finished(nursery, lambda: sender.lanes.idle(CLIENT)),
        await finished(nursery, lambda: sender.lanes.room(CLIENT)),
        await finished(nursery, lambda: sender.lanes.pull(STREAM)),
    ]
    sender.lanes.close()
    for each in waits:
        await each()
    assert not sender.lanes.is_open(CLIENT)


def memfd(contents: bytes) -> OwnedFd:
    fd = OwnedFd(os.memfd_create("test", os.MFD_CLOEXEC))
    os.write(fd.fileno(), contents)
    return fd


async def test_a_file_is_read_as_credit_comes(sender: Sender) -> None:
    contents = bytes(range(120))
    fd = memfd(contents)
    sender.lanes.put_file(1, 5, fd, len(contents))
    sender.lanes.put(Data(1, b"keymap"))
    assert sender.sent == [
        FileData(1, 5, contents[:50]),
        FileData(1, 5, contents[50:100]),
    ]
    assert fd.state.name == "OPEN"
    sender.lanes.receive(Credit(1, 0, 100))
    sender.flush()
    assert sender.sent[2:] == [FileData(1, 5, contents[100:]), Data(1, b"keymap")]
    assert fd.state is FdState.CLOSED


async def test_a_file_that_is_nowhere_else(sender: Sender) -> None:
    sender.lanes.put_file(1, 5, b"table", 5)
    sender.lanes.put_file(1, 6, b"", 0)
    assert sender.sent == [FileData(1, 5, b"table")]


async def test_a_file_that_shrank_is_filled_up(sender: Sender) -> None:
    sender.lanes.put_file(1, 5, memfd(b"abc"), 5)
    assert sender.sent == [FileData(1, 5, b"abc\0\0")]


async def test_an_unreadable_file_is_zeros(sender: Sender) -> None:
    read_end, write_end = map(OwnedFd, os.pipe())
    read_end.close()
    sender.lanes.put_file(1, 5, write_end, 2)
    assert sender.sent == [FileData(1, 5, b"\0\0")]


@pytest.mark.parametrize("how", ["empty", "dropped", "closed", "the peer's end"])
async def test_a_file_that_is_never_sent_is_closed(sender: Sender, how: str) -> None:
    sender.blocked = True
    fd = memfd(b"abc")
    sender.lanes.put_file(1, 5, fd, 0 if how == "empty" else 3)
    match how:
        case "dropped":
            sender.lanes.drop_data(1)
        case "closed":
            sender.lanes.close()
        case "the peer's end":
            sender.lanes.receive(ClientClosed(1, CloseReason.NORMAL, ""))
        case _:
            pass
    assert fd.state is FdState.CLOSED
    sender.blocked = False
    sender.flush()
    assert sender.sent == []


async def test_a_pump_reads_no_faster_than_the_peer_allows(
    sender: Sender, nursery: trio.Nursery
) -> None:
    sender.attach(READS)
    end, theirs = make_pipe(we_write=False)
    os.write(theirs.fileno(), bytes(120))
    theirs.close()
    ended = await finished(nursery, lambda: pump_to_peer(end, STREAM, sender.lanes))
    assert sender.sent == [StreamData(*STREAM, bytes(50))] * 2
    sender.lanes.receive(Credit(*STREAM, 50))
    await ended()
    assert sender.sent[2:] == [StreamData(*STREAM, bytes(20))]
    end.close()


async def test_a_pump_whose_end_cannot_be_read_has_failed(
    sender: Sender, nursery: trio.Nursery
) -> None:
    sender.attach(READS)
    end, theirs = make_pipe(we_write=True)
    pumps = Pumps(sender.lanes, lambda _, run: nursery.start_soon(run))
    pumps.start(STREAM, end, to_peer=True)
    await trio.testing.wait_all_tasks_blocked()
    assert sender.sent == [StreamClosed(*STREAM, CloseReason.FAILED)]
    end.close()
    theirs.close()


async def test_a_pump_writes_until_the_peer_ends(
    sender: Sender, nursery: trio.Nursery
) -> None:
    sender.attach(WRITES)
    end, theirs = make_pipe(we_write=True)
    ended = await finished(nursery, lambda: pump_from_peer(end, STREAM, sender.lanes))
    sender.lanes.receive(StreamData(*STREAM, b"pasted"))
    sender.lanes.receive(StreamClosed(*STREAM, CloseReason.NORMAL))
    await ended()
    assert os.read(theirs.fileno(), 100) == b"pasted"
    end.close()
    theirs.close()


async def test_a_pump_ends_at_its_limit(sender: Sender) -> None:
    sender.attach(READS)
    end, theirs = make_pipe(we_write=False)
    os.write(theirs.fileno(), b"pasted")
    with end, theirs, trio.fail_after(30):
        await pump_to_peer(end, STREAM, sender.lanes, 4)
    assert sender.sent[-1] == StreamData(*STREAM, b"past")


async def test_a_pump_writes_no_more_than_its_limit(sender: Sender) -> None:
    sender.attach(WRITES)
    end, theirs = make_pipe(we_write=True)
    sender.lanes.receive(StreamData(*STREAM, b"pasted"))
    with end, theirs, trio.fail_after(30):
        await pump_from_peer(end, STREAM, sender.lanes, 4)
        assert os.read(theirs.fileno(), 100) == b"past"
