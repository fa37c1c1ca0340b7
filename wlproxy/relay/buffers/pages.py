"""Asks where the pages of a buffer are, plane by plane, or says why it cannot be shown.

Pages and pins as such are `locations`'; what an obstacle leads to is `life`'s.
"""

import errno
from dataclasses import dataclass
from typing import Final

from wlproxy.protocol.channel.frames import Located, LocateStatus
from wlproxy.relay.buffers.buffer import SHM_INVALID_FD, Buffer
from wlproxy.relay.buffers.life import Input
from wlproxy.relay.buffers.locations import Location, Locations, Progress
from wlproxy.relay.wire.context import Context

_SCARCE: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"""What the guest may have again when it lets go of something; numbers as Linux has them."""

_FOR_GOOD: Final = {LocateStatus.NOT_PERMITTED, LocateStatus.UNSUPPORTED}
"""Why a buffer is not located whatever the app does: better it ends, and says why."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a buffer cannot be shown.

    Attributes:
        reason: for people.
        limit: others can make room.
    """

    reason: str
    limit: bool = False


class Pages:
    """Finds the pages of one client's buffers."""

    def __init__(self, context: Context, locations: Locations) -> None:
        self._context = context
        self._locations = locations

    def find(self, buffer: Buffer) -> Input | Obstacle | None:
        """Find the pages of a wanted buffer, as far as that goes now.

        If there are several planes, all are waited for before one that failed is judged.

        Returns:
            LOCATED, or what is in the way; None if the agent is to answer first.

        Raises:
            WaylandError: the client is to blame, or cannot go on like that.
        """
        windows = self._context.config.policy.windows
        if buffer.width > windows.max_width or buffer.height > windows.max_height:
            most = f"{windows.max_width}x{windows.max_height}"
            reason = f"{buffer.width}x{buffer.height} pixels, where {most} are allowed"
            return Obstacle(reason)
        for plane in buffer.planes:
            if plane.location is None:
                assert plane.memory is not None  # not destroyed
                plane.location = self._locations.acquire(plane.memory, *plane.span)
            if plane.location is None:
                break
            plane.start = plane.location.start
        locations = buffer.locations
        if any(location.progress is Progress.PENDING for location in locations):
            return None
        failures = [each.failure for each in locations if each.failure is not None]
        for failure in failures:
            self._blame(buffer, failure)
        limit = any(_is_limit(failure) for failure in failures)
        if any(plane.location is None for plane in buffer.planes):
            reason = "too many buffers are shown, of this app or of its VM"
            return Obstacle(reason, limit=True)
        if failures:
            return Obstacle(_words(buffer, failures[-1]), limit)
        self._merge(buffer)
        return Input.LOCATED

    def drop_memories(self, buffer: Buffer) -> None:
        """Let go of the files: nothing will be located any more."""
        for plane in buffer.planes:
            if plane.memory is not None:
                self._locations.drop_memory(plane.memory)
                plane.memory = None

    def _blame(self, buffer: Buffer, failure: Located) -> None:
        assert buffer.wanted is not None
        if not buffer.wanted.final or buffer.params is not None:
            return
        if failure.status is LocateStatus.OUT_OF_RANGE or failure.status in _FOR_GOOD:
            message = _words(buffer, failure)
            raise buffer.object.error(SHM_INVALID_FD, message)

    def _merge(self, buffer: Buffer) -> None:
        """Have planes of the same pages share one location, and one dma-buf."""
        first, *others = buffer.planes
        for plane in others:
            location, other = first.location, plane.location
            assert location is not None
            assert other is not None
            if other is not location and other.items == location.items:
                plane.location = self._locations.merge(location, other)


def take_locations(buffer: Buffer) -> list[Location]:
    """Take the locations of all planes, of each as many times as planes use it."""
    taken = [plane.location for plane in buffer.planes if plane.location is not None]
    for plane in buffer.planes:
        plane.location = None
    return taken


def _is_limit(failure: Located) -> bool:
    return failure.status is LocateStatus.LIMIT_EXCEEDED or failure.errno in _SCARCE


def _words(buffer: Buffer, failure: Located) -> str:
    """Say why a buffer cannot be shown."""
    if failure.status is LocateStatus.OUT_OF_RANGE:
        file = "pool's file" if buffer.params is None else "dma-buf"
        return f"wlproxy: the {file} ends before its buffer"
    return (
        "wlproxy: the guest agent cannot locate the buffer: "
        f"{failure.status.name}"
        + (f" (errno {failure.errno})" if failure.errno else "")
    )
