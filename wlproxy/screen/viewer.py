"""Runs a window of a machine's screen: the sockets, the tasks, the fds.

QEMU is answered before the compositor is told anything, and no task waits for the one
with what the other says.  While the window is hidden, QEMU is not listened to: what it has to
say would only pile up, there or here.
"""

import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from wlproxy.host.errors import HostError
from wlproxy.protocol.dbus.connection import Outgoing
from wlproxy.protocol.errors import CompositorError, DBusError
from wlproxy.relay import labels
from wlproxy.relay.formats import SHM_ARGB8888
from wlproxy.screen import console as calls
from wlproxy.screen import doorman
from wlproxy.screen.canvas import Canvas
from wlproxy.screen.commands import (
    Command,
    Cursor,
    CursorVisible,
    Damage,
    Layout,
    Refused,
    ShowBytes,
    ShowMap,
    UpdateBytes,
)
from wlproxy.screen.connecting import listener_pair, owner
from wlproxy.screen.console import Console, InputCall
from wlproxy.screen.display import INTERFACES, Display
from wlproxy.screen.door import Door, Listener
from wlproxy.screen.qemu_files import QemuFile
from wlproxy.screen.seat import Seat
from wlproxy.screen.wayland_connection import WaylandConnection, WaylandOutput
from wlproxy.screen.window import Window
from wlproxy.transport.fd_stream import Chunk, FdsLostError, FdStream
from wlproxy.transport.fds import OwnedFd

HIDDEN_AFTER: Final = 2.0
"""Seconds without a frame, though there is something to show, after which a window is hidden."""
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
MODES: Final = {
    "A": "in place (mode A): the compositor reads QEMU's memory, and nothing is copied here",
    "C": "copied (mode C): QEMU sends bytes of this device; virtio-vga would do without",
}
GONE: Final = "QEMU has ended: there is no screen any more"
SLEPT: Final = "to wait: this process had stood still, or did not keep up"
MAX_REMARKS: Final = 32
"""Different things that are said about QEMU."""


class ScreenError(HostError):
    """The window cannot go on."""


class QemuEndedError(ScreenError):
    """There is nothing to show any more."""


@dataclass(slots=True)
class Counts:
    """What has been done so far.

    Attributes:
        mode: how the picture comes to the compositor: "A" in place, "C" copied, "" not yet.
        pictures: how often QEMU began a new one.
        updates: how often it said that a part has changed.
        copied: bytes that we have copied.
        listened: how often QEMU was asked to call us.
    """

    mode: str = ""
    pictures: int = 0
    updates: int = 0
    copied: int = 0
    listened: int = 0


class Viewer:
    """A window, from its connections' beginnings to their end.

    Attributes:
        counts: what has been done so far.
        window: what is shown.
    """

    def __init__(
        self,
        name: str,
        qemu: socket.socket,
        compositor: FdStream,
        door: Door,
        log: logging.LoggerAdapter[logging.Logger],
        number: int = 0,
    ) -> None:
        """Take over both connections, and the door.

        Args:
            name: the VM's.
            qemu: a socket to its display.
            compositor: a fresh connection.
            door: where QEMU is let in.
            log: written to.
            number: which of the machine's screens.
        """
        self.counts = Counts()
        self._log = log
        self._compositor = compositor
        self._door = door
        self._main = FdStream(qemu, QemuFile)
        self._console = Console[OwnedFd](owner(qemu), number)
        self._wayland = WaylandConnection[OwnedFd]()
        title = "screen" if not number else f"screen {number + 1}"
        self.window = Window(
            self._wayland, labels.title(name, title), labels.app_id(name, "screen")
        )
        self._seat: Seat[OwnedFd] | None = None
        self._canvas: Canvas | None = None
        self._listening: trio.CancelScope | None = None
        self._listener_ended = trio.Event()
        self._hidden_at: int | None = None
        self._attempts = 0
        self._timing = False
        self._cursor: Cursor | None = None
        self._cursor_visible = True
        self._held: int | None = None
        self._repeating: trio.CancelScope | None = None
        self._flushing: set[FdStream] = set()
        self._said: set[str] = set()
        self._why = ""
        self.ready = trio.Event()
        """QEMU has been answered who we are, and has sent a first picture."""

    async def run(self) -> str:
        """Show the screen until the window is closed; return why that is, or "".

        Raises:
            ScreenError: the compositor or QEMU has ended, or broke its protocol.
        """
        try:
            async with trio.open_nursery() as self._nursery:  # noqa: TID251 - all ends with the window
                self._nursery.start_soon(self._run_wayland)
                self._nursery.start_soon(self._run_console)
                self._nursery.start_soon(self._run_door)
                self._settle()
        finally:
            self._close()
        if self._why:
            raise QemuEndedError(GONE) if self._why == GONE else ScreenError(self._why)
        return "the window was closed"

    # ---------------------------------------------------------------- tasks

    async def _run_wayland(self) -> None:
        while not self.window.closed:
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
            self._settle()
        self._end("")

    async def _run_console(self) -> None:
        why = GONE
        while True:
            try:
                data, fds = await self._main.receive()
                if not data:
                    break
                self._console.receive(data, fds)
            except (DBusError, FdsLostError) as exc:
                self._end(f"QEMU is not understood: {exc}")
                return
            except trio.BrokenResourceError:
                break
            if self._console.refusal and not self._refused(self._console.refusal):
                return
            self._settle()
        if self._listening is not None:
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
                self._remark(SLEPT)
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
        display = Display(self.window.shm_formats)
        try:
            await self._take_calls(display, stream)
        except (DBusError, FdsLostError) as exc:
            self._end(f"QEMU is not understood: {exc}")
        except HostError as exc:
            self._end(exc.explanation)
        except trio.BrokenResourceError:
            pass  # as at its end
        finally:
            display.close()

    async def _take_calls(self, display: Display, stream: FdStream) -> None:
        size = RECEIVE_SIZE
        while True:
            data, fds = await stream.receive(size)
            if not data:
                return
            size = RECEIVE_MORE if len(data) >= RECEIVE_SIZE else RECEIVE_SIZE
            self._door.beat()
            commands = display.receive(data, [_qemus(fd) for fd in fds])
            if not stream.send_at_once(display.take_answers()):
                if stream.unsent > MAX_ANSWERS:
                    raise DBusError("QEMU calls, and does not read what it is answered")
                self._flush_later(stream)
            for command in commands:
                self._do(command)
            self._settle()

    async def _flush(self, stream: FdStream) -> None:
        try:
            await stream.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # whoever receives from it says so
        finally:
            self._flushing.discard(stream)
        self._settle()

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

    def _settle(self) -> None:
        """Do what follows of what came."""
        if self.window.ready and self._seat is None:
            self._seat = Seat(
                self._wayland, self.window, lambda: self._console.absolute
            )
            self._listen()
        if self._seat is not None:
            if not self._compositor.backlog:  # else when it has read what there is
                self._show_cursor(self._seat)
            for call in self._seat.take_calls():
                self._tell(call)
            held = self._seat.keyboard.held if self._seat.keyboard else None
            if held != self._held:
                self._hold(held)
        if size := self.window.sizing.take_wanted():
            self._console.want_size(*size)
        self._send_out()
        if self.window.stalled and not self._timing:
            self._timing = True
            self._nursery.start_soon(self._time_frame)

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
            self._settle()

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
        unsent = self._main.unsent
        if unsent > BUSY and call.droppable:
            return
        if unsent > STUCK and not call.lets_go:
            return
        self._console.tell(call)

    def _send_out(self) -> None:
        self._send(self._main, self._console.take_output())
        self._send(self._compositor, self._wayland.take_output())

    def _send(
        self,
        stream: FdStream,
        output: Sequence[Outgoing[OwnedFd] | WaylandOutput[OwnedFd]],
    ) -> None:
        chunks = [Chunk(out.data, out.fds) for out in output]
        if chunks and not stream.send_batch_at_once(chunks):
            self._flush_later(stream)
        _release(output)

    def _flush_later(self, stream: FdStream) -> None:
        if stream not in self._flushing:
            self._flushing.add(stream)
            self._nursery.start_soon(self._flush, stream)

    def _do(self, command: Command) -> None:
        window, counts = self.window, self.counts
        match command:
            case ShowMap(file, layout):
                assert isinstance(file, QemuFile)
                self._begin("A", layout)
                window.show(file, file.identity, layout)
            case ShowBytes(layout, pixels):
                self._begin("C", layout)
                self._draw(layout, pixels)
            case UpdateBytes(part, stride, pixels):
                assert self._canvas is not None
                self._canvas.update(part, stride, pixels)
                counts.updates += 1
                counts.copied += len(pixels)
                window.damage(part)
            case Damage(part):
                counts.updates += 1
                window.damage(part)
            case Cursor():
                self._cursor = command
            case CursorVisible(visible):
                self._cursor_visible = visible
            case Refused(why):
                self._remark(why)

    def _begin(self, mode: str, layout: Layout) -> None:
        """Count another picture, and say so if it comes another way than the last."""
        if mode != self.counts.mode:
            text = MODES[mode]
            self._log.info("screen %d x %d, %s", layout.width, layout.height, text)
        self.counts.mode = mode
        self.counts.pictures += 1
        self.ready.set()

    def _draw(self, layout: Layout, pixels: bytes) -> None:
        """Show what came as bytes: in memory of ours, which is kept while its size fits."""
        if self._canvas is None or self._canvas.layout != layout:
            if self._canvas is not None:
                self._canvas.close()
            self._canvas = Canvas(layout)
        self._canvas.draw(pixels)
        self.counts.copied += layout.end
        self.window.show(self._canvas.share(), self._canvas.serial, layout)

    def _show_cursor(self, seat: Seat[OwnedFd]) -> None:
        """Show the guest's last cursor: of those before it, nobody would have seen much."""
        seat.set_cursor_visible(visible=self._cursor_visible)
        cursor, self._cursor = self._cursor, None
        if cursor is None:
            return
        layout = Layout(cursor.width, cursor.height, cursor.width * 4, SHM_ARGB8888)
        with Canvas(layout) as canvas:
            canvas.draw(cursor.pixels)
            file = canvas.share()
        seat.set_cursor(file, layout, (cursor.hot_x, cursor.hot_y))

    def _remark(self, why: str) -> None:
        if why not in self._said and len(self._said) < MAX_REMARKS:
            self._said.add(why)
            self._log.warning("QEMU was refused %s", why)

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
            last = self._console.take_output()
            self._main.send_batch_at_once([Chunk(out.data, out.fds) for out in last])
            _release(last)
            self._seat.close()
        if self._canvas is not None:
            self._canvas.close()
        self.window.close()
        self._wayland.close()
        self._console.close()
        # What was never sent was held for that.
        _release(self._console.abandon())
        _release(self._wayland.take_output())
        self._door.close()
        self._main.close()
        self._compositor.close()


def _release(
    output: Sequence[Outgoing[OwnedFd] | WaylandOutput[OwnedFd]],
) -> None:
    for out in output:
        for fd in out.fds:
            fd.release()


def _qemus(fd: OwnedFd) -> QemuFile:
    assert isinstance(fd, QemuFile)  # as the stream makes them
    return fd
