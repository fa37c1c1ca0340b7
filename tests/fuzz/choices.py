"""Where a fuzzed input's decisions come from: its bytes, one after the other.

So an input is a file: it can be kept, cut, mutated, and run again to the letter.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Decisions read from bytes; once these are used up, each is the first one."""

    def __init__(self, data: bytes) -> None:
        self.aside = random.Random(data)
        """For what must not change what the bytes mean."""
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def number(self, below: int) -> int:
        """Choose from 0 to `below` - 1."""
        size = (max(1, below - 1).bit_length() + 7) // 8
        taken = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(taken, "little") % below

    def pick(self, choices: Sequence[T]) -> T:
        """Choose one of several."""
        return choices[self.number(len(choices))]

    def chance(self, percent: int) -> bool:
        """Say yes so often; without bytes, no."""
        return self.more and self.number(100) < percent

    def data(self, most: int) -> bytes:
        """Choose some bytes."""
        size = self.number(most + 1)
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken


def fresh(rng: random.Random) -> bytes:
    """Make an input of random bytes; most are short."""
    return rng.randbytes(rng.choice((100, 300, 1000, 3000)))


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Change an input a little: as coverage-guided fuzzers do."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(4):
            case 0:
                changed[at : at + 1] = rng.randbytes(1)
            case 1:
                del changed[at : at + rng.randint(1, 16)]
            case 2:
                changed[at:at] = rng.randbytes(rng.randint(1, 16))
            case _:
                start = rng.randrange(len(changed) + 1)
                changed[at:at] = changed[start : start + rng.randint(1, 64)]
    return bytes(changed)
