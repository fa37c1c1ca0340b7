"""The launchers of a session, as a guest tells of them that may be hostile."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from wlproxy.host.client.streams import Streams
from wlproxy.host.errors import HostError
from wlproxy.host.launch.launchers import (
    MAX_COMMANDS,
    MAX_LAUNCHERS,
    MAX_UNUSED,
    Launchers,
)
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.channel.frames import (
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseReason,
    Credit,
    Data,
    Frame,
    Launch,
    LauncherOpened,
    Located,
    LocateStatus,
    Side,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Windows
from wlproxy.protocol.errors import ChannelError
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks

ADA = LauncherOpened(1, 1000, "ada")


class Bench:
    """Launchers, and the frames that leave."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.sent: list[Frame] = []
        self.engine = Lanes(Side.HOST, Windows(), Windows())
        self.lanes = LaneTasks(self.engine, self.flush)
        start = lambda _, run: nursery.start_soon(run)  # noqa: E731
        self.launchers = Launchers(
            self.lanes, Streams(self.lanes, start, VmLog("test"))
        )

    def flush(self) -> None:
        while (frame := self.engine.take()) is not None:
            assert isinstance(frame, Frame)
            self.sent.append(frame)

    def receive(self, *frames: Frame) -> None:
        for frame in frames:
            if self.lanes.receive(frame):
                assert self.launchers.receive(frame)
            self.flush()


@pytest.fixture
async def bench(nursery: trio.Nursery) -> Bench:
    return Bench(nursery)


@pytest.fixture
def pipes() -> Iterator["Pipes"]:
    with ExitStack() as closing:
        yield Pipes(closing)


class Pipes:
    """Makes what is passed, and keeps the other ends."""

    def __init__(self, closing: ExitStack) -> None:
        self.closing = closing
        self.ours: list[list[OwnedFd]] = []

    def make(self) -> list[OwnedFd]:
        theirs, ours = [], []
        for we_write in (True, False, True, False, False):
            reader, writer = map(OwnedFd, os.pipe())
            theirs.append(reader if we_write else writer)
            ours.append(self.closing.enter_context(writer if we_write else reader))
        self.ours.append(ours)
        return theirs


async def read(fd: OwnedFd) -> bytes:
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(fd.fileno())
    return os.read(fd.fileno(), 99)


def closed(client_id: int = 1) -> ClientClosed:
    return ClientClosed(client_id, CloseReason.NORMAL, "")


async def test_pipes_are_pumped(bench: Bench, pipes: Pipes) -> None:
    bench.receive(ADA)

    assert bench.launchers.launch(None, pipes.make()) == "ada"

    assert bench.sent == [Launch(1, 1)]
    os.write(pipes.ours[0][0].fileno(), b"request")
    bench.receive(StreamData(1, 3, b"answer"))
    bench.receive(*(StreamClosed(1, each, CloseReason.NORMAL) for each in (5, 7, 9)))
    await trio.testing.wait_all_tasks_blocked()
    with trio.fail_after(10):
        while StreamData(1, 1, b"request") not in bench.sent:  # noqa: ASYNC110
            await trio.sleep(0.001)
    assert await read(pipes.ours[0][1]) == b"answer"
    assert await read(pipes.ours[0][3]) == b""
    bench.receive(*(StreamClosed(1, each, CloseReason.NORMAL) for each in (1, 3)))


async def test_ids_of_streams_rise(bench: Bench, pipes: Pipes) -> None:
    bench.receive(ADA)
    for _ in range(3):
        bench.launchers.launch("ada", pipes.make())

    assert [each for each in bench.sent if isinstance(each, Launch)] == [
        Launch(1, 1),
        Launch(1, 11),
        Launch(1, 21),
    ]
    bench.lanes.close()


async def test_one_is_chosen(bench: Bench, pipes: Pipes) -> None:
    bench.receive(ADA, LauncherOpened(2, 1001, "bob"))

    with pytest.raises(HostError, match="started: ada, bob"):
        bench.launchers.launch(None, pipes.make())
    assert bench.launchers.launch("bob", pipes.make()) == "bob"
    bench.receive(closed(1))
    assert bench.launchers.launch(None, pipes.make()) == "bob"
    bench.lanes.close()


async def test_pipes_of_nobody_are_closed(bench: Bench, pipes: Pipes) -> None:
    made = pipes.make()

    with pytest.raises(HostError, match="nobody in the guest runs a launcher"):
        bench.launchers.launch(None, made)

    assert os.read(pipes.ours[0][1].fileno(), 1) == b""
    assert bench.sent == []


async def test_so_many_commands_at_once(bench: Bench, pipes: Pipes) -> None:
    """Those of a launcher that has gone count as long as they run."""
    bench.receive(ADA)
    for _ in range(MAX_COMMANDS // 2):
        bench.launchers.launch(None, pipes.make())
    bench.receive(closed(), LauncherOpened(2, 1000, "ada"))
    for _ in range(MAX_COMMANDS // 2):
        bench.launchers.launch(None, pipes.make())

    with pytest.raises(HostError, match=f"{MAX_COMMANDS} commands run"):
        bench.launchers.launch(None, pipes.make())
    for stream in range(1, 11, 2):
        bench.lanes.receive(StreamClosed(1, stream, CloseReason.NORMAL))
    await trio.testing.wait_all_tasks_blocked()
    assert bench.launchers.launch(None, pipes.make()) == "ada"
    bench.lanes.close()


async def test_one_that_has_gone_is_let_go_of(bench: Bench) -> None:
    bench.receive(ADA, closed())

    assert bench.sent == [ClientReleased(1)]
    assert bench.launchers.users == []
    assert bench.engine.client_count == 0


async def test_names_are_for_people(bench: Bench) -> None:
    bench.receive(
        LauncherOpened(1, 7, "\x1b[31m\n\u202eeve"),
        LauncherOpened(2, 8, "\n"),
        LauncherOpened(3, 9, "x" * 1000),
    )

    assert bench.launchers.users == ["8", "[31m eve", "x" * 64]


async def test_one_too_many_is_not_used(bench: Bench, pipes: Pipes) -> None:
    """The session goes on, and those that were there before."""
    bench.receive(
        *(LauncherOpened(each + 1, 0, f"a{each}") for each in range(MAX_LAUNCHERS)),
        LauncherOpened(65, 0, "late"),
    )

    assert "late" not in bench.launchers.users
    with pytest.raises(HostError, match="'late' of the guest has no launcher"):
        bench.launchers.launch("late", pipes.make())
    assert bench.launchers.launch("a0", pipes.make()) == "a0"
    bench.receive(closed(65))
    assert bench.sent[-1] == ClientReleased(65)
    bench.receive(closed(2), LauncherOpened(66, 0, "later"))
    assert "later" in bench.launchers.users
    bench.lanes.close()


async def test_no_end_of_launchers(bench: Bench) -> None:
    most = MAX_LAUNCHERS + MAX_UNUSED
    bench.receive(*(LauncherOpened(each + 1, 0, "a") for each in range(most)))

    with pytest.raises(ChannelError, match=f"over {most} launchers"):
        bench.receive(LauncherOpened(most + 1, 0, "a"))


@pytest.mark.parametrize(
    "frame",
    [Data(1, b"x"), Located(1, 1, LocateStatus.UNSUPPORTED, 0, False, ())],
    ids=lambda frame: type(frame).__name__,
)
async def test_frames_that_are_not_of_a_launcher(bench: Bench, frame: Frame) -> None:
    bench.receive(ADA)
    with pytest.raises(ChannelError, match="is not for a launcher"):
        bench.receive(frame)


async def test_frames_about_others_are_others(bench: Bench) -> None:
    bench.receive(ADA)
    for frame in (ClientOpened(2, 1, 1, 1, "app"), Data(2, b"x"), closed(2)):
        bench.lanes.receive(frame)
        assert not bench.launchers.receive(frame)
    assert bench.launchers.receive(Credit(1, 1, 1))
