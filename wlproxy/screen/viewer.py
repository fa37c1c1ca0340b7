"""Runs a window of a machine's screen: the sockets, the tasks, the fds.

QEMU is answered before the compositor is told anything, but that a guest with dma-bufs draws on when the compositor
has shown what it drew, or a moment later; and no task waits for the one with what the other says.  While the window is
hidden, QEMU is not listened to: what it has to say would only pile up, there or here.
"""

import logging
import math
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from wlproxy.host.errors import HostError
from wlproxy.protocol.errors import CompositorError, DBusError
from wlproxy.relay import labels
from wlproxy.screen import console as calls
from wlproxy.screen import doorman
from wlproxy.screen.commands import Damage, UpdateBytes
from wlproxy.screen.connecting import listener_pair
from wlproxy.screen.console import Console, InputCall
from wlproxy.screen.display import INTERFACES, Display
from wlproxy.screen.door import Door, Listener
from wlproxy.screen.line import ENDED, Line, release, send_held
from wlproxy.screen.machine import Screen
from wlproxy.screen.picture import Counts, Picture
from wlproxy.screen.qemu_clipboard import QemuClipboard
from wlproxy.screen.qemu_files import QemuFile
from wlproxy.screen.seat import Seat
from wlproxy.screen.selections import Selections
from wlproxy.screen.transfers import Transfers
from wlproxy.screen.wayland_connection import WaylandConnection
from wlproxy.screen.window import Window
from wlproxy.transport.fd_stream import FdsLostError, FdStream
from wlproxy.transport.fds import OwnedFd

HIDDEN_AFTER: Final = 2.0
"""Seconds without a frame, though there is something to show, after which a window is hidden."""
SEEN_WITHIN: Final = 0.1
"""Seconds after which the guest draws on, though what it has drawn in a dma-buf is not seen yet.
QEMU gives up after one; and while a window is hidden, that is as fast as the guest draws."""
BUSY: Final = 4096
"""Bytes that QEMU has not read yet, from which on the pointer's motion is left out."""
STUCK: Final = 1 << 16
"""Bytes from which on all input is, but that keys and buttons are let go of."""
MAX_ANSWERS: Final = 1 << 20
"""Bytes of answers that QEMU has not read, though it goes on calling."""
RECEIVE_SIZE: Final = 1 << 12
"""Bytes that are read of QEMU at once: many updates."""
RECEIVE_MORE: Final = 1 << 20
"""Bytes that are, when there was more.  So much memory costs more than all else of an update."""
FAREWELL: Final = 1.0
"""Seconds between the ends of QEMU's two connections, when it is QEMU that has ended."""
REGISTER_AGAIN: Final = 0.1
"""Seconds until the next attempt, where QEMU has not seen yet that the last listener is gone."""
REGISTER_TRIES: Final = 50
ALREADY: Final = "already registered"
"""What QEMU says then."""
SLEPT: Final = "to wait: this process had stood still, or did not keep up"
PLUGGED: Final = 1280, 800
"""Pixels that a further head is told of at first: it has no picture that would have a size."""
UNPLUGGED: Final = 0, 0
FIRST: Final = Screen(0)
UPDATES: Final = frozenset({Damage, UpdateBytes})
"""What nothing follows of but a frame."""


class ScreenError(HostError):
    """The window cannot go on."""


class QemuEndedError(ScreenError):
    """There is nothing to show any more."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all windows of a machine share.

    Attributes:
        ready: is set once QEMU has sent a first picture of any.
        clipboard: QEMU's.
        touches: whether the guest can be touched; else a finger is its pointer.
    """

    ready: trio.Event
    clipboard: QemuClipboard[OwnedFd] | None = None
    touches: bool = False


class Viewer:
    """A window, from its connections' beginnings to their end.

    Attributes:
        picture: what QEMU shows.
        window: where it is shown.
        title: the window's.
    """

    def __init__(
        self,
        name: str,
        line: Line,
        compositor: FdStream,
        door: Door,
        log: logging.LoggerAdapter[logging.Logger],
        screen: Screen = FIRST,
        shared: Shared | None = None,
    ) -> None:
        """Take over a connection, and the door.

        Args:
            name: the VM's.
            line: to QEMU, which others may share.
            compositor: a fresh connection.
            door: where QEMU is let in.
            log: written to.
            screen: which of the machine's screens.
            shared: what others of the machine's windows have, too.
        """
        self._shared = Shared(trio.Event()) if shared is None else shared
        self._compositor = compositor
        self._line = line
        self._door = door
        self._screen = screen
        self._console = Console[OwnedFd](line.peer, screen.number)
        self._wayland = WaylandConnection[OwnedFd]()
        title = "screen" if not screen.number else f"screen {screen.number + 1}"
        labelled = labels.title(name, title)
        self.title = labelled.decode()
        self.window = Window(self._wayland, labelled, labels.app_id(name, "screen"))
        self.picture = Picture(self.window, log, self._shared.ready)
        self._seat: Seat[OwnedFd] | None = None
        self._selections: Selections[OwnedFd] | None = None
        self._transfers: Transfers | None = None
        self._listening: trio.CancelScope | None = None
        self._listener_ended = trio.Event()
        self._hidden_at: int | None = None
        self._answers: tuple[Display, FdStream] | None = None
        self._answer_by = math.inf
        self._attempts = 0
        self._timing = False
        self._in_gesture = False
        self._held: int | None = None
        self._repeating: trio.CancelScope | None = None
        self._flushing: set[FdStream] = set()
        self._why = ""

    @property
    def counts(self) -> Counts:
        """What has been done so far."""
        return self.picture.counts

    @property
    def hidden(self) -> bool:
        """Whether the window cannot be seen, so that QEMU is not listened to."""
        return self._hidden_at is not None

    async def run(self) -> str:
        """Show the screen until the window is closed; return why that is, or "".

        Raises:
            ScreenError: the compositor or QEMU has ended, or broke its protocol.
        """
        try:
            async with trio.open_nursery() as self._nursery:  # noqa: TID251 - all ends with the window
                self._nursery.start_soon(self._run_wayland)
                self._nursery.start_soon(self._follow_line)
                self._nursery.start_soon(self._run_door)
                self.settle()
        finally:
            self._close()
        if self._why:
            raise (
                QemuEndedError(ENDED) if self._why == ENDED else ScreenError(self._why)
            )
        return "the window was closed"

    # ---------------------------------------------------------------- tasks

    async def _run_wayland(self) -> None:
        while not self.window.closed:
            told, frames = self._wayland.told, self.window.frames
            try:
                data, fds = await self._compositor.receive()
                if not data:
                    self._end("the compositor has ended")
                    return
                self._wayland.receive(data, fds)
            except (CompositorError, FdsLostError, trio.BrokenResourceError) as exc:
                self._end(str(exc))
                return
            if self._hidden_at not in (None, self.window.frames):
                self._hidden_at = None
                self._listen()
            if self._wayland.told - told == self.window.frames - frames:
                self._settle_frame()
            else:
                self.settle()
        self._end("")

    async def _follow_line(self) -> None:
        line = self._line
        while not line.ended.is_set():
            await line.wait_news()
            if self._console.refusal and not self._refused(self._console.refusal):
                return
            self.settle()
        why = line.why
        if why == ENDED and self._listening is not None:
            # QEMU drops whoever was there first, but goes on telling him what it shows.
            with trio.move_on_after(FAREWELL) as scope:
                await self._listener_ended.wait()
            if scope.cancelled_caught:
                why = "another viewer has taken this one's place"
        self._end(why)

    async def _run_door(self) -> None:
        await self._door.run()
        self._end("the process that lets QEMU in has ended")

    async def _run_display(self) -> None:
        """Be called by QEMU, until the window is hidden or QEMU has ended."""
        ended = self._listener_ended
        with trio.CancelScope() as self._listening:
            await self._door.ready.wait()
            sock, qemus = listener_pair()
            async with FdStream(sock, QemuFile) as stream:
                with qemus:
                    listener = self._door.admit(sock, INTERFACES)
                    self._console.register(qemus)
                    self._send_out()
                self.counts.listened += 1
                try:
                    await self._be_called(listener, stream)
                finally:
                    with suppress(OSError):  # the doorman has it, too
                        sock.shutdown(socket.SHUT_RDWR)
            if self._door.was_shut(listener):
                self.picture.remark(SLEPT)
                pause = self._door.pause_after(listener)
                self._nursery.start_soon(self._listen_again, pause)
        ended.set()

    async def _be_called(self, listener: Listener, stream: FdStream) -> None:
        await listener.answered.wait()
        if listener.outcome != doorman.LET_IN:
            if listener.outcome == doorman.REFUSED:
                self._end("QEMU is not understood: it does not let us in")
            return
        self._attempts = 0
        display = Display(self.window.shm_formats, self.window.importable)
        try:
            await self._take_calls(display, stream)
        except (DBusError, FdsLostError) as exc:
            self._end(f"QEMU is not understood: {exc}")
        except HostError as exc:
            self._end(exc.explanation)
        except trio.BrokenResourceError:
            pass  # as at its end
        finally:
            self._answers = None
            display.close()

    async def _take_calls(self, display: Display, stream: FdStream) -> None:
        size = RECEIVE_SIZE
        self._answers, self._answer_by = (display, stream), math.inf
        while True:
            data, fds = await self._hear(stream, size)
            if not data:
                return
            size = RECEIVE_MORE if len(data) >= RECEIVE_SIZE else RECEIVE_SIZE
            self._door.beat()
            commands = display.receive(data, [_qemus(fd) for fd in fds])
            answers = display.take_answers()
            if answers and not stream.send_at_once(answers):
                if stream.unsent > MAX_ANSWERS:
                    raise DBusError("QEMU calls, and does not read what it is answered")
                self._flush_later(stream)
            for command in commands:
                self.picture.do(command)
            if UPDATES.issuperset(map(type, commands)):
                self._settle_frame()
            else:
                self.settle()
            if display.owes and self._answer_by == math.inf:
                self._answer_by = trio.current_time() + SEEN_WITHIN

    async def _hear(self, stream: FdStream, size: int) -> tuple[bytes, list[OwnedFd]]:
        """Receive what QEMU calls, and meanwhile answer what is owed, when it is time."""
        while self._answer_by != math.inf:
            with trio.CancelScope(deadline=self._answer_by):
                return await stream.receive(size)
            if trio.current_time() >= self._answer_by:
                self._answer_updates()
        return await stream.receive(size)

    def _answer_seen(self) -> None:
        """Answer QEMU's updates if the compositor has shown what has changed."""
        if self._answers and self._answers[0].owes and self.window.caught_up:
            self._answer_updates()

    def _answer_updates(self) -> None:
        """Answer QEMU's updates of dma-bufs, upon which the guest draws on."""
        if self._answers is not None:
            display, stream = self._answers
            self._answer_by = math.inf
            display.answer_updates()
            if not stream.send_at_once(display.take_answers()):
                self._flush_later(stream)

    async def _flush(self, stream: FdStream) -> None:
        try:
            await stream.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # whoever receives from it says so
        finally:
            self._flushing.discard(stream)
        self.settle()

    async def _time_frame(self) -> None:
        """Stop listening for bytes if the compositor wants no frame for a while."""
        frames = self.window.frames
        await trio.sleep(HIDDEN_AFTER)
        self._timing = False
        hidden = self.window.stalled and self.window.frames == frames
        # Damage costs less than another listener would, as QEMU never forgets one.
        if hidden and self.counts.mode == "C":
            self._hidden_at = frames
            if self._listening is not None:
                self._listening.cancel()

    async def _end_gesture(self, left: float) -> None:
        """See to what may not be any more, a while after something was pressed."""
        await trio.sleep(left)
        self._in_gesture = False
        self.settle()

    async def _repeat(self, number: int, held: trio.CancelScope) -> None:
        """Press a key again and again, as it is held."""
        assert self._seat is not None
        keyboard = self._seat.keyboard
        with held:
            pause = keyboard.delay if keyboard else 0
            while keyboard and keyboard.interval:
                await trio.sleep(pause)
                pause = keyboard.interval
                self._tell(calls.key(number, down=True))
                self._send_out()

    # ---------------------------------------------------------------- steps

    def settle(self) -> None:
        """Do what follows of what came."""
        if self.window.ready and self._seat is None:
            self._begin()
        if self._seat is not None:
            if not self._compositor.backlog:  # else when it has read what there is
                self.picture.show_cursor(self._seat)
                self._settle_clipboard()
            for call in self._seat.take_calls():
                self._tell(call)
            held = self._seat.keyboard.held if self._seat.keyboard else None
            if held != self._held:
                self._hold(held)
        if size := self.window.sizing.take_wanted():
            self._console.want_size(*size)
        self._line.send_out()
        self._settle_frame()

    def _settle_frame(self) -> None:
        """Do what follows of an update of QEMU's or a frame of the compositor's, as most of what comes is."""
        if decided := self.window.take_decided():
            self.picture.begin_dmabuf(*decided)
        self._answer_seen()
        self._send_to_compositor()
        if self.window.stalled and not self._timing:
            self._timing = True
            self._nursery.start_soon(self._time_frame)

    def _begin(self) -> None:
        """Do what needs a window that can show something."""
        self._seat = Seat(
            self._wayland,
            self.window,
            lambda: self._console.absolute,
            touches=self._shared.touches,
        )
        self._share_clipboard(self._seat)
        self._listen()
        if self._screen.head:
            self._console.want_size(*PLUGGED)

    def _share_clipboard(self, seat: Seat[OwnedFd]) -> None:
        clipboard = self._shared.clipboard
        if clipboard is None or not seat.object_id:
            return
        self._transfers = moves = Transfers(self._nursery, self.settle)
        bind = self.window.optional
        self._selections = seat.watcher = Selections(
            self._wayland, bind, seat.object_id, clipboard, moves
        )

    def _settle_clipboard(self) -> None:
        if self._selections is None:
            return
        self._selections.settle()
        if not self._in_gesture and (left := self._selections.sharing.gesture_left):
            self._in_gesture = True
            self._nursery.start_soon(self._end_gesture, left)

    def _listen(self) -> None:
        """Have QEMU call us."""
        self._listener_ended = trio.Event()
        self._nursery.start_soon(self._run_display)

    def _refused(self, why: str) -> bool:
        """Take it that QEMU does not call us; tell whether there is another attempt."""
        self._console.refusal = ""
        self._attempts += 1
        # Another viewer's listener, or our own last one, may take a moment to go.
        if ALREADY not in why or self._attempts > REGISTER_TRIES:
            self._end(f"QEMU does not show its screen: {why}")
            return False
        self._nursery.start_soon(self._listen_again)
        return True

    async def _listen_again(self, pause: float = REGISTER_AGAIN) -> None:
        await trio.sleep(pause)
        if self._hidden_at is None:
            self._listen()
            self.settle()

    def _hold(self, number: int | None) -> None:
        """Repeat another key from now on, or none."""
        self._held = number
        if self._repeating is not None:
            self._repeating.cancel()
            self._repeating = None
        if number is not None:
            self._repeating = trio.CancelScope()
            self._nursery.start_soon(self._repeat, number, self._repeating)

    def _tell(self, call: InputCall) -> None:
        """Tell QEMU of input, unless it does not read and it need not know."""
        unsent = self._line.unsent
        if unsent > BUSY and call.droppable:
            return
        if unsent > STUCK and not call.lets_go:
            return
        self._console.tell(call)

    def _send_out(self) -> None:
        self._line.send_out()
        self._send_to_compositor()

    def _send_to_compositor(self) -> None:
        output = self._wayland.take_output()
        if output and not send_held(self._compositor, output):
            self._flush_later(self._compositor)

    def _flush_later(self, stream: FdStream) -> None:
        if stream not in self._flushing:
            self._flushing.add(stream)
            self._nursery.start_soon(self._flush, stream)

    def _end(self, why: str) -> None:
        """End everything; the first to say why is right."""
        if not self._nursery.cancel_scope.cancel_called:
            self._why = why
            self._nursery.cancel_scope.cancel()

    def _close(self) -> None:
        if self._seat is not None:
            self._seat.release_all()
            for call in self._seat.take_calls():
                self._tell(call)
            self._seat.close()
        if self._transfers is not None:
            self._transfers.close()
        if self._selections is not None:
            self._selections.left()
        if self._screen.head:
            self._console.want_size(*UNPLUGGED, at_once=True)
        self._line.send_out()
        self.picture.close()
        self.window.close()
        self._wayland.close()
        # What was never sent was held for that.
        release(self._wayland.take_output())
        self._door.close()
        self._compositor.close()


def _qemus(fd: OwnedFd) -> QemuFile:
    assert isinstance(fd, QemuFile)  # as the stream makes them
    return fd
