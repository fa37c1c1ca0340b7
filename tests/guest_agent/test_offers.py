"""What the host of a session is told of launchers, while it is slow or out of step."""

import socket
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
import trio

from wlproxy.host.client.streams import Streams as HostStreams
from wlproxy.host.launch.launchers import Launchers as HostLaunchers
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.channel.frames import (
    Frame,
    LauncherOpened,
    Side,
)
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Windows
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy_guest.launchers import MAX_OFFERED, Launcher, Offers
from wlproxy_guest.streams import Streams


class End:
    """One end of the channel, whose frames leave when the test says so."""

    def __init__(self, side: Side, nursery: trio.Nursery) -> None:
        self.engine = Lanes(side, Windows(), Windows())
        self.lanes = LaneTasks(self.engine, lambda: None)
        self.start = lambda _, run: nursery.start_soon(run)

    def taken(self) -> Iterator[Frame]:
        while (frame := self.engine.take()) is not None:
            assert isinstance(frame, Frame)
            yield frame


class Ends:
    """Agent and host, and a wire that takes nothing until told to."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.guest = End(Side.GUEST, nursery)
        self.host = End(Side.HOST, nursery)
        ids = count(1)
        guest, host = self.guest, self.host
        self.offers = Offers(
            guest.lanes, Streams(guest.lanes, guest.start), lambda: next(ids)
        )
        self.known = HostLaunchers(
            host.lanes, HostStreams(host.lanes, host.start, VmLog("test"))
        )
        self.closing: list[FdStream] = []

    def launcher(self, user: str = "mallory") -> Launcher:
        ours, theirs = socket.socketpair()
        theirs.close()
        stream = FdStream(ours)
        self.closing.append(stream)
        return Launcher(stream, 1, user)

    def to_host(self) -> list[Frame]:
        frames = list(self.guest.taken())
        for frame in frames:
            assert self.host.lanes.receive(frame)
            assert self.known.receive(frame)
        return frames

    def to_guest(self) -> None:
        for frame in self.host.taken():
            assert self.guest.lanes.receive(frame)
            assert self.offers.receive(frame)


@pytest.fixture
async def ends(nursery: trio.Nursery) -> AsyncIterator[Ends]:
    ends = Ends(nursery)
    yield ends
    for stream in ends.closing:
        stream.close()


async def test_opens_that_overtake_closes_are_few(ends: Ends) -> None:
    """A user connects and hangs up, again and again, while the wire takes nothing."""
    for _ in range(200):
        launcher = ends.launcher()
        ends.offers.open(launcher)
        ends.offers.close(launcher)

    frames = ends.to_host()

    opened = [each for each in frames if isinstance(each, LauncherOpened)]
    assert len(opened) == MAX_OFFERED
    assert len(frames) == 2 * MAX_OFFERED
    assert ends.known.users == []


async def test_those_that_wait_come_when_others_are_released(ends: Ends) -> None:
    for _ in range(MAX_OFFERED):
        launcher = ends.launcher()
        ends.offers.open(launcher)
        ends.offers.close(launcher)
    ada, gone, bob = map(ends.launcher, ("ada", "gone", "bob"))
    for each in (ada, gone, bob):
        ends.offers.open(each)
    ends.offers.close(gone)  # the host never hears of it

    ends.to_host()
    assert ends.known.users == []
    ends.to_guest()
    ends.to_host()

    assert ends.known.users == ["ada", "bob"]
    ends.offers.close(ada)
    ends.to_host()
    assert ends.known.users == ["bob"]


async def test_a_host_that_releases_nobody_is_told_of_no_more(ends: Ends) -> None:
    """What is kept for it has a bound, however often a launcher comes and goes."""
    for _ in range(1000):
        launcher = ends.launcher()
        ends.offers.open(launcher)
        ends.offers.close(launcher)
        list(ends.guest.taken())

    assert ends.guest.engine.client_count == MAX_OFFERED
