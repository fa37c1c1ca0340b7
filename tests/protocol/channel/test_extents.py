"""Packed extents are the sequence that they stand for."""

import struct
import sys
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.channel.extents import Extents, pairs
from wlproxy.protocol.channel.frames import Extent

words = st.integers(0, (1 << 64) - 1)
lists = st.lists(st.builds(Extent, words, words), max_size=9).map(tuple)


@given(extents=lists, start=st.integers(-12, 12), step=st.sampled_from([1, 2, -1]))
def test_like_a_tuple(extents: tuple[Extent, ...], start: int, step: int) -> None:
    packed = Extents.of(extents)

    assert packed == extents
    assert extents == packed
    assert tuple(packed) == extents
    assert len(packed) == len(extents)
    assert list(pairs(packed)) == list(pairs(extents))
    assert packed[start::step] == extents[start::step]
    assert packed[:start] == extents[:start]
    for index in range(-len(extents), len(extents)):
        assert packed[index] == extents[index]
    with pytest.raises(IndexError):
        packed[len(extents)]


@given(extents=lists)
def test_as_bytes(extents: tuple[Extent, ...]) -> None:
    packed = Extents.of(extents)

    data = b"".join(struct.pack("<QQ", each.gpa, each.length) for each in extents)

    assert packed.to_bytes() == data
    assert Extents.from_bytes(memoryview(data)) == packed


def test_not_the_same() -> None:
    assert Extents.of([Extent(1, 2)]) != Extents.of([Extent(1, 3)])
    assert Extents.of([Extent(1, 2)]) != (Extent(1, 2), Extent(1, 2))
    assert Extents() != 0
    assert repr(Extents(array("Q", (1, 2)))) == "Extents.of([Extent(gpa=1, length=2)])"


def test_packed_ones_are_small() -> None:
    packed = Extents.from_bytes(bytes(16 * 1000))

    assert sys.getsizeof(packed.words) < 18 * 1000
    assert Extents.of(packed) is packed
