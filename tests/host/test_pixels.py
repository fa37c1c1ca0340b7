"""Mode C's copying, against a reference that copies byte by byte."""

import fcntl
import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.host.errors import HostError
from wlproxy.host.fds import OwnedFd
from wlproxy.host.pixels import SEALS, CopyBuffer, PixelCopier, copy_rows
from wlproxy.memory.guest import RamItem
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.commands import CopyRows
from wlproxy.relay.handles import Handle

RAM = (bytes(range(251)) * 40, bytes(reversed(range(241))) * 40)
"""Two RAM files; primes, so that no page is like another."""


def command(items: tuple[RamItem, ...], rows: tuple[int, int, int, int]) -> CopyRows:
    offset, stride, length, count = rows
    return CopyRows(1, Handle(2), items, offset, stride, length, count)


def reference(asked: CopyRows, size: int) -> bytes:
    whole = b"".join(
        RAM[item.region][item.offset : item.offset + item.length]
        for item in asked.items
    )
    target = bytearray(size)
    for row in range(asked.rows):
        for column in range(asked.length):
            position = asked.offset + row * asked.stride + column
            target[position] = whole[position]
    return bytes(target)


@st.composite
def copies(draw: st.DrawFn) -> CopyRows:
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
    length = draw(st.integers(0, min(size, 300)))
    offset = draw(st.integers(0, size - length))
    stride = draw(st.just(length) | st.integers(0, 400))
    most = 8 if not stride else (size - offset - length) // stride + 1
    rows = draw(st.integers(0, min(most, 40)))
    return command(items, (offset, stride, length, rows))


@given(copies())
def test_copies_these_rows_and_nothing_else(asked: CopyRows) -> None:
    size = sum(item.length for item in asked.items)
    target = bytearray(size)
    sources = {index: memoryview(ram) for index, ram in enumerate(RAM)}
    copied = copy_rows(asked, sources, memoryview(target))
    assert bytes(target) == reference(asked, size)
    assert copied == asked.rows * asked.length


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
    asked = command((RamItem(0, 0, 1000),), rows)
    with pytest.raises(LocalProtocolError):
        copy_rows(asked, {0: memoryview(RAM[0])}, memoryview(bytearray(1000)))


def test_the_target_bounds_it_too() -> None:
    asked = command((RamItem(0, 0, 1000),), (0, 100, 100, 10))
    with pytest.raises(LocalProtocolError):
        copy_rows(asked, {0: memoryview(RAM[0])}, memoryview(bytearray(999)))


def test_the_copy_buffer_is_sealed_and_shows_what_was_copied() -> None:
    made = CopyBuffer(8192)
    with OwnedFd(made.fd.detach()) as fd:
        assert fcntl.fcntl(fd.fileno(), fcntl.F_GET_SEALS) == SEALS
        ram = mmap.mmap(-1, 16384)
        ram[:] = (RAM[0] * 2)[:16384]
        copier = PixelCopier(lambda _: ram)
        asked = command((RamItem(0, 4096, 8192),), (0, 4096, 4096, 2))
        assert copier.copy(asked, made) == 8192
        with mmap.mmap(fd.fileno(), 8192) as seen:
            assert seen[:] == ram[4096:12288]
        copier.close()
        assert ram.closed
        made.close()


@pytest.mark.parametrize("size", [0, 1 << 62])
def test_a_copy_buffer_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(HostError, match="copy pixels"):
        CopyBuffer(size)
