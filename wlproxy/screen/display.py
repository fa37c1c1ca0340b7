"""What QEMU's display calls us to show: calls in, commands out, each answered at once.

QEMU's main loop stands still until we have said who we are and answered `GetAll`, and for up to a
second at each `ScanoutMap`.  So no answer waits for anything, least of all for a compositor, and
nothing here does I/O.  Only the guest waits for the answer to an `UpdateDMABUF`, so that it does not draw into
what is still being shown: these are answered when whoever shows it says so.  QEMU is not trusted either: what it sends is checked before it is
shown, and refused with an error, upon which it tries something else (bytes, where a map was refused).

The interfaces are QEMU's: ui/dbus-display1.xml there, `org.qemu.Display1.Listener`.
"""

import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Final

from wlproxy.protocol.dbus.connection import (
    FAILED,
    PROPERTIES,
    UNKNOWN_METHOD,
    Connection,
)
from wlproxy.protocol.dbus.messages import Message, MessageKind, message_size
from wlproxy.protocol.errors import DBusError, WlproxyError
from wlproxy.relay.formats import MODIFIER_LINEAR, shm_format
from wlproxy.screen.commands import (
    Command,
    Cursor,
    CursorVisible,
    Damage,
    File,
    FileKind,
    Layout,
    Plane,
    Rectangle,
    Refused,
    ShowBytes,
    ShowDmabuf,
    ShowMap,
    UpdateBytes,
    files_of,
)
from wlproxy.screen.doorman import LISTENER, properties
from wlproxy.screen.formats import ALWAYS, SHM_OF_PIXMAN, drm_formats, pixel_size

MAPS: Final = "org.qemu.Display1.Listener.Unix.Map"
"""Whoever says that it has this interface is sent files instead of bytes."""
DMABUF2: Final = "org.qemu.Display1.Listener.Unix.ScanoutDMABUF2"
"""The same, from QEMU 10.2 on, for dma-bufs of which more is told; older ones do not ask."""
INTERFACES: Final = (MAPS, DMABUF2)
"""What we say that we have."""

MAX_SIDE: Final = 16384
"""Pixels: what QEMU and compositors take at most."""
MAX_POOL: Final = (1 << 31) - 1
"""Bytes of a `wl_shm` pool, which are an int there."""
MAX_CURSOR: Final = 512
"""Pixels of a side of the pointer; virtio-gpu has 64."""
MAX_PLANES: Final = 4
"""What QEMU and linux-dmabuf have at most."""
MAX_OWED: Final = 64
"""Updates of dma-bufs whose answers may wait; any more are answered at once."""
UPDATE_MAP: Final = "UpdateMap"
UPDATE_DMABUF: Final = "UpdateDMABUF"
"""The one call that may be answered later: the guest waits for that, its machine does not."""
_SERIAL, _AFTER_SERIAL = 8, 12
"""Where the serial is in a message of D-Bus."""
_NO_SERIAL: Final = bytes(4)
_PART: Final = struct.Struct("<iiii")
"""The body of an update, of a message that begins with `l`."""
MAX_REFUSALS: Final = 200
"""After so many, whoever asks means no good.  Each may have an fd that takes a thread to close."""


class _UnfitError(WlproxyError):
    """What was asked for is not done; the text says why."""


class Display:
    """Our end of the connection on which QEMU calls."""

    def __init__(
        self,
        shm_formats: Collection[int] = ALWAYS,
        importable: Collection[tuple[int, int]] = (),
    ) -> None:
        """Begin it, when QEMU has been let in (`doorman`).

        Args:
            shm_formats: those that the compositor takes.
            importable: DRM formats and modifiers of the dma-bufs that it imports.
        """
        self._connection = Connection[File](0, greeted=True)
        self._shm_formats = frozenset(shm_formats)
        self._importable = frozenset(importable)
        self._refusals = 0
        self._shown: Layout | None = None
        self._bytes_shown = self._flipped = False
        self._owed: list[Message[File]] = []
        self._spelled = b"", b""
        self._methods: dict[
            tuple[str, str], tuple[str, Callable[..., Command | None]]
        ] = {
            (MAPS, "ScanoutMap"): ("huuuuu", self._scanout_map),
            (MAPS, UPDATE_MAP): ("iiii", self._update_map),
            (LISTENER, "ScanoutDMABUF"): ("huuuutb", self._scanout_dmabuf),
            (DMABUF2, "ScanoutDMABUF2"): ("ahuuuuauauuuuutb", self._scanout_dmabuf2),
            (LISTENER, UPDATE_DMABUF): ("iiii", self._update_map),
            (LISTENER, "Scanout"): ("uuuuay", self._scanout),
            (LISTENER, "Update"): ("iiiiuuay", self._update),
            (LISTENER, "CursorDefine"): ("iiiiay", self._cursor_define),
            (LISTENER, "MouseSet"): ("iii", self._mouse_set),
            # Comes *after* the next picture, too: what is shown stays.
            (LISTENER, "Disable"): ("", lambda: None),
        }

    def receive(self, data: bytes, fds: Sequence[File]) -> list[Command]:
        """Take what came; return what is to be done.  Then `take_answers`.

        Raises:
            DBusError: it is no D-Bus, or too much was refused.  Whatever had come is
                closed.
        """
        if not fds and (known := self._known_updates(data)) is not None:
            return known
        commands: list[Command] = []
        try:
            self._connection.receive(data, fds)
            while (message := self._connection.next_message()) is not None:
                command = self._take(message)
                self._learn(message, data)
                if command is not None:
                    commands.append(command)
        except DBusError:
            for command in commands:
                for file in files_of(command):
                    file.close()
            self.close()
            raise
        return commands

    def _learn(self, message: Message[File], data: bytes) -> None:
        """Remember how an update is spelled that wants no answer, if it came alone.

        QEMU spells them all alike, but for serial and numbers, and they are most of what it says.
        """
        fields = message.fields
        known = (fields.interface, fields.member) == (MAPS, UPDATE_MAP)
        if not known or fields.signature != "iiii" or message.wants_reply:
            return
        if data[:1] == b"l" and message_size(data) == len(data):
            self._spelled = data[:_SERIAL], data[_AFTER_SERIAL : -_PART.size]

    def _known_updates(self, data: bytes) -> list[Command] | None:
        """Take updates that are spelled as one before; None: there is something else, too."""
        before, after = self._spelled
        size = _AFTER_SERIAL + len(after) + _PART.size
        if not before or len(data) % size or not self._connection.idle:
            return None
        commands: list[Command] = []
        for at in range(0, len(data), size):
            body = at + size - _PART.size
            if (
                data[at : at + _SERIAL] != before
                or data[at + _AFTER_SERIAL : body] != after
                or data[at + _SERIAL : at + _AFTER_SERIAL] == _NO_SERIAL
            ):
                return None
            command = self._update_map(*_PART.unpack_from(data, body))
            if command is not None:
                commands.append(command)
        return commands

    @property
    def owes(self) -> bool:
        """Whether QEMU waits for answers until what has changed is seen."""
        return bool(self._owed)

    def answer_updates(self) -> None:
        """Answer what was owed: it is seen, or the guest has waited long enough."""
        for call in self._owed:
            self._connection.reply(call)
        self._owed.clear()

    def take_answers(self) -> bytes:
        """Take what is to be sent; no fd is."""
        return b"".join(each.data for each in self._connection.take_output())

    def close(self) -> None:
        """Close the fds that came and were not used."""
        for file in self._connection.waiting_fds:
            file.close()

    def _take(self, message: Message[File]) -> Command | None:
        command: Command | None = None
        try:
            if message.kind is MessageKind.METHOD_CALL:
                command = self._called(message)
        except _UnfitError as exc:
            self._refusals += 1
            if self._refusals > MAX_REFUSALS:
                raise DBusError(f"too much is refused, at last: {exc}") from exc
            self._connection.refuse(message, FAILED, str(exc))
            command = Refused(f"{message.fields.member}: {exc}")
        finally:
            kept = files_of(command)
            for file in message.fds:
                if not any(file is each for each in kept):
                    file.close()
        return command

    def _called(self, call: Message[File]) -> Command | None:
        """Do what is called; answer.

        Raises:
            _UnfitError: it is not done, and not answered yet.
        """
        fields = call.fields
        if fields.interface == PROPERTIES:
            self._properties(call)
            return None
        method = self._methods.get((fields.interface, fields.member))
        if method is None:
            if call.fds:  # counted: each may take a thread to close
                raise _UnfitError("nothing is done with such fds")
            self._connection.refuse(call, UNKNOWN_METHOD, "no such method")
            return None
        signature, do = method
        if fields.signature != signature:
            raise _UnfitError(f"arguments {fields.signature!r}, not {signature!r}")
        command = do(*call.body)
        later = fields.member == UPDATE_DMABUF and command is not None
        if later and len(self._owed) < MAX_OWED:
            self._owed.append(call)
        else:
            self._connection.reply(call)
        return command

    def _properties(self, call: Message[File]) -> None:
        if call.fields.member != "GetAll" or call.fields.signature != "s":
            self._connection.refuse(call, UNKNOWN_METHOD, "only GetAll")
            return
        found = properties(call.body[0], INTERFACES)
        self._connection.reply(call, "a{sv}", (found,))

    def _scanout_map(
        self, file: File, offset: int, width: int, height: int, stride: int, pixman: int
    ) -> Command:
        layout = self._layout(width, height, stride, pixman, offset)
        if file.kind is FileKind.OTHER:
            raise _UnfitError(
                "the fd is neither a memfd nor a dma-buf, or cannot be written to"
            )
        if layout.end > file.size:
            raise _UnfitError(f"a file of {file.size} bytes for {layout}")
        self._show(layout)
        if file.kind is FileKind.DMABUF:
            plane = Plane(file, offset, stride)
            return ShowDmabuf((plane,), layout, MODIFIER_LINEAR)
        return ShowMap(file, layout)

    def _scanout_dmabuf(
        self,
        file: File,
        width: int,
        height: int,
        stride: int,
        fourcc: int,
        modifier: int,
        flipped: bool,  # noqa: FBT001 - QEMU's `y0_top`
    ) -> Command:
        planes = (Plane(file, 0, stride),)
        return self._dmabuf(planes, width, height, fourcc, modifier, flipped=flipped)

    def _scanout_dmabuf2(  # noqa: PLR0913, PLR0917 - QEMU's arguments
        self,
        files: list[File],
        x: int,
        y: int,
        width: int,
        height: int,
        offsets: list[int],
        strides: list[int],
        count: int,
        fourcc: int,
        whole_width: int,
        whole_height: int,
        modifier: int,
        flipped: bool,  # noqa: FBT001 - QEMU's `y0_top`
    ) -> Command:
        if not (0 < count <= MAX_PLANES and len(offsets) == len(strides) == count):
            raise _UnfitError(f"{count} planes of a dma-buf")
        if not 0 < len(files) <= count:
            raise _UnfitError(f"{len(files)} fds for {count} planes")
        if x + width > whole_width or y + height > whole_height:
            raise _UnfitError("a part that is beyond its dma-buf")
        # Planes that have no file are in the last one.
        files = files + files[-1:] * (count - len(files))
        planes = tuple(map(Plane, files, offsets, strides))
        if (width, height) != (whole_width, whole_height):
            if modifier != MODIFIER_LINEAR or not drm_formats(fourcc):
                raise _UnfitError("a part of a dma-buf that is not LINEAR")
            # Counted from the picture's top, which may be at the end (ui/gtk-egl.c there).
            row = whole_height - y - height if flipped else y
            first = planes[0]
            skipped = row * first.stride + x * pixel_size(shm_format(fourcc))
            planes = (replace(first, offset=first.offset + skipped), *planes[1:])
        return self._dmabuf(planes, width, height, fourcc, modifier, flipped=flipped)

    def _dmabuf(
        self,
        planes: tuple[Plane, ...],
        width: int,
        height: int,
        fourcc: int,
        modifier: int,
        *,
        flipped: bool,
    ) -> Command:
        for plane in planes:
            if plane.file.kind is not FileKind.DMABUF:
                raise _UnfitError("the fd is no dma-buf")
        shown_as = self._shown_as(fourcc, modifier)
        first = planes[0]
        layout = Layout(width, height, first.stride, shown_as, first.offset)
        if modifier == MODIFIER_LINEAR:
            if len(planes) > 1:
                raise _UnfitError("a LINEAR dma-buf of several planes")
            self._check(layout)
        elif not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise _UnfitError(f"a picture of {layout}")
        # As compositors check it, which end the connection else.
        ends = [plane.offset + plane.stride for plane in planes]
        ends[0] = layout.end
        for plane, end in zip(planes, ends, strict=True):
            if not plane.stride or end > min(plane.file.size, MAX_POOL):
                raise _UnfitError(f"a dma-buf of {plane.file.size} bytes for {layout}")
        self._show(layout, flipped=flipped)
        return ShowDmabuf(planes, layout, modifier, flipped)

    def _shown_as(self, fourcc: int, modifier: int) -> int:
        """Choose the format, of `wl_shm`, in which a dma-buf is shown.

        Raises:
            _UnfitError: the compositor takes none.
        """
        fit = drm_formats(fourcc)
        for each in fit:
            if (each, modifier) in self._importable:
                return shm_format(each)
        for each in fit:
            if modifier == MODIFIER_LINEAR and shm_format(each) in self._shm_formats:
                return shm_format(each)
        raise _UnfitError(
            f"a dma-buf of the format {fourcc:#x} with the modifier "
            f"{modifier:#x}, which the compositor does not take"
        )

    def _show(
        self, layout: Layout, *, are_bytes: bool = False, flipped: bool = False
    ) -> None:
        """Remember what is shown, of which updates will come."""
        self._shown, self._bytes_shown, self._flipped = layout, are_bytes, flipped

    def _update_map(self, x: int, y: int, width: int, height: int) -> Command | None:
        if self._shown is None or self._bytes_shown:
            return None  # the map was refused, and QEMU has not noticed yet
        if self._flipped:
            y = self._shown.height - y - height
        part = _clipped(self._shown, x, y, width, height)
        return Damage(part) if part else None

    def _scanout(
        self, width: int, height: int, stride: int, pixman: int, pixels: bytes
    ) -> Command:
        layout = self._layout(width, height, stride, pixman)
        if layout.end > len(pixels):
            raise _UnfitError(f"{len(pixels)} bytes for {layout}")
        self._show(layout, are_bytes=True)
        return ShowBytes(layout, pixels)

    def _update(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        stride: int,
        pixman: int,
        pixels: bytes,
    ) -> Command:
        shown = self._shown
        if shown is None or not self._bytes_shown:
            raise _UnfitError("no bytes are shown")
        layout = self._layout(width, height, stride, pixman)
        part = Rectangle(x, y, width, height)
        if layout.shm_format != shown.shm_format or part != _clipped(
            shown, x, y, width, height
        ):
            raise _UnfitError(f"{part} is no part of {shown}")
        # The last row may end with its last pixel.
        row = width * pixel_size(layout.shm_format)
        if stride * (height - 1) + row > len(pixels):
            raise _UnfitError(f"{len(pixels)} bytes for {part}")
        return UpdateBytes(part, stride, pixels)

    def _cursor_define(
        self, width: int, height: int, hot_x: int, hot_y: int, pixels: bytes
    ) -> Command:
        if not (0 < width <= MAX_CURSOR and 0 < height <= MAX_CURSOR):
            raise _UnfitError(f"a pointer of {width} x {height}")
        if not (0 <= hot_x < width and 0 <= hot_y < height):
            raise _UnfitError(f"a pointer's tip at {hot_x}, {hot_y}")
        if len(pixels) != width * height * 4:
            raise _UnfitError(f"a pointer of {len(pixels)} bytes")
        return Cursor(width, height, hot_x, hot_y, pixels)

    def _mouse_set(self, _x: int, _y: int, visible: int) -> Command:
        return CursorVisible(bool(visible))

    def _layout(
        self, width: int, height: int, stride: int, pixman: int, offset: int = 0
    ) -> Layout:
        """Check how a picture lies in memory.

        Raises:
            _UnfitError: nothing lies so, or the compositor does not take it.
        """
        found = SHM_OF_PIXMAN.get(pixman)
        if found is None or found not in self._shm_formats:
            raise _UnfitError(f"pixels of the format {pixman:#x}")
        layout = Layout(width, height, stride, found, offset)
        self._check(layout)
        return layout

    def _check(self, layout: Layout) -> None:
        """Check that rows of pixels can lie so.

        Raises:
            _UnfitError: they cannot.
        """
        width, height, stride = layout.width, layout.height, layout.stride
        row = width * pixel_size(layout.shm_format)
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and stride >= row):
            raise _UnfitError(f"a picture of {layout}")
        if stride % 4 or layout.offset % 4 or layout.end > MAX_POOL:
            raise _UnfitError(f"no pool has {layout}")


def _clipped(
    layout: Layout, x: int, y: int, width: int, height: int
) -> Rectangle | None:
    """Return what of a rectangle is in the picture, if anything is."""
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, layout.width), min(y + height, layout.height)
    if right <= left or bottom <= top:
        return None
    return Rectangle(left, top, right - left, bottom - top)
