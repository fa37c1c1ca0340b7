"""Names for fds that the core never sees.

The core allocates a handle for each fd it wants the shell to make, as Wayland does
with `new_id`; the shell allocates them for fds it receives.  The two count in
different halves, so neither waits for the other.
"""

from collections.abc import Iterator
from itertools import count
from typing import NewType

Handle = NewType("Handle", int)
"""The core's name for an fd of the shell."""


def core_handles() -> Iterator[Handle]:
    """Count the handles that the core allocates: even numbers from 2."""
    return (Handle(number) for number in count(2, 2))


def shell_handles() -> Iterator[Handle]:
    """Count the handles that the shell allocates: odd numbers from 1."""
    return (Handle(number) for number in count(1, 2))
