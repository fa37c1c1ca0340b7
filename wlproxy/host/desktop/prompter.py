"""Asks the user whether an app of the guest's may copy or paste, where no gesture says so (`ask`).

One question at a time, none for a while after a no, and no answer is a no: a guest must not be
able to weary who is asked, nor may a desktop that does not answer hold anything up.  What a guest
calls itself and its data is shown in a few harmless characters, after the VM's name.
"""

import os
import re
from collections.abc import Mapping
from typing import Final

import trio

from wlproxy.host.desktop.notifications import confirm
from wlproxy.host.desktop.session_bus import BusError, bus_socket, connect_bus
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.errors import DBusError
from wlproxy.relay.commands import AskUser, Direction

ANSWER_SECONDS: Final = 15.0
"""For the user to answer, all that comes before included."""

FIRST_PAUSE, LAST_PAUSE = 10.0, 600.0
"""Seconds after a no in which nobody is asked: doubled with each, until there is a yes."""

MAX_SHOWN: Final = 64
"""Characters of what a guest says."""

_ODD: Final = re.compile(r"[^A-Za-z0-9!#$^_.+/;=()-]")
"""All but what MIME types (RFC 6838, section 4.2), app ids and labels of apps are made of."""

_THINGS: Final = {
    ("clipboard", Direction.TO_GUEST): "what was copied on the host",
    ("clipboard", Direction.TO_COMPOSITOR): "the host's clipboard",
    ("primary", Direction.TO_GUEST): "what is selected on the host",
    ("primary", Direction.TO_COMPOSITOR): "the host's selection",
}


class Prompter:
    """Asks about one VM."""

    def __init__(
        self, vm: str, log: VmLog, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Nobody is asked yet.

        Args:
            vm: its name.
            log: written to.
            environ: tells where the session bus is.
        """
        self._vm = vm
        self._log = log
        self._environ = environ
        self._asking = False
        self._pause = FIRST_PAUSE
        self._quiet_until = -1.0
        self._told = ""

    async def ask(self, question: AskUser) -> bool:
        """Ask; return whether the user allows it.  Cancelled, the question goes."""
        if self._asking or trio.current_time() < self._quiet_until:
            return False
        self._asking, allowed = True, False
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                allowed = await self._show(question)
        except Exception as exc:  # noqa: BLE001 - what ends a question ends no app
            known = (BusError, DBusError, OSError, trio.BrokenResourceError)
            what = "" if isinstance(exc, known) else f"{type(exc).__name__}: "
            self._cannot(f"{what}{exc}")
            self._pause = FIRST_PAUSE  # nobody was wearied
        finally:
            self._asking = False
            self._rest(allowed=allowed)
        return allowed

    async def _show(self, question: AskUser) -> bool:
        bus = await connect_bus(bus_socket(self._environ))
        try:
            return await confirm(bus, *words(self._vm, question), ANSWER_SECONDS)
        finally:
            bus.close()

    def _rest(self, *, allowed: bool) -> None:
        if allowed:
            self._pause = FIRST_PAUSE
            return
        self._quiet_until = trio.current_time() + self._pause
        self._pause = min(2 * self._pause, LAST_PAUSE)

    def _cannot(self, why: str) -> None:
        """Say once why nobody is asked."""
        if why != self._told:
            self._told = why
            self._log.info("the user cannot be asked (policy: ask): %s", why)


def words(vm: str, question: AskUser) -> tuple[str, str]:
    """Put a question into words: a line that the guest has no part in, and the rest."""
    thing = _THINGS[question.use, question.direction]
    app, name = harmless(question.app), harmless(question.mime_type)
    if question.direction is Direction.TO_GUEST:
        return (
            f"{vm}: paste from the host?",
            f'The app "{app}" in VM {vm} asks for {thing}, as "{name}".',
        )
    more = f" and {question.more} other types" if question.more else ""
    return (
        f"{vm}: copy to the host?",
        f'The app "{app}" in VM {vm} offers "{name}"{more} for {thing}.',
    )


def harmless(text: str) -> str:
    """Cut a guest's text short, to characters that are neither markup nor sentences."""
    cut = text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."
    return _ODD.sub("?", cut)
