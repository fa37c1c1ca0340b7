"""Waiting for credit: `flow.SendWindow` for tasks.  Who may send what is in `flow`."""

import trio

from wlproxy.protocol.channel.flow import SendWindow


class SendCredit:
    """What we may still send, and a place to wait for more."""

    __slots__ = ("_granted", "_window")

    def __init__(self, initial: int) -> None:
        self._window = SendWindow(initial)
        self._granted = trio.lowlevel.ParkingLot()

    async def at_least(self, amount: int) -> int:
        """Wait until `amount` bytes may be sent; return how many may.

        Not a checkpoint if they may already.  One task at a time sends.
        """
        while self._window.available < amount:
            await self._granted.park()
        return self._window.available

    def take(self, amount: int) -> None:
        """Count `amount` bytes as sent.

        Raises:
            LocalProtocolError: more than may be sent.
        """
        self._window.take(amount)

    def grant(self, amount: int) -> None:
        """Take the host's `Credit`.

        Raises:
            ChannelError: it returns more than it was sent.
        """
        self._window.grant(amount)
        self._granted.unpark_all()
