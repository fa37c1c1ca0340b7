"""Lets a `with` block close an object that has a `close`, always or only if it fails.

What closing means is each class' own; fds are closed in `fds`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self


class Closing:
    """Something that is closed at the end of its `with` block, however that ends.

    No abstract class: `OwnedFd` is one of these, and telling it from others must stay cheap.
    """

    __slots__ = ()

    def close(self) -> None:
        """Let go of what it has.  Again: nothing happens."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Closable(Protocol):
    """Whatever has a `close`: sockets, too."""

    def close(self) -> object:
        """Let go of what it has."""


@contextmanager
def closed_on_error(*things: Closable) -> Iterator[None]:
    """Close things if the block fails or is cancelled; else they stay open."""
    try:
        yield
    except BaseException:
        for thing in things:
            thing.close()
        raise
