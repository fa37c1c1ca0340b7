"""Shows all screens of a machine: a window each, on a connection to the compositor of its own.

What goes wrong with one of them ends that one.
"""

import logging
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from wlproxy.host.errors import HostError
from wlproxy.relay.policy_tree import Policy
from wlproxy.screen.door import Door
from wlproxy.screen.line import ENDED, Line, nothing
from wlproxy.screen.machine import Machine, Screen
from wlproxy.screen.qemu_clipboard import QemuClipboard
from wlproxy.screen.sharing import Sharing
from wlproxy.screen.viewer import QemuEndedError, ScreenError, Shared, Viewer
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

ANSWER: Final = 10.0
"""Seconds for QEMU to say which screens it has; it answers when its main loop gets to that."""

Connect = Callable[[], Awaitable[FdStream]]
"""Makes a connection to the compositor."""
Log = logging.LoggerAdapter[logging.Logger]


CUT_OFF: Final = (
    "this process stood still when the guest wanted to paste, and QEMU was not to wait"
)


class CutOffError(HostError):
    """QEMU was cut off, and can be asked to show its screen again."""


@dataclass(frozen=True, slots=True)
class Options:
    """What whoever starts it decides.

    Attributes:
        only: the number of the only screen to show; None: all are.
        sharing: which texts may be copied and pasted.
        touches: whether the guest can be touched; else a finger is its pointer.
    """

    only: int | None = None
    sharing: Sharing = field(default_factory=lambda: Sharing(Policy(), time.monotonic))
    touches: bool = False


class Heads:
    """The windows of a machine.

    Attributes:
        viewers: those that are there, by the screen's number.
        clipboard: QEMU's.
        ready: set once the first of them shows something.
    """

    def __init__(
        self,
        name: str,
        line: Line,
        connect: Connect,
        open_door: Callable[[], Door],
        log: Log,
        options: Options,
    ) -> None:
        """There is none yet.

        Args:
            name: the VM's.
            line: to QEMU, which is the caller's to close.
            connect: makes a connection for each.
            open_door: lets QEMU in, for each.
            log: written to.
            options: what else is to be so.
        """
        self.viewers: dict[int, Viewer] = {}
        self.ready = trio.Event()
        self._name, self._line, self._log = name, line, log
        self._connect, self._open_door = connect, open_door
        self._options = options
        self.clipboard = QemuClipboard[OwnedFd](
            line.peer, options.sharing, secrets.token_hex(8)
        )
        self._shares = trio.Event()
        self._cut_off = False
        self._failures: list[HostError] = []
        options.sharing.changed = self._policy_changed
        self._policy_changed()

    async def run(self) -> None:
        """Show them until the last window is gone.

        Raises:
            QemuEndedError: QEMU has ended.
            CutOffError: QEMU was, so that it need not wait for us.
            HostError: a window is gone for another reason than that it was closed.
        """
        async with trio.open_nursery() as nursery:  # noqa: TID251 - ends with the windows
            nursery.start_soon(self._share_clipboard, nursery.cancel_scope)
            nursery.start_soon(self._line.run)
            await self._show_all()
            nursery.cancel_scope.cancel()
        if self._cut_off:
            raise CutOffError(CUT_OFF)
        # That QEMU has ended counts for more than what went wrong with one of them before.
        for failure in self._failures:
            if isinstance(failure, QemuEndedError):
                raise failure
        if self._failures:
            raise self._failures[0]

    def _policy_changed(self) -> None:
        if self._options.sharing.on:
            self._shares.set()
        for viewer in self.viewers.values():
            viewer.settle()

    async def _share_clipboard(self, windows: trio.CancelScope) -> None:
        """Take part in QEMU's clipboard, once anything may cross.

        A doorman sees to it that QEMU does not wait for us where we call it.
        """
        await self._shares.wait()
        try:
            with self._open_door() as guard:
                try:
                    await self._guard(guard)
                finally:
                    self._line.read = nothing
                    self._cut_off = guard.has_shut
        except HostError as exc:
            self._failures.append(exc)
        windows.cancel()

    async def _guard(self, guard: Door) -> None:
        """Share the clipboard for as long as somebody looks after the connection.

        Raises:
            ScreenError: nobody does any more.
        """

        async def join() -> None:
            await guard.ready.wait()
            guard.guard(self._line.socket)
            self._line.read = guard.beat
            self.clipboard.join()
            self._line.send_out()

        async with trio.open_nursery() as nursery:  # noqa: TID251 - ends with the doorman
            nursery.start_soon(join)
            await guard.run()
            nursery.cancel_scope.cancel()
        raise ScreenError(
            "the process that looks after the connection to QEMU has ended"
        )

    async def _show_all(self) -> None:
        try:
            screens = await self._find()
        except ScreenError as exc:
            self._failures.append(exc)
            screens = []
        async with trio.open_nursery() as windows:  # noqa: TID251 - each contains its faults
            for screen in screens:
                windows.start_soon(self._show, screen)
        self.clipboard.close()

    async def _find(self) -> list[Screen]:
        """Ask which screens there are to show.

        Raises:
            ScreenError: there is none.
        """
        known = trio.Event()
        machine = Machine[OwnedFd](self._line.peer, known.set)
        self._line.send_out()
        with trio.move_on_after(ANSWER) as scope:
            while not (known.is_set() or self._line.ended.is_set()):
                await self._line.wait_news()
        if scope.cancelled_caught:
            raise ScreenError(f"QEMU has not answered for {ANSWER:.0f} s")
        if not known.is_set():
            why = self._line.why
            raise QemuEndedError(why) if why == ENDED else ScreenError(why)
        if machine.refusal:
            raise ScreenError(f"QEMU does not show its screen: {machine.refusal}")
        if self._options.only is None:
            return machine.screens
        found = [each for each in machine.screens if each.number == self._options.only]
        if not found:
            numbers = ", ".join(str(each.number) for each in machine.screens)
            raise ScreenError(
                f"QEMU has no screen {self._options.only}",
                tried="ConsoleIDs of org.qemu.Display1.VM",
                remedy=f"--console can be one of {numbers}.",
            )
        return found

    async def _show(self, screen: Screen) -> None:
        """Show one of them, to its end; whatever that is, it is no other's."""
        try:
            compositor = await self._connect()
            with closed_on_error(compositor):
                door = self._open_door()
            viewer = Viewer(
                self._name,
                self._line,
                compositor,
                door,
                self._log,
                screen,
                Shared(self.ready, self.clipboard, self._options.touches),
            )
            self.viewers[screen.number] = viewer
            said = await viewer.run()
        except HostError as exc:
            self._failed(screen, exc)
        except Exception as exc:  # noqa: BLE001 - the last line of defence
            lines = "".join(traceback.format_exception(exc)).rstrip()
            self._log.error("a bug of wlproxy; please report it\n%s", lines)
            self._failed(screen, ScreenError("a bug of wlproxy has ended the window"))
        else:
            self._log.info("screen %d: %s", screen.number, said)
        finally:
            self.viewers.pop(screen.number, None)

    def _failed(self, screen: Screen, failure: HostError) -> None:
        if not self._line.ended.is_set():  # else it is everybody's, and said once
            self._log.error("screen %d: %s", screen.number, failure)
        self._failures.append(failure)
