"""Has the user asked about one client, beside all else: the answer is an input like any other."""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from wlproxy.relay.commands import AskUser
from wlproxy.relay.inputs import Input, UserAnswered

Ask = Callable[[AskUser], Awaitable[bool]]
"""Asks the user, and takes its time; what is cancelled is asked no more."""


async def ask_nobody(_question: AskUser) -> bool:
    """Say no, where nobody is there to be asked."""
    await trio.lowlevel.checkpoint()
    return False


class Asking:
    """The question about one client: the core has one at a time."""

    def __init__(
        self,
        ask: Ask,
        start: Callable[[int, Callable[[], Awaitable[None]]], None],
        feed: Callable[[Input], None],
    ) -> None:
        """Nothing is asked yet.

        Args:
            ask: asks the user.
            start: starts a task of a client.
            feed: gives the core an input.
        """
        self._ask = ask
        self._start = start
        self._feed = feed
        self._scope = trio.CancelScope()

    def ask(self, question: AskUser) -> None:
        """Ask, and tell the core what the user says."""
        self.stop()
        self._scope = trio.CancelScope()
        self._start(question.client_id, partial(self._run, question, self._scope))

    def stop(self) -> None:
        """Ask no more."""
        self._scope.cancel()

    async def _run(self, question: AskUser, scope: trio.CancelScope) -> None:
        with scope:
            allowed = await self._ask(question)
            client_id, number = question.client_id, question.number
            self._feed(UserAnswered(client_id, number, allowed))
