"""Fences, as far as they can be had without dma-bufs; test_agent_lab has the rest.

An eventfd polls like a dma-buf: readable when it has been "written".
"""

import errno
import os
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from wlproxy.transport.fds import duplicate
from wlproxy_guest.locating import fences
from wlproxy_guest.locating.fences import SYNC_FILE, WriteFences, export_fences


@pytest.fixture
def drawn() -> Iterator[int]:
    fd = os.eventfd(1)
    yield fd
    os.close(fd)


@pytest.fixture
def undrawn() -> Iterator[int]:
    fd = os.eventfd(0)
    yield fd
    os.close(fd)


def test_structure_is_the_kernels() -> None:
    assert SYNC_FILE.size == 8


def test_what_is_not_ready_is_pending(drawn: int, undrawn: int) -> None:
    fences = WriteFences()
    assert fences.pending() == set()
    fences.add(drawn)
    assert fences.pending() == set()
    fences.add(undrawn)
    assert fences.pending() == {undrawn}
    os.eventfd_write(undrawn, 1)
    assert fences.pending() == set()


def test_what_is_removed_is_not_looked_at(undrawn: int) -> None:
    fences = WriteFences()
    fences.add(undrawn)
    fences.remove(undrawn)
    assert fences.pending() == set()


async def test_waiting_is_a_checkpoint_though_it_is_drawn(drawn: int) -> None:
    fences = WriteFences()
    with trio.testing.assert_checkpoints():
        assert await fences.wait_drawn() == set()
    fences.add(drawn)
    with trio.testing.assert_checkpoints():
        assert await fences.wait_drawn() == set()


async def test_a_kernel_without_sync_files_does_not_stop_the_app(
    undrawn: int, caplog: pytest.LogCaptureFixture
) -> None:
    fences = WriteFences()
    fences.add(undrawn)
    for _ in range(3):
        await fences.wait_drawn()
    assert caplog.text.count("cannot wait") == 1


def test_only_dmabufs_have_fences(drawn: int) -> None:
    with pytest.raises(OSError, match=r"ioctl|Invalid"):
        export_fences(drawn)


async def test_a_fence_that_never_ends_is_waited_for_once(
    undrawn: int,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: trio.testing.MockClock,
) -> None:
    monkeypatch.setattr(fences, "export_fences", duplicate)
    watched = WriteFences()
    watched.add(undrawn)

    assert await watched.wait_drawn() == {undrawn}
    assert trio.current_time() == fences.UNDRAWN

    assert await watched.wait_drawn() == set()
    assert trio.current_time() == fences.UNDRAWN
    watched.remove(undrawn)


async def test_what_is_drawn_in_time_is_not_given_up(
    undrawn: int, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(fences, "export_fences", duplicate)
    watched = WriteFences()
    watched.add(undrawn)

    async def draw() -> None:
        os.eventfd_write(undrawn, 1)

    nursery.start_soon(draw)
    assert await watched.wait_drawn() == set()
    assert watched.pending() == set()


async def test_no_memory_to_wait_with(
    undrawn: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(fd: int) -> None:
        raise OSError(errno.ENOMEM, "epoll_ctl")

    monkeypatch.setattr(fences, "export_fences", duplicate)
    monkeypatch.setattr(trio.lowlevel, "wait_readable", fail)
    watched = WriteFences()
    watched.add(undrawn)
    assert await watched.wait_drawn() == set()
    assert "cannot wait" in caplog.text
