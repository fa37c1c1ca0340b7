"""Names for fds that the core never sees.

The core allocates a handle for each fd it wants the shell to make, as Wayland does
with `new_id`; the shell allocates them for fds it receives.  The two count in
different halves, so neither waits for the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NewType

Handle = NewType("Handle", int)
"""The core's name for an fd of the shell."""


@dataclass(slots=True)
class CoreHandles(Iterator[Handle]):
    """Counts the handles that the core allocates: even numbers, after `last`."""

    last: int = 0

    def __next__(self) -> Handle:
        self.last += 2
        return Handle(self.last)


def shell_handles() -> Iterator[Handle]:
    """Count the handles that the shell allocates: odd numbers from 1."""
    return (Handle(number) for number in count(1, 2))
