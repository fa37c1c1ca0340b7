"""The ioctls of gem_locate as its header has them, and extents that are cut."""

import os
import re
import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.channel.frames import Extent
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating import gem_locate
from wlproxy_guest.locating.gem_locate import GemLocate, cut_extents, read_extents

HEADER = Path(__file__).parents[3] / "kernel/udmabuf/include/uapi/linux/gem_locate.h"
TYPES = {"__u32": "I", "__s32": "i", "__u64": "Q"}
PAGE = 4096

runs = st.lists(
    st.tuples(st.integers(0, 2**40), st.integers(1, 2**20)).map(
        lambda run: (run[0] * PAGE, run[1] * PAGE)
    ),
    min_size=1,
    max_size=20,
)


def header_structs() -> dict[str, struct.Struct]:
    found = {}
    text = HEADER.read_text()
    for name, body in re.findall(
        r"^struct (\w+) \{\n(.*?)^\};", text, re.MULTILINE | re.DOTALL
    ):
        fields = re.findall(r"^\t(__\w+) \w+;$", body, re.MULTILINE)
        found[name] = struct.Struct("=" + "".join(TYPES[each] for each in fields))
    return found


def header_numbers() -> dict[str, tuple[int, str]]:
    """Name of an ioctl -> (its number, its structure)."""
    found = {}
    definition = r"^#define (\w+) _IO(W?R)\('(.)', (0x\w+), struct (\w+)\)"
    for name, way, kind, number, of in re.findall(
        definition, HEADER.read_text(), re.MULTILINE
    ):
        direction = {"R": 2, "WR": 3}[way]
        size = header_structs()[of].size
        code = direction << 30 | size << 16 | ord(kind) << 8 | int(number, 16)
        found[name] = (code, of)
    return found


@pytest.mark.parametrize("name", ["VERSION", "DMABUF", "MEMFD", "EXTENTS"])
def test_ioctls_are_those_of_the_header(name: str) -> None:
    number, of = header_numbers()[f"GEM_LOCATE_{name}"]

    assert getattr(gem_locate, f"GEM_LOCATE_{name}") == number
    assert getattr(gem_locate, name).format == header_structs()[of].format
    # Packed as C does: nothing is aligned with padding.
    assert struct.calcsize("@" + getattr(gem_locate, name).format[1:]) == (
        getattr(gem_locate, name).size
    )


@pytest.mark.parametrize("path", ["/dev/null", "/nonexistent", "/proc/self/status"])
def test_what_is_not_the_device_is_an_error(path: str) -> None:
    with pytest.raises(OSError, match=r"ioctl|No such file|Permission"):
        GemLocate(path)


def test_extents_of_what_is_not_located_are_an_error() -> None:
    with (
        OwnedFd(os.memfd_create("x")) as fd,
        pytest.raises(OSError, match="ioctl"),
    ):
        read_extents(fd, 3)


@given(runs, st.data())
def test_what_is_cut_is_what_lies_there(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    numbers = array("Q", [number for pair in pairs for number in pair])
    size = sum(length for _, length in pairs)
    start = data.draw(st.integers(0, size // PAGE - 1)) * PAGE
    end = data.draw(st.integers(start // PAGE + 1, size // PAGE)) * PAGE

    extents = cut_extents(numbers, start, end)

    assert sum(extent.length for extent in extents) == end - start
    assert all(extent.length for extent in extents)

    def at(of: list[tuple[int, int]], offset: int) -> int:
        for gpa, length in of:
            if offset < length:
                return gpa + offset
            offset -= length
        raise AssertionError("beyond the end")

    edges = [0, end - start - 1]
    edges += [data.draw(st.integers(0, end - start - 1))]
    cut = [(extent.gpa, extent.length) for extent in extents]
    for offset in edges:
        assert at(cut, offset) == at(pairs, start + offset)


@given(runs)
def test_all_of_it_is_as_it_was(pairs: list[tuple[int, int]]) -> None:
    numbers = array("Q", [number for pair in pairs for number in pair])
    size = sum(length for _, length in pairs)

    assert cut_extents(numbers, 0, size) == tuple(Extent(*pair) for pair in pairs)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.data())
def test_garbage_is_cut_to_no_more_than_was_asked_for(
    numbers: list[int], data: st.DataObject
) -> None:
    start, end = sorted(
        data.draw(st.lists(st.integers(0, 2**64), min_size=2, max_size=2))
    )
    pairs = array("Q", numbers[: len(numbers) // 2 * 2])

    extents = cut_extents(pairs, start, end)

    assert sum(extent.length for extent in extents) <= end - start
    assert all(extent.length > 0 for extent in extents)


def test_what_ends_beyond_all_addresses_is_cut_there() -> None:
    beyond = (1 << 64) - PAGE, 2 * PAGE
    assert cut_extents([PAGE, PAGE, *beyond], 0, 2 * PAGE) == (
        Extent(PAGE, PAGE),
        Extent(beyond[0], PAGE),
    )
    assert cut_extents(beyond, PAGE, 2 * PAGE) == ()
