"""Lets a `with` block close an object that has a `close`.

What closing means is each class' own; fds are closed in `fds`.
"""

from types import TracebackType
from typing import Self


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
