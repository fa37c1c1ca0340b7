"""Long lists of extents, packed into 16 bytes each instead of a Python object each.

A fully scattered 4K window has 8100 extents, and an agent that lies may send as many as the
guest has pages.  As an object, each would take eight times the memory.  `Extents` is a
sequence of `Extent`s; code that goes through many of them uses the plain numbers (`words`).
"""

import sys
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, TypeVar, overload

from wlproxy.protocol.channel.frames import Extent

ItemT = TypeVar("ItemT")

GRANT_SIZE = 4096
"""Bytes of the page that a grant reference of Xen's stands for, on every architecture."""


def pairs(extents: Iterable[Extent]) -> Iterator[tuple[int, int]]:
    """Iterate over the addresses and lengths of extents, packed or not."""
    if isinstance(extents, Extents):
        numbers = iter(extents.words)
        return zip(numbers, numbers, strict=True)
    return ((extent.gpa, extent.length) for extent in extents)


class PackedPairs(Sequence[ItemT]):
    """Items of two 64-bit numbers each, in order; they compare equal to tuples of items.

    Attributes:
        words: the numbers of each, in turn.
    """

    __slots__ = ("words",)

    def __init__(self, words: "array[int] | None" = None) -> None:
        """Take over `words`; without them there are no items."""
        self.words = array("Q") if words is None else words

    @classmethod
    def of(cls, items: Iterable[ItemT]) -> Self:
        """Pack items, unless they are packed already."""
        if isinstance(items, cls):
            return items
        packed = cls()
        for item in items:
            packed.words.extend(cls._numbers(item))
        return packed

    @staticmethod
    @abstractmethod
    def _item(first: int, second: int, /) -> ItemT:
        """Make an item of its numbers."""

    @staticmethod
    @abstractmethod
    def _numbers(item: ItemT) -> tuple[int, int]:
        """Take an item apart."""

    def __len__(self) -> int:
        return len(self.words) // 2

    def __iter__(self) -> Iterator[ItemT]:
        numbers = iter(self.words)
        return map(self._item, numbers, numbers)

    @overload
    def __getitem__(self, index: int) -> ItemT: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> ItemT | Self:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return type(self)(self.words[2 * start : 2 * stop])
            return self.of(self[each] for each in range(start, stop, step))
        place = range(len(self))[index]
        return self._item(self.words[2 * place], self.words[2 * place + 1])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, type(self)):
            return self.words == other.words
        if isinstance(other, tuple):
            return tuple(self) == other
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # the words may change

    def __repr__(self) -> str:
        return f"{type(self).__name__}.of({list(self)!r})"


class Extents(PackedPairs[Extent]):
    """Runs of guest-physical memory: `words` has the address and length of each."""

    __slots__ = ()

    _item = staticmethod(Extent)

    @staticmethod
    def _numbers(item: Extent) -> tuple[int, int]:
        return item.gpa, item.length

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Self:
        """Read extents as they are on the channel: little-endian."""
        words = array("Q")
        words.frombytes(data)
        if sys.byteorder == "big":
            words.byteswap()
        return cls(words)

    def to_bytes(self) -> bytes:
        """Write the extents as they are on the channel: little-endian."""
        words = self.words
        if sys.byteorder == "big":
            words = words[:]
            words.byteswap()
        return words.tobytes()
