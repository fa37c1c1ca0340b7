"""Counts credit: how many payload bytes each side may still send.

There is a pair of windows for each client and direction (`Data`, `FileData`), and one for
each stream (`StreamData`).  A window never grows, so a peer can make us hold no more than
we offered in the handshake.  Sending `Credit` frames is the caller's business.
"""

from dataclasses import dataclass

from wlproxy.protocol.channel.frames import (
    ATTACHMENT_SIZE,
    Data,
    FileData,
    Frame,
    StreamData,
)
from wlproxy.protocol.errors import ChannelError, LocalProtocolError


def cost(frame: Frame) -> int:
    """Return the credit a frame takes, from its stream's window if it is `StreamData`.

    `Data` costs its bytes and ATTACHMENT_SIZE for each attachment, `FileData` and
    `StreamData` their bytes, every other frame nothing.
    """
    match frame:
        case Data():
            return len(frame.data) + ATTACHMENT_SIZE * len(frame.attachments)
        case FileData() | StreamData():
            return len(frame.data)
        case _:
            return 0


@dataclass(slots=True, init=False)
class SendWindow:
    """What we may still send.

    Attributes:
        available: bytes that may be sent now.
    """

    _initial: int
    available: int

    def __init__(self, initial: int) -> None:
        self._initial = self.available = initial

    def take(self, amount: int) -> None:
        """Count `amount` bytes as sent.

        Raises:
            LocalProtocolError: more than is available.
        """
        if not 0 <= amount <= self.available:
            raise LocalProtocolError(f"{amount} bytes sent, {self.available} allowed")
        self.available -= amount

    def grant(self, amount: int) -> None:
        """Take the peer's `Credit`.

        Raises:
            ChannelError: the peer returns more than it was sent.
        """
        outstanding = self._initial - self.available
        if not 0 <= amount <= outstanding:
            raise ChannelError(f"credit of {amount} bytes, {outstanding} outstanding")
        self.available += amount


@dataclass(slots=True, init=False)
class ReceiveWindow:
    """What the peer may still send, and when to let it send more.

    Attributes:
        held: bytes received and not yet consumed.
    """

    _initial: int
    _allowed: int  # the peer may send
    held: int
    _ungranted: int  # consumed, not granted again

    def __init__(self, initial: int) -> None:
        self._initial = self._allowed = initial
        self.held = self._ungranted = 0

    def received(self, amount: int) -> None:
        """Count `amount` bytes as received.

        Raises:
            ChannelError: the peer was not allowed that many.
        """
        if amount > self._allowed:
            raise ChannelError(f"{amount} bytes received, {self._allowed} allowed")
        self._allowed -= amount
        self.held += amount

    def consumed(self, amount: int) -> int:
        """Count `amount` received bytes as consumed; return what to grant now.

        That is 0 until half the window is due: a `Credit` frame for every frame would
        double their number.

        Raises:
            LocalProtocolError: more than is held.
        """
        if not 0 <= amount <= self.held:
            raise LocalProtocolError(f"{amount} bytes consumed, {self.held} held")
        self.held -= amount
        self._ungranted += amount
        if self._ungranted * 2 < self._initial:
            return 0
        return self._grant()

    def emptied(self) -> int:
        """Count all held bytes as consumed; return what to grant now, which is everything."""
        self._ungranted += self.held
        self.held = 0
        return self._grant()

    def _grant(self) -> int:
        grant, self._ungranted = self._ungranted, 0
        self._allowed += grant
        return grant
