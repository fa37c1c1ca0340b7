"""What waits until the user has said whether it may cross: requests that no gesture came before (`ask`).

There is one question for a VM at a time.  What else an app asks for meanwhile, of the same kind, waits
for the same answer: few apps are content with one type.  How the user is asked is the shell's affair.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from wlproxy.protocol.channel.frames import Attachment
from wlproxy.protocol.wayland.message import RawMessage
from wlproxy.relay.commands import AskUser, Direction, StopAsking
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import ProtocolObject

MAX_HELD: Final = 16
"""Requests that wait for one answer: types that an app asks for at once."""


def about(use: str, way: Direction) -> str:
    """Say what a yes is good for: what something is offered for, and which way."""
    return f"{use} {way.value}"


@dataclass(slots=True, eq=False)
class Held:
    """A request that waits.

    Attributes:
        object: what it is to.
        raw: the request.
        fds: those that came with it.
        source: what it would offer.
    """

    object: ProtocolObject
    raw: RawMessage
    fds: tuple[Attachment, ...] = ()
    source: ProtocolObject | None = None


@dataclass(slots=True, eq=False)
class Asked:
    """The question that is open.

    Attributes:
        number: of it.
        seat: whose user is asked.
        about: what for, and which way.
        shown: the type that the user is told of, and how many more there are.
        held: what waits for the answer.
    """

    number: int
    seat: int
    about: str
    shown: tuple[str, int]
    held: list[Held] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Questions:
    """The questions of one client."""

    _context: Context
    _open: Asked | None = None
    _count: int = 0

    def hold(self, seat: int, held: Held, make: Callable[[int], AskUser]) -> bool:
        """Have a request wait for the user's answer; False if they cannot be asked now.

        Args:
            seat: whose user is to be asked.
            held: the request.
            make: makes the question, if there is to be one, of its number.
        """
        question = make(self._count + 1)
        what = about(question.use, question.direction)
        shown = question.mime_type, question.more
        if self._open is None:
            if self._context.shared.asking:
                return False
            self._context.shared.asking = self._context.client_id
            self._count += 1
            self._open = Asked(self._count, seat, what, shown)
            self._context.command(question)
        elif (self._open.seat, self._open.about) != (seat, what):
            return False
        elif held.source is not None and self._open.shown != shown:
            return False  # the user would say yes to something else
        waiting = self._open.held
        if held.source is not None:  # what a device offers now is all that it offers
            waiting = [each for each in waiting if each.object is not held.object]
        if len(waiting) >= MAX_HELD:
            return False
        self._open.held = [*waiting, held]
        return True

    def answered(self, number: int) -> Asked | None:
        """Take what waits for an answer that has come; None if nothing does any more."""
        if self._open is None or self._open.number != number:
            return None
        asked = self._open
        self.close()
        return asked

    def drop(self, entry: ProtocolObject) -> list[Held]:
        """Take what waits and is about this; nobody is asked for nothing."""
        if self._open is None:
            return []
        held = self._open.held
        dropped = [each for each in held if entry in (each.object, each.source)]
        self._open.held = [each for each in held if each not in dropped]
        if not self._open.held:
            context, number = self._context, self._open.number
            context.command(StopAsking(context.client_id, number))
            self.close()
        return dropped

    def close(self) -> None:
        """The question is no more."""
        if self._open is not None:
            self._open = None
            self._context.shared.asking = 0
