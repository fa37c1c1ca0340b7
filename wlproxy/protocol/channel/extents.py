"""Long lists of extents, packed into 16 bytes each instead of a Python object each.

A fully scattered 4K window has 8100 extents, and an agent that lies may send as many as the
guest has pages.  As an object, each would take eight times the memory.  `Extents` is a
sequence of `Extent`s; code that goes through many of them uses the plain numbers (`words`).
"""

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Self, overload

from wlproxy.protocol.channel.frames import Extent


def pairs(extents: Iterable[Extent]) -> Iterator[tuple[int, int]]:
    """Iterate over the addresses and lengths of extents, packed or not."""
    if isinstance(extents, Extents):
        numbers = iter(extents.words)
        return zip(numbers, numbers, strict=True)
    return ((extent.gpa, extent.length) for extent in extents)


class Extents(Sequence[Extent]):
    """Runs of guest-physical memory, in order.

    Attributes:
        words: address and length of each, in turn.
    """

    __slots__ = ("words",)

    def __init__(self, words: "array[int] | None" = None) -> None:
        """Take over `words`; without them there are none."""
        self.words = array("Q") if words is None else words

    @classmethod
    def of(cls, extents: Iterable[Extent]) -> Self:
        """Pack extents, unless they are packed already."""
        if isinstance(extents, cls):
            return extents
        packed = cls()
        for extent in extents:
            packed.words.extend((extent.gpa, extent.length))
        return packed

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

    def __len__(self) -> int:
        return len(self.words) // 2

    def __iter__(self) -> Iterator[Extent]:
        numbers = iter(self.words)
        return map(Extent, numbers, numbers)

    @overload
    def __getitem__(self, index: int) -> Extent: ...

    @overload
    def __getitem__(self, index: slice) -> "Extents": ...

    def __getitem__(self, index: int | slice) -> "Extent | Extents":
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return Extents(self.words[2 * start : 2 * stop])
            return Extents.of(self[each] for each in range(start, stop, step))
        place = range(len(self))[index]
        return Extent(self.words[2 * place], self.words[2 * place + 1])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Extents):
            return self.words == other.words
        if isinstance(other, tuple):
            return tuple(self) == other
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # the words may change

    def __repr__(self) -> str:
        return f"Extents.of({list(self)!r})"
