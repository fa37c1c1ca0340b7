"""Which buffers of a client may make room for others, and which goes first.

Only lists: that a buffer rests here, and that it is evicted, is decided elsewhere
(`life`, `client_buffers`).
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.life import State

MAX_UNRELEASED: Final = 3
"""Orphans for whose release we wait: a GPU may still be reading the last ones."""


@dataclass(slots=True)
class Room:
    """The buffers that no surface has, in the order in which that came to be."""

    _idle: OrderedDict[int, Buffer] = field(default_factory=OrderedDict)
    _orphans: OrderedDict[int, Buffer] = field(default_factory=OrderedDict)
    _unreleased: OrderedDict[int, Buffer] = field(default_factory=OrderedDict)

    def rest(self, buffer: Buffer) -> None:
        """Enter a buffer as the newest of its kind."""
        self.use(buffer)
        if not buffer.lasting:
            kinds = {State.READY: self._idle, State.ORPHAN: self._orphans}
            kinds.get(buffer.life.state, self._unreleased)[buffer.serial] = buffer

    def use(self, buffer: Buffer) -> None:
        """Take a buffer out again."""
        for kind in (self._idle, self._orphans, self._unreleased):
            kind.pop(buffer.serial, None)

    def take_surplus(self) -> Buffer | None:
        """Take the oldest orphan, if there are too many."""
        if len(self._orphans) <= MAX_UNRELEASED:
            return None
        return self._orphans.popitem(last=False)[1]

    def take(self) -> Iterator[Buffer]:
        """Take out one buffer after the other, those first that are missed least.

        Those that the compositor has released; then those that it would have to release
        by now.
        """
        for kind in (self._idle, self._orphans, self._unreleased):
            while kind:
                _, buffer = kind.popitem(last=False)
                if not buffer.lasting:
                    yield buffer
