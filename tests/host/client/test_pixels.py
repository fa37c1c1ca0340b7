"""Mode C's copying, against a reference that copies byte by byte."""

import errno
import fcntl
import mmap
import os
import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.host.scripted import Bytes
from wlproxy.host.client import pixels
from wlproxy.host.client.pixels import SEALS, Copy, CopyBuffer, Pages, PixelCopier
from wlproxy.host.errors import HostError
from wlproxy.host.qemu.ram_pages import RamViews
from wlproxy.memory.guest_memory import RamItem
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.commands import CopyRows
from wlproxy.relay.handles import Handle
from wlproxy.transport.fds import FdState

RAM = (bytes(range(251)) * 40, bytes(reversed(range(241))) * 40)
"""Two RAM files; primes, so that no page is like another."""

MIB = 1 << 20


def command(items: Sequence[RamItem], rows: tuple[int, int, int, int]) -> CopyRows:
    offset, stride, length, count = rows
    return CopyRows(1, Handle(2), items, offset, stride, length, count)


def damaged(asked: CopyRows) -> set[int]:
    """Every byte that is asked for."""
    return {
        asked.offset + row * asked.stride + column
        for row in range(asked.rows)
        for column in range(asked.length)
    }


class Bench:
    """A buffer, and the pages that are copied into it."""

    def __init__(self, items: Sequence[RamItem], size: int = 0) -> None:
        self.items = items
        self.whole = b"".join(
            RAM[item.file][item.offset : item.offset + item.length] for item in items
        )
        self.target = CopyBuffer(size or len(self.whole))
        self.target.pages = Pages(items, Bytes(*RAM))
        self.copy = Copy(Handle(2), self.target)

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self.copy.release()
        self.target.fd.close()
        assert self.target.fd.state is FdState.CLOSED

    def add(self, *rows: tuple[int, int, int, int]) -> None:
        for each in rows:
            self.copy.add(command(self.items, each))

    def slices(self) -> list[int]:
        """Carry all of it out as a thread would; how many bytes each slice was."""
        slices = []
        while not self.copy.done:
            slices.append(self.copy.copy_slice())
        return slices

    def copied(self) -> set[int]:
        """Where the target holds what the guest does; all else is still zero."""
        seen = self.target.pixels[:]
        same = {at for at, byte in enumerate(self.whole) if seen[at] == byte}
        assert not any(seen[at] for at in range(len(seen)) if at not in same)
        return same


@st.composite
def copies(draw: st.DrawFn) -> list[CopyRows]:
    items = tuple(
        RamItem(region, offset, draw(st.integers(1, len(RAM[region]) - offset)))
        for region, offset in draw(
            st.lists(
                st.tuples(st.integers(0, 1), st.integers(0, 9000)),
                min_size=1,
                max_size=6,
            )
        )
    )
    size = sum(item.length for item in items)
    asked = []
    for _ in range(draw(st.integers(1, 5))):
        length = draw(st.integers(0, min(size, 300)))
        offset = draw(st.integers(0, size - length))
        stride = draw(st.just(length) | st.integers(0, 400))
        most = 8 if not stride else (size - offset - length) // stride + 1
        rows = draw(st.integers(0, min(most, 40)))
        asked.append(command(items, (offset, stride, length, rows)))
    return asked


@given(copies(), st.booleans())
def test_copies_these_rows_and_nothing_outside(
    asked: list[CopyRows], at_once: bool
) -> None:
    wanted = set[int]().union(*map(damaged, asked))
    with Bench(asked[0].items) as bench:
        for each in asked:
            bench.copy.add(each)
        amount = bench.copy.copy_rows() if at_once else sum(bench.slices())
        copied = bench.copied()
        zeros = {at for at, byte in enumerate(bench.whole) if not byte}
        assert wanted <= copied
        assert copied - zeros <= set(
            range(min(wanted, default=0), 1 + max(wanted, default=-1))
        )
        assert bench.copy.done
        assert amount >= len(copied - zeros)


def test_the_damage_alone_is_copied_where_that_is_cheaper() -> None:
    far, stride = 5 * 4096, 8192
    items = (RamItem(0, 0, 10000), RamItem(1, 0, 9000), RamItem(0, 40, 10000))
    with Bench(items) as bench:
        bench.add((0, stride, 40, 2), (far, stride, 7, 1))
        assert bench.copy.copy_rows() == 87
        zeros = {at for at, byte in enumerate(bench.whole) if not byte}
        wanted = {*range(40), *range(stride, stride + 40), *range(far, far + 7)}
        assert bench.copied() - zeros == wanted - zeros


def test_what_is_asked_for_again_is_copied_once() -> None:
    """Until it has begun; a spinner's frames, while the compositor does not read."""
    with Bench((RamItem(0, 0, 10000),)) as bench:
        bench.add(*[(100, 2000, 50, 3)] * 1000)
        assert bench.copy.copy_rows() == 150
        bench.add((100, 2000, 50, 3))
        assert not bench.copy.done


def test_never_more_than_what_all_of_it_spans() -> None:
    """As an attack may want: rectangles that are the same but for a column."""
    with Bench((RamItem(0, 0, 10000),)) as bench:
        bench.add(*[(index, 2000, 1900, 4) for index in range(16)])
        assert bench.copy.copy_rows() == 15 + 3 * 2000 + 1900


def test_so_many_parts_wait_apart() -> None:
    with Bench((RamItem(0, 0, 10000),)) as bench:
        for index in range(10 * pixels.MAX_PARTS):
            bench.add((8 * index, 8, 2, 1))
            parts = bench.copy._parts  # noqa: SLF001 - nothing shows it but memory
            assert len(parts) <= pixels.MAX_PARTS
        assert bench.copy.copy_rows() <= 8 * index + 2


def big(size: int, piece: int) -> tuple[RamItem, ...]:
    """As many pieces of RAM as make up so many bytes."""
    return tuple(RamItem(0, 8 * (n % 9), piece) for n in range(size // piece))


def test_a_tall_thin_rectangle_is_not_a_step_for_each_row() -> None:
    """A buffer of two pixels' width has a hundred million rows."""
    with Bench(big(16 * MIB, 8192)) as bench:
        bench.add((0, 16, 8, MIB))
        assert not bench.copy.small
        assert len(bench.slices()) <= 5


def test_rows_far_apart_are_not_a_step_each_either() -> None:
    with Bench(big(16 * MIB, 8192)) as bench:
        bench.add((0, 8192, 4, 2048))
        assert not bench.copy.small
        assert len(bench.slices()) <= 5


@pytest.mark.parametrize("piece", [8192, 512], ids=["whole", "scattered"])
def test_a_slice_has_a_bound_in_bytes_and_in_runs(piece: int) -> None:
    with Bench(big(12 * MIB, piece)) as bench:
        bench.add((5, 1000, 1000, 12000))
        slices = bench.slices()
        assert sum(slices) == 12_000_000
        assert max(slices) <= min(pixels.SLICE, pixels.MAX_RUNS * piece)
        assert bench.target.pixels[5:12_000_005] == bench.whole[5:12_000_005]


def test_far_apart_parts_are_not_joined_by_what_lies_between() -> None:
    with Bench(big(16 * MIB, 8192)) as bench:
        bench.add((0, 0, 2 * MIB, 1), (MIB, 0, 2 * MIB, 1), (10 * MIB, 0, MIB, 1))
        assert sum(bench.slices()) == 4 * MIB
        assert not any(bench.target.pixels[4 * MIB : 10 * MIB])


@pytest.mark.parametrize(
    "rows",
    [
        (0, 100, 101, 10),
        (1, 100, 100, 10),
        (0, 2000, 1, 2),
        (-1, 100, 10, 1),
        (0, -1, 10, 2),
        (0, 1, -1, 1),
    ],
)
def test_rows_outside_are_our_own_mistake(rows: tuple[int, int, int, int]) -> None:
    with Bench((RamItem(0, 0, 1000),)) as bench, pytest.raises(LocalProtocolError):
        bench.add(rows)


def test_the_target_bounds_it_too() -> None:
    with Bench((RamItem(0, 0, 1000),), 999) as bench, pytest.raises(LocalProtocolError):
        bench.add((0, 100, 100, 10))


async def test_the_copy_buffer_is_sealed_and_shows_what_was_copied() -> None:
    made = CopyBuffer(8192)
    with made.fd as fd:
        assert fcntl.fcntl(fd.fileno(), fcntl.F_GET_SEALS) == SEALS
        ram = mmap.mmap(-1, 16384)
        ram[:] = (RAM[0] * 2)[:16384]
        copier = PixelCopier(RamViews({0: ram}.pop))
        asked = command((RamItem(0, 4096, 8192),), (0, 4096, 4096, 2))
        copier.find(asked, made)
        copier.find(asked, made)  # nothing is mapped twice
        copy = Copy(Handle(2), made)
        copy.add(asked)
        assert await copier.copy_some(copy) == 8192
        copy.release()
        with mmap.mmap(fd.fileno(), 8192) as seen:
            assert seen[:] == ram[4096:12288]
        gone = weakref.ref(ram)
        copier.close()
        del ram, copy, made
        assert gone() is None


def test_the_pages_of_a_large_buffer_are_given_back_by_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel takes a second for a gibibyte of them."""
    threads: queue.Queue[int] = queue.Queue()
    monkeypatch.setattr(pixels, "_ignore", lambda _: threads.put(threading.get_ident()))
    for size in (4096, pixels.SLICE + 1):
        made = CopyBuffer(size)
        made.fd.close()
        del made
    assert threads.get(timeout=10) != threading.get_ident()
    assert threads.empty()


@pytest.mark.parametrize("size", [0, 1 << 62])
def test_a_copy_buffer_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(HostError, match="copy pixels"):
        CopyBuffer(size)


async def test_no_memory_for_a_slice_is_an_error_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with Bench(big(4 * MIB, 8192)) as bench:
        bench.add((0, 0, 4 * MIB, 1))
        monkeypatch.setattr(os, "pwritev", full)
        with pytest.raises(HostError, match="copy pixels"):
            await PixelCopier(RamViews(lambda _: mmap.mmap(-1, 1))).copy_some(
                bench.copy
            )


async def carry_out(
    copier: PixelCopier, bench: Bench, told: Callable[[], None]
) -> None:
    while not bench.copy.done:
        await copier.copy_some(bench.copy)
        told()


async def test_slices_of_those_who_copy_much_take_turns() -> None:
    """Whoever comes waits for one slice of each, however much they have left."""
    copier = PixelCopier(RamViews(lambda _: mmap.mmap(-1, 1)))
    turns: list[str] = []
    begun = trio.Event()

    def take(name: str) -> None:
        turns.append(name)
        if len(turns) == 5:
            begun.set()

    items = big(64 * MIB, 8192)
    with Bench(items) as one, Bench(items) as two, Bench(items) as late:
        one.add((0, 0, 64 * MIB, 1))
        two.add((0, 0, 32 * MIB, 1))
        late.add((0, 0, 3 * MIB, 1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry_out, copier, one, partial(take, "one"))
            nursery.start_soon(carry_out, copier, two, partial(take, "two"))
            await begun.wait()
            before = len(turns)
            await carry_out(copier, late, partial(take, "late"))
            assert len(turns) - before <= 4
    assert (turns.count("one"), turns.count("two")) == (16, 8)
    both = [name for name in turns if name != "late"][:16]
    assert all(first != second for first, second in pairwise(both))


async def test_what_is_small_does_not_wait_for_what_is_large() -> None:
    copier = PixelCopier(RamViews(lambda _: mmap.mmap(-1, 1)))
    slices: list[int] = []
    begun = trio.Event()
    with Bench(big(64 * MIB, 8192)) as large, Bench(big(8192, 8192)) as small:
        large.add((0, 0, 64 * MIB, 1))
        small.add((0, 0, 8192, 1))
        async with trio.open_nursery() as nursery:

            def told() -> None:
                slices.append(1)
                begun.set()

            nursery.start_soon(carry_out, copier, large, told)
            await begun.wait()
            before = len(slices)
            assert await copier.copy_some(small.copy) == 8192
            assert len(slices) - before <= 1


async def test_half_of_the_time_is_for_others(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """But a burst is not held up: a frame of a large screen."""
    copier = PixelCopier(RamViews(lambda _: mmap.mmap(-1, 1)))

    def copy_slowly(_: Copy) -> int:
        autojump_clock.jump(0.01)
        return 4096

    monkeypatch.setattr(Copy, "copy_rows", copy_slowly)
    with Bench(big(8192, 8192)) as bench:
        bench.add((0, 0, 8192, 1))
        began = trio.current_time()
        for _ in range(5):
            await copier.copy_some(bench.copy)
        assert trio.current_time() - began == pytest.approx(0.05)
        for _ in range(200):
            await copier.copy_some(bench.copy)
        assert trio.current_time() - began == pytest.approx(4.05, abs=0.1)


async def test_what_is_small_is_copied_at_once_if_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    copier = PixelCopier(RamViews(lambda _: mmap.mmap(-1, 1)))

    def copy_slowly(_: Copy) -> int:
        autojump_clock.jump(0.04)
        return 4096

    monkeypatch.setattr(Copy, "copy_rows", copy_slowly)
    with Bench(big(8192, 8192)) as small, Bench(big(4 * MIB, 8192)) as large:
        small.add((0, 0, 8192, 1))
        large.add((0, 0, 4 * MIB, 1))
        assert copier.copy_at_once(large.copy) is None
        assert copier.copy_at_once(small.copy) == 4096
        assert copier.copy_at_once(small.copy) == 4096
        assert copier.copy_at_once(small.copy) is None  # it is the turn of others
        await copier.copy_some(small.copy)
