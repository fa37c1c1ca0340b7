"""What is pinned for a client whose dma-bufs hold more than was asked for."""

import errno
import os
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from tests.transport.frames import taken
from wlproxy.protocol.channel.frames import (
    ClientOpened,
    Extent,
    Feature,
    Locate,
    Located,
    LocateStatus,
    Release,
    Released,
    Side,
)
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Windows
from wlproxy.protocol.quota import Quota
from wlproxy.transport.fds import OwnedFd, duplicate
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy_guest.locating import fences
from wlproxy_guest.locating.locations import Locating, Locations
from wlproxy_guest.locating.page_locator import PinnedRange
from wlproxy_guest.locating.pin import KeptFds
from wlproxy_guest.quotas import Limits
from wlproxy_guest.workers import Workers

PAGE = 4096
PINNED = 10 * PAGE


class WholeLocator:
    """Locates pages of a dma-buf of PINNED bytes, for which an eventfd stands."""

    def find_features(self) -> Feature:
        return Feature.LOCATE_DMABUF

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        own = duplicate(fd)
        pin = KeptFds(own)
        return PinnedRange((Extent(0, PAGE),), pin, pinned=PINNED, dmabuf=own.fileno())

    def place_token(self, token: bytes) -> PinnedRange:
        raise NotImplementedError


@pytest.fixture
def dmabuf() -> Iterator[OwnedFd]:
    with OwnedFd(os.eventfd(1)) as fd:
        yield fd


class Bench:
    """A client's locations and the agent's budget."""

    def __init__(self, *, client: int, total: int) -> None:
        self.budget = Quota(total)
        lanes = Lanes(Side.GUEST, Windows(), Windows())
        self.lanes = LaneTasks(lanes, lambda: None)
        self.lanes.put(ClientOpened(1, 1, 2, 3, "app"))
        taken(self.lanes)
        locating = Locating(WholeLocator(), Workers(1), self.budget)
        limits = Limits(pinned=client)
        self.locations = Locations(1, locating, limits, self.lanes)

    async def ask(self, location_id: int, dmabuf: OwnedFd) -> object:
        self.locations.receive_locate(Locate(1, location_id, 1, 0, 1, 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.locations.run, {1: dmabuf})
            while not (frames := taken(self.lanes)):
                await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        (frame,) = frames
        return frame


async def test_all_that_is_held_counts(dmabuf: OwnedFd) -> None:
    bench = Bench(client=2 * PINNED, total=100 * PINNED)
    for location_id in (1, 2):
        answer = await bench.ask(location_id, dmabuf)
        assert isinstance(answer, Located)
        assert answer.status is LocateStatus.OK
    assert bench.budget.used == 2 * PINNED
    answer = await bench.ask(3, dmabuf)
    assert isinstance(answer, Located)
    assert answer.status is LocateStatus.LIMIT_EXCEEDED
    assert bench.budget.used == 2 * PINNED

    bench.locations.receive_release(Release(1, 1))
    assert taken(bench.lanes) == [Released(1, 1)]
    assert bench.budget.used == PINNED
    bench.locations.release_all()
    assert bench.budget.used == 0


async def test_more_than_all_clients_may_hold_is_let_go_again(dmabuf: OwnedFd) -> None:
    bench = Bench(client=2 * PINNED, total=PINNED - 1)
    answer = await bench.ask(1, dmabuf)
    assert isinstance(answer, Located)
    assert answer.status is LocateStatus.LIMIT_EXCEEDED
    assert bench.budget.used == 0


async def test_what_is_released_is_waited_for_no_more(dmabuf: OwnedFd) -> None:
    bench = Bench(client=PINNED, total=PINNED)
    await bench.ask(1, dmabuf)
    os.eventfd_read(dmabuf.fileno())
    assert not bench.locations.are_drawn()
    bench.locations.release_all()
    assert bench.locations.are_drawn()
    await bench.locations.wait_drawn()


async def test_what_is_never_drawn_is_answered_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fences, "UNDRAWN", 0.01)
    undrawn = OwnedFd(os.eventfd(0))
    monkeypatch.setattr(fences, "export_fences", duplicate)
    bench = Bench(client=PINNED, total=PINNED)

    answer = await bench.ask(1, undrawn)

    assert isinstance(answer, Located)
    assert (answer.status, answer.errno) == (LocateStatus.FAILED, errno.ETIMEDOUT)
    assert bench.budget.used == 0
    undrawn.close()


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.EMFILE, "dup"), errno.EMFILE),
        (OSError("no number"), errno.EIO),
        (MemoryError(), errno.ENOMEM),
        (ZeroDivisionError(), errno.EIO),
    ],
)
async def test_what_goes_wrong_costs_one_answer(
    dmabuf: OwnedFd, error: Exception, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> PinnedRange:
        raise error

    bench = Bench(client=PINNED, total=PINNED)
    with monkeypatch.context() as patch:
        patch.setattr(WholeLocator, "locate", fail)
        answer = await bench.ask(1, dmabuf)
    assert isinstance(answer, Located)
    assert (answer.status, answer.errno) == (LocateStatus.FAILED, number)
    assert bench.budget.used == 0

    answer = await bench.ask(1, dmabuf)
    assert isinstance(answer, Located)
    assert answer.status is LocateStatus.OK
    bench.locations.release_all()


async def test_no_fd_is_left_to_locate_with(
    dmabuf: OwnedFd, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> int:
        raise OSError(errno.EMFILE, "dup")

    bench = Bench(client=PINNED, total=PINNED)
    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", fail)
        answer = await bench.ask(1, dmabuf)
    assert isinstance(answer, Located)
    assert (answer.status, answer.errno) == (LocateStatus.FAILED, errno.EMFILE)
    assert bench.budget.used == 0
