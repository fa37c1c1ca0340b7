import array
import os
import resource
import select
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.protocol.fd_limits import MAX_FDS_IN, MAX_FDS_OUT
from wlproxy.transport.fd_stream import (
    Chunk,
    FdsLostError,
    FdStream,
    connect_unix,
)
from wlproxy.transport.fds import FdState, OwnedFd


def new_fd(content: bytes = b"") -> OwnedFd:
    number = os.memfd_create("test", os.MFD_CLOEXEC)
    os.write(number, content)
    return OwnedFd(number)


def contents(fds: list[OwnedFd]) -> list[bytes]:
    """What the files hold; closes them."""
    read = [os.pread(fd.fileno(), 100, 0) for fd in fds]
    for fd in fds:
        fd.close()
    return read


def is_waiting(fd: OwnedFd) -> bool:
    return fd.state is FdState.CLOSING


class Pair:
    """A stream under test and the plain socket of its peer."""

    def __init__(self) -> None:
        mine, self.peer = socket.socketpair()
        self.stream = FdStream(mine)

    async def close(self) -> None:
        self.peer.close()
        await self.stream.aclose()


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    yield pair
    await pair.close()


async def test_bytes_and_fds_arrive(pair: Pair) -> None:
    with new_fd(b"one") as one, new_fd(b"two") as two:
        socket.send_fds(pair.peer, [b"hello"], [one.fileno(), two.fileno()])
    received, fds = await pair.stream.receive()
    assert received == b"hello"
    assert not any(os.get_inheritable(fd.fileno()) for fd in fds)
    assert contents(fds) == [b"one", b"two"]


async def test_as_many_fds_as_the_kernel_passes(pair: Pair) -> None:
    with new_fd() as fd:
        socket.send_fds(pair.peer, [b"x"], [fd.fileno()] * MAX_FDS_IN)
    _, fds = await pair.stream.receive()
    assert len(fds) == MAX_FDS_IN
    contents(fds)


async def test_received_fds_are_owned_as_one_wants() -> None:
    ours, peer = socket.socketpair()
    closed: list[int] = []

    def own(number: int) -> OwnedFd:
        def close(number: int) -> None:
            closed.append(number)
            OwnedFd(number).close()

        return OwnedFd(number, close)

    with peer:
        async with FdStream(ours, own) as stream:
            with new_fd() as fd:
                socket.send_fds(peer, [b"x"], [fd.fileno()])
            _, (received,) = await stream.receive()
            number = received.fileno()
            received.close()
    assert closed == [number]


async def test_what_the_kernel_has_taken_is_counted(pair: Pair) -> None:
    await pair.stream.send(b"hello")
    assert pair.stream.sent == 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.stream.send, bytes(1 << 22))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert pair.stream.sent == 5 + (1 << 22) - pair.stream.unsent < 1 << 22
    pair.peer.close()
    with pytest.raises(trio.BrokenResourceError):
        await pair.stream.flush()
    assert pair.stream.sent < 1 << 22


async def test_end_of_stream(pair: Pair) -> None:
    pair.peer.shutdown(socket.SHUT_WR)
    assert await pair.stream.receive() == (b"", [])


async def test_lost_fds_are_an_error_and_the_others_closed(pair: Pair) -> None:
    with new_fd() as fd:
        socket.send_fds(pair.peer, [b"x"], [fd.fileno()] * 20)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(number) for number in os.listdir("/proc/self/fd")}
    free = [number for number in range(len(taken) + 10) if number not in taken]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[5], limits[1]))
    try:
        with pytest.raises(FdsLostError, match="ulimit"):
            await pair.stream.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    # and no_fd_leaks sees to the rest


async def test_cancelled_while_waiting_loses_nothing(pair: Pair) -> None:
    with trio.move_on_after(0) as scope:
        await pair.stream.receive()
    assert scope.cancelled_caught
    pair.peer.send(b"later")
    assert await pair.stream.receive() == (b"later", [])


async def test_sending_at_once_is_a_checkpoint(pair: Pair) -> None:
    with trio.testing.assert_checkpoints():
        await pair.stream.send(b"x")
    with trio.testing.assert_checkpoints():
        await pair.stream.flush()
    assert pair.peer.recv(10) == b"x"


async def test_receiving_what_is_there_is_a_checkpoint(pair: Pair) -> None:
    pair.peer.send(b"x")
    with trio.testing.assert_checkpoints():
        assert await pair.stream.receive() == (b"x", [])
    pair.peer.send(b"x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair.stream.receive()
    assert scope.cancelled_caught
    assert await pair.stream.receive() == (b"x", [])


async def test_two_receivers_are_a_mistake(pair: Pair) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.stream.receive)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await pair.stream.receive()
        nursery.cancel_scope.cancel()


async def test_reset_by_the_peer(pair: Pair) -> None:
    await pair.stream.send(b"never read")
    pair.peer.close()
    with pytest.raises(trio.BrokenResourceError):
        await pair.stream.receive()


async def test_sends_fds_with_the_first_byte_of_their_chunk(pair: Pair) -> None:
    with new_fd(b"one") as one, new_fd(b"two") as two:
        await pair.stream.send_batch(
            [
                Chunk(b"aa"),
                Chunk(b"bb"),
                Chunk(b"cc", (one,)),
                Chunk(b"dd"),
                Chunk(b"ee", (two,)),
            ]
        )
    arrived = []
    for _ in range(10):  # byte by byte
        received, numbers, _, _ = socket.recv_fds(pair.peer, 1, 10)
        files = contents([OwnedFd(number) for number in numbers])
        arrived.append((received, files))
    assert b"".join(received for received, _ in arrived) == b"aabbccddee"
    assert {index: files for index, (_, files) in enumerate(arrived) if files} == {
        4: [b"one"],
        8: [b"two"],
    }


async def test_chunks_without_fds_leave_together() -> None:
    # Datagrams keep system calls apart.
    mine, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    stream = FdStream(mine)
    with peer:
        await stream.send_batch([Chunk(b"a"), Chunk(b""), Chunk(b"b"), Chunk(b"c")])
        assert peer.recv(100) == b"abc"
        await stream.aclose()


async def test_many_fds_leave_in_portions() -> None:
    mine, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    stream = FdStream(mine)
    portions = []
    with peer, new_fd() as fd:
        await stream.send(b"message", [fd] * (2 * MAX_FDS_OUT + 1))
        for _ in range(3):
            received, numbers, _, _ = socket.recv_fds(peer, 100, MAX_FDS_IN)
            portions.append((received, len(numbers)))
            for number in numbers:
                os.close(number)
        await stream.aclose()
    assert portions == [(b"m", MAX_FDS_OUT), (b"e", MAX_FDS_OUT), (b"ssage", 1)]


@pytest.mark.parametrize(("size", "fds"), [(0, 1), (1, MAX_FDS_OUT + 1)])
async def test_fds_need_bytes_to_leave_with(pair: Pair, size: int, fds: int) -> None:
    with new_fd() as fd:
        with pytest.raises(LocalProtocolError):
            await pair.stream.send_batch(
                [Chunk(b"ok"), Chunk(b"x" * size, (fd,) * fds)]
            )
        assert pair.stream.unsent == 0
        fd.hold().release()
    assert fd.state is FdState.CLOSED


async def test_owner_may_close_while_the_fd_waits(pair: Pair) -> None:
    filler = b"x" * 4_000_000
    fd = new_fd(b"kept")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.stream.send_batch, [Chunk(filler), Chunk(b"!", (fd,))])
        await trio.testing.wait_all_tasks_blocked()
        fd.close()
        assert is_waiting(fd)
        files = await drain(pair.peer, len(filler) + 1)
    assert files == [b"kept"]
    assert fd.state is FdState.CLOSED


async def drain(peer: socket.socket, size: int) -> list[bytes]:
    peer.settimeout(0)
    files: list[bytes] = []
    while size:
        await trio.lowlevel.wait_readable(peer)
        received, numbers, _, _ = socket.recv_fds(peer, 1 << 20, MAX_FDS_IN)
        size -= len(received)
        files += contents([OwnedFd(number) for number in numbers])
    return files


async def test_cancelled_send_goes_on_with_the_next(pair: Pair) -> None:
    filler = os.urandom(3_000_000)
    with new_fd(b"kept") as fd:
        with trio.move_on_after(0.01) as scope:
            await pair.stream.send_batch([Chunk(filler), Chunk(b"first", (fd,))])
        assert scope.cancelled_caught
        assert 0 < pair.stream.unsent <= len(filler) + 5
    arrived = bytearray()
    files: list[bytes] = []

    async def read() -> None:
        pair.peer.settimeout(0)
        while len(arrived) < len(filler) + 11:
            await trio.lowlevel.wait_readable(pair.peer)
            received, numbers, _, _ = socket.recv_fds(pair.peer, 1 << 20, MAX_FDS_IN)
            arrived.extend(received)
            files.extend(contents([OwnedFd(number) for number in numbers]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await pair.stream.send(b"second")
    assert bytes(arrived) == filler + b"firstsecond"
    assert files == [b"kept"]
    assert pair.stream.unsent == 0


async def test_cancelled_before_it_began_is_still_queued(pair: Pair) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair.stream.send(b"queued")
    assert pair.stream.unsent == 6
    await pair.stream.flush()
    assert pair.peer.recv(10) == b"queued"


async def test_what_is_taken_at_once_waits_for_nobody(pair: Pair) -> None:
    with new_fd(b"x") as fd:
        chunks = (Chunk(b"with ", (fd,)), Chunk(b"without"))
        assert pair.stream.send_batch_at_once(chunks)
    assert not pair.stream.backlog
    data, numbers, _, _ = socket.recv_fds(pair.peer, 100, 9)
    assert data == b"with without"
    assert contents([OwnedFd(number) for number in numbers]) == [b"x"]


async def test_what_is_not_taken_at_once_goes_on_in_order(pair: Pair) -> None:
    big = bytes(range(256)) * 8192
    with new_fd(b"x") as fd:
        assert not pair.stream.send_at_once(big)
        assert pair.stream.backlog
        assert not pair.stream.send_at_once(b"after", (fd,))
    assert is_waiting(fd)
    received = bytearray()
    fds: list[OwnedFd] = []

    async def read() -> None:
        while len(received) < len(big) + 10:
            await trio.lowlevel.wait_readable(pair.peer)
            data, numbers, _, _ = socket.recv_fds(pair.peer, 1 << 20, 9)
            received.extend(data)
            fds.extend(map(OwnedFd, numbers))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.stream.flush)
        await trio.testing.wait_all_tasks_blocked()
        pair.stream.send_at_once(b" that")  # it goes on with that, too
        nursery.start_soon(read)
    assert received == big + b"after that"
    assert contents(fds) == [b"x"]
    assert not pair.stream.backlog


async def test_at_once_a_peer_that_is_gone_is_not_noticed(pair: Pair) -> None:
    pair.peer.close()
    with new_fd() as fd:
        assert not pair.stream.send_at_once(b"x", (fd,))
    assert pair.stream.backlog
    with pytest.raises(trio.BrokenResourceError):
        await pair.stream.flush()
    assert fd.state is FdState.CLOSED
    await pair.stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        pair.stream.send_at_once(b"x")


async def test_all_that_is_there_is_received_without_a_wait(pair: Pair) -> None:
    """After fds there may be more, and after a full buffer; else a wait comes first."""
    with new_fd(b"x") as fd:
        socket.send_fds(pair.peer, [b"one"], [fd.fileno()])
        socket.send_fds(pair.peer, [b"two"], [fd.fileno()])
        pair.peer.send(b"three")
    got = [await pair.stream.receive(5) for _ in range(3)]
    assert [data for data, _ in got] == [b"one", b"two", b"three"]
    assert contents([fd for _, fds in got for fd in fds]) == [b"x", b"x"]
    pair.peer.send(b"four")
    assert (await pair.stream.receive(5))[0] == b"four"
    pair.peer.send(b"later")
    assert (await pair.stream.receive(5))[0] == b"later"


async def test_peer_gone_releases_what_waits(pair: Pair) -> None:
    pair.peer.close()
    with new_fd() as fd:
        with pytest.raises(trio.BrokenResourceError):
            await pair.stream.send(b"x", [fd])
        assert pair.stream.unsent == 0
    assert fd.state is FdState.CLOSED  # nothing held it any more


async def test_close_wakes_both_directions(pair: Pair) -> None:
    woken = []

    async def expect_closed(action: str) -> None:
        try:
            if action == "receive":
                await pair.stream.receive()
            else:
                await pair.stream.send(b"x" * 4_000_000)
        except trio.ClosedResourceError:
            woken.append(action)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_closed, "receive")
        nursery.start_soon(expect_closed, "send")
        await trio.testing.wait_all_tasks_blocked()
        await pair.stream.aclose()
    assert sorted(woken) == ["receive", "send"]
    with pytest.raises(trio.ClosedResourceError):
        await pair.stream.receive()
    with pytest.raises(trio.ClosedResourceError):
        await pair.stream.send(b"x")
    await pair.stream.aclose()


async def test_close_releases_what_was_queued(pair: Pair) -> None:
    fd = new_fd()
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair.stream.send(b"x", [fd])
    fd.close()
    assert is_waiting(fd)
    await pair.stream.aclose()
    assert fd.state is FdState.CLOSED


async def test_shutdown_tells_the_peer_and_ends_sending(pair: Pair) -> None:
    await pair.stream.send(b"last")
    pair.stream.shutdown_write()
    assert pair.peer.recv(10) == b"last"
    assert pair.peer.recv(10) == b""
    with pytest.raises(trio.ClosedResourceError):
        await pair.stream.send(b"more")
    pair.peer.send(b"still heard")
    assert await pair.stream.receive() == (b"still heard", [])


async def test_shutdown_of_a_dead_connection_is_no_error(pair: Pair) -> None:
    pair.peer.close()
    pair.stream.shutdown_write()
    await pair.stream.aclose()
    pair.stream.shutdown_write()


async def test_wait_closed_discards_and_sees_the_end(pair: Pair) -> None:
    with new_fd() as fd:
        socket.send_fds(pair.peer, [b"x" * 100], [fd.fileno()])
    pair.peer.close()
    assert await pair.stream.wait_closed(5)


async def test_wait_closed_takes_a_reset_for_an_end(pair: Pair) -> None:
    await pair.stream.send(b"never read")
    pair.peer.close()
    assert await pair.stream.wait_closed(5)


async def test_wait_closed_gives_up(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    assert not await pair.stream.wait_closed(5)
    assert trio.current_time() >= 5


class Left:
    """What a peer finds of a stream that hangs up."""

    def __init__(self, peer: socket.socket, said: bytes = b"") -> None:
        data, self.fds, _, _ = socket.recv_fds(peer, 100, 4)
        assert data == said + b"\0"

    def let_go(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


async def test_hanging_up_waits_until_the_peer_has_let_go(pair: Pair) -> None:
    await pair.stream.send(b"said before")
    done = []

    async def hang_up() -> None:
        done.append(await pair.stream.hang_up(5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang_up)
        await trio.testing.wait_all_tasks_blocked()
        # Not before it has read all: some drop what they find of a closed connection.
        assert not hung_up(pair.peer)
        left = Left(pair.peer, b"said before")
        with trio.fail_after(10):
            while not hung_up(pair.peer):  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.001)
        await trio.testing.wait_all_tasks_blocked()
        assert not done
        left.let_go()
    assert done == [True]


def hung_up(peer: socket.socket) -> bool:
    poll = select.poll()
    poll.register(peer, 0)
    return bool(poll.poll(0))


@pytest.mark.parametrize("when", ["before", "unread", "after"])
async def test_hanging_up_on_a_peer_that_closes(pair: Pair, when: str) -> None:
    if when == "before":
        pair.peer.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.stream.hang_up, 5)
        await trio.testing.wait_all_tasks_blocked()
        if when == "after":
            Left(pair.peer).let_go()
        pair.peer.close()


@pytest.mark.parametrize("reads", [True, False])
async def test_hanging_up_on_a_peer_that_never_lets_go(
    pair: Pair, autojump_clock: trio.testing.MockClock, *, reads: bool
) -> None:
    before = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def hang_up() -> None:
            assert not await pair.stream.hang_up(5)

        nursery.start_soon(hang_up)
        if reads:
            await trio.testing.wait_all_tasks_blocked(0.0001)
            left = Left(pair.peer)
    assert trio.current_time() - before == pytest.approx(5, abs=0.1)
    if reads:
        left.let_go()


async def test_hanging_up_with_half_a_message_unsent(
    pair: Pair, autojump_clock: trio.testing.MockClock
) -> None:
    with trio.move_on_after(1):
        await pair.stream.send(bytes(1 << 20))
    assert pair.stream.unsent
    assert not await pair.stream.hang_up(5)
    total = 0
    while piece := pair.peer.recv(1 << 20):
        total += len(piece)
    assert total < 1 << 20  # and no byte of something else behind it
    assert not pair.stream.unsent


async def test_connects_and_knows_its_peer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        async with await connect_unix(path) as stream:
            peer, _ = listener.accept()
            with peer:
                await stream.send(b"hello")
                assert peer.recv(10) == b"hello"
                assert stream.socket.getpeername() == str(path)


async def test_connect_fails_with_the_kernels_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await connect_unix(tmp_path / "nothing")
    with pytest.raises(OSError, match="too long"):
        await connect_unix(Path("/" + "x" * 200))


async def test_connect_waits_for_a_busy_listener(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "s"
    streams: list[FdStream] = []

    async def connect() -> None:
        streams.append(await connect_unix(path))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        await connect()
        with pytest.raises(BlockingIOError, match="does not accept"):
            await connect_unix(path)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect)
            await trio.testing.wait_all_tasks_blocked()
            assert len(streams) == 1
            listener.accept()[0].close()
        assert len(streams) == 2
    for stream in streams:
        await stream.aclose()


@given(st.lists(st.tuples(st.binary(max_size=50), st.integers(0, 40)), max_size=8))
def test_everything_arrives_in_order(chunks: list[tuple[bytes, int]]) -> None:
    """No byte and no fd is lost, doubled or late, whatever the chunks."""

    async def check() -> None:
        pair = Pair()
        with new_fd() as fd:
            batch = [Chunk(b"##" + data, (fd,) * count) for data, count in chunks]
            await pair.stream.send_batch(batch)
        pair.stream.shutdown_write()
        arrived, counts = b"", []
        pair.peer.settimeout(5)
        while True:
            received, ancillary, flags, _ = pair.peer.recvmsg(
                1, socket.CMSG_SPACE(4 * MAX_FDS_IN), socket.MSG_CMSG_CLOEXEC
            )
            if not received:
                break
            assert not flags & socket.MSG_CTRUNC
            numbers = array.array("i", b"".join(payload for _, _, payload in ancillary))
            for number in numbers:
                os.close(number)
            arrived += received
            counts.append(len(numbers))
        await pair.close()
        assert arrived == b"".join(b"##" + data for data, _ in chunks)
        start = 0
        for data, count in chunks:
            # all with the first two bytes of their chunk
            assert sum(counts[start : start + 2]) == count
            assert not any(counts[start + 2 : start + 2 + len(data)])
            start += 2 + len(data)

    trio.run(check)
