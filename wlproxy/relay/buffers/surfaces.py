"""Surfaces: what is attached, damaged and committed, and what that cost.

Modes A and B need nothing per frame.  For mode C this is where it is decided which
rectangles must have been copied before the compositor hears of a commit.  What is
counted here is what `wlproxy status` shows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.choice import Choice, Mode
from wlproxy.relay.buffers.client_buffers import Buffers
from wlproxy.relay.commands import CopyRows, TraceLevel
from wlproxy.relay.configured import Configured
from wlproxy.relay.formats import PIXEL_SIZE
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import ProtocolObject

MAX_RECTANGLES: Final = 16
"""Rectangles of damage that are kept apart; more become one around them all."""

MAX_TOLD: Final = 16
"""Modes and reasons that are logged for one client, or warned of for all: no guest is to fill the log."""

MAX_DEPTH: Final = 16
"""Subsurfaces in each other that we follow."""

MAX_BENEATH: Final = 4096
"""Buffers that may wait for one surface's commit: no client has more."""

MAX_REMEMBERED: Final = 4
"""Buffers that a surface is remembered to have taken in turn."""

NOTHING_SHOWN: Final = Choice(Mode.NONE, "")

Rectangle = tuple[int, int, int, int]
"""x, y, width, height, in buffer pixels."""


@dataclass(frozen=True, slots=True)
class SurfaceStatus:
    """One surface, for people.

    Attributes:
        client_id: of the channel.
        label: the client, as in logs.
        surface: its guest object id.
        kind: "window", "cursor", or "part": a popup, a subsurface, and the like.
        app_id: as the app said, may be empty.
        title: as the app said, may be empty.
        width: pixels of the buffer shown.
        height: pixels of the buffer shown.
        shm_format: as in `wl_shm`.
        mode: "A", "B", "C", or "none" for nothing of ours (yet).
        reason: why that mode, or why nothing newer is shown.
        frames: commits with a new buffer.
        bytes_copied: pixel bytes that the proxy copied.
    """

    client_id: int
    label: str
    surface: int
    kind: str
    app_id: str
    title: str
    width: int
    height: int
    shm_format: int
    mode: str
    reason: str
    frames: int
    bytes_copied: int


@dataclass(slots=True, eq=False)
class Surface:
    """A `wl_surface`.

    Attributes:
        object: the object.
        current: what the last commit put there.
        pending: what the next commit will, if `attached`.
        attached: a buffer, or none, was attached since the last commit.
        postponed: what the next commit attaches, and where: it was not ready before.
        parent: of a subsurface.
        below: of a popup: the surface that it belongs to.
        sync: as a subsurface, it shows nothing new before its parent does.
        commits: how many there were.
        latched: `commits` of the parent, when a commit last began to wait for it.
        beneath: what subsurfaces show until this surface's next commit is shown.
        queued: its commits may be shown late, and one after the other.
        gone: the app has destroyed it.
        damage: since the last commit, in buffer pixels.
        all_damaged: damage since the last commit cannot be told in buffer pixels.
        transformed: a scale, transform or viewport lies between surface and buffer.
        turn: serials of the last buffers committed, newest last.
        is_window: it is, or was, a toplevel.
        configured: what it was told to be as one, if it is one of xdg-shell's.
        is_cursor: its role is a cursor: kept in mode A, for cursor planes.
        frames: commits with a new buffer.
        bytes_copied: by the proxy.
        app_id: from its toplevel, as `title` is.
        choice: how what it last showed was presented; why nothing newer is.
        stale: mode C: damage that each copy has not got yet.
    """

    object: ProtocolObject
    current: Buffer | None = None
    pending: Buffer | None = None
    attached: bool = False
    postponed: tuple[Buffer, int, int] | None = None
    parent: "Surface | None" = None
    below: "Surface | None" = None
    sync: bool = True
    commits: int = 0
    latched: int = -1
    beneath: list[Buffer] = field(default_factory=list)
    queued: bool = False
    gone: bool = False
    damage: list[Rectangle] = field(default_factory=list)
    all_damaged: bool = False
    transformed: bool = False
    turn: list[int] = field(default_factory=list)
    is_window: bool = False
    configured: Configured | None = None
    is_cursor: bool = False
    frames: int = 0
    bytes_copied: int = 0
    app_id: str = ""
    title: str = ""
    choice: Choice = NOTHING_SHOWN
    stale: dict[int, list[Rectangle] | None] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """What a person would call it."""
        if self.is_window:
            return "window"
        return "cursor" if self.is_cursor else "part"

    def cycles_with(self, buffer: Buffer) -> bool:
        """Whether, with this buffer, the surface takes two or more in turn.

        That is, comes back to one after another.  Two different ones are not enough:
        a client with one buffer makes a new one for each size, and then waits for that
        one to be released.
        """
        last = self.turn[-1:] == [buffer.serial]
        return not self.is_cursor and not last and buffer.serial in self.turn

    @property
    def window(self) -> "Surface":
        """What a person would take it for a part of: itself, if it is no popup nor subsurface."""
        surface = self
        for _ in range(MAX_DEPTH):
            under = surface.parent or surface.below
            if under is None:
                break
            surface = under
        return surface

    @property
    def waits(self) -> bool:
        """Whether a commit is not shown before the parent's next one."""
        surface = self
        for _ in range(MAX_DEPTH):
            if surface.parent is None or surface.parent.gone:
                return False
            if surface.sync:
                return True
            surface = surface.parent
        return True  # as if: it only means to wait longer


@dataclass(frozen=True, slots=True)
class Subsurface:
    """A `wl_subsurface`: the surface that has that role."""

    surface: Surface


@dataclass(slots=True, eq=False)
class Surfaces:
    """The surfaces of one client."""

    _context: Context
    _buffers: Buffers
    _all: dict[Surface, None] = field(default_factory=dict)
    _windows: dict[Surface, None] = field(default_factory=dict)
    _told: list[tuple[Mode, str]] = field(default_factory=list)
    _postponed: dict[int, list[Surface]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count them."""
        return len(self._all)

    def create(self, entry: ProtocolObject) -> None:
        """Enter a surface; `entry` is the guest's `wl_surface`."""
        entry.role = surface = Surface(entry)
        self._all[surface] = None

    def postpone(self, surface: Surface, buffer: Buffer, x: int, y: int) -> None:
        """Keep an attach until the next commit, in place of another that is kept."""
        self.take_postponed(surface)
        surface.postponed = (buffer, x, y)
        self._postponed.setdefault(buffer.serial, []).append(surface)

    def take_postponed(self, surface: Surface) -> tuple[Buffer, int, int] | None:
        """Take the attach that is kept, if there is one."""
        taken, surface.postponed = surface.postponed, None
        if taken is not None:
            serial = taken[0].serial
            self._postponed[serial].remove(surface)
            if not self._postponed[serial]:
                del self._postponed[serial]
        return taken

    def waiting_for(self, buffer: Buffer) -> tuple[Surface, ...]:
        """List the surfaces for which an attach of this buffer is kept."""
        return tuple(self._postponed.get(buffer.serial, ()))

    def open_window(self, surface: Surface, most: int) -> bool:
        """Note that a surface becomes a window, unless there are `most` already."""
        if len(self._windows) >= most:
            return False
        self._windows[surface] = None
        return True

    def close_window(self, surface: Surface) -> None:
        """Note that a surface is no window any more."""
        self._windows.pop(surface, None)

    def not_shown(self, surface: Surface, buffer: Buffer) -> None:
        """Note that a buffer failed which was to be shown."""
        mode = surface.choice.mode if surface.current else Mode.NONE
        surface.choice = Choice(mode, buffer.failure)

    def attach(self, surface: Surface, buffer: Buffer | None) -> list[Buffer]:
        """Note an attach.

        Returns:
            Buffers that no longer belong to the surface.
        """
        left = []
        if surface.attached and surface.pending is not None:
            left.append(surface.pending)
        if buffer is not None:
            self._buffers.shown(buffer)
        surface.pending, surface.attached = buffer, True
        return left

    def add_damage(
        self, surface: Surface, rectangle: Rectangle, *, in_buffer: bool
    ) -> None:
        """Note damage, in buffer pixels or in surface coordinates.

        The latter are the same as long as nothing transforms the buffer.
        """
        if not surface.stale:
            return  # nothing was copied yet: the first copy is of everything
        if surface.transformed and not in_buffer:
            surface.all_damaged = True
        else:
            surface.damage = _joined(surface.damage, (rectangle,))

    def transform(self, surface: Surface) -> None:
        """Note that a scale, transform or viewport comes into play.

        It stays in play, and applies to damage before it in the same commit too.
        """
        surface.transformed = True
        surface.all_damaged |= bool(surface.damage)

    def copy_whole(self, buffer: Buffer) -> None:
        """In mode C, copy a buffer that is shown by something other than a surface."""
        buffer.copied_for = 0
        if _is_copied(buffer):
            self._copy_rows(buffer, (0, 0, buffer.width, buffer.height))

    def commit(self, surface: Surface) -> list[Buffer]:
        """Note a commit; in mode C, have what it shows copied.

        Returns:
            Buffers that no longer belong to the surface.
        """
        attached = surface.attached
        left = _replaced(surface)
        if attached:
            surface.current, surface.pending = surface.pending, None
            surface.attached = False
            self._count_frame(surface)
        damage = None if surface.all_damaged else surface.damage
        if damage is None or damage:
            self._spread(surface, damage)
        # Without damage too: a compositor may look at all of what is newly attached.
        if attached or damage is None or damage:
            self._copy(surface)
        surface.damage = []
        surface.all_damaged = False
        return left

    def copied(self, guest_id: int, amount: int) -> None:
        """Count bytes that were copied for a surface, if it is still there."""
        for surface in self._all:
            if surface.object.guest_id == guest_id:
                surface.bytes_copied += amount

    def destroy(self, surface: Surface) -> list[Buffer]:
        """Note that the surface is gone.

        Returns:
            Buffers that no longer belong to it.
        """
        self._all.pop(surface, None)
        self.close_window(surface)
        self.take_postponed(surface)
        shown = (surface.current, surface.pending if surface.attached else None)
        left = [*surface.beneath, *(buffer for buffer in shown if buffer is not None)]
        surface.current = surface.pending = surface.parent = None
        surface.beneath = []
        surface.gone = True
        return left

    def statuses(self) -> list[SurfaceStatus]:
        """Say how each surface is doing."""
        return [self._status(surface) for surface in self._all]

    def _count_frame(self, surface: Surface) -> None:
        buffer = surface.current
        if buffer is None:
            return
        surface.frames += 1
        self._buffers.read(buffer, lasting=surface.queued)
        if buffer.serial not in surface.turn[-1:]:
            surface.turn = [*surface.turn[1 - MAX_REMEMBERED :], buffer.serial]
        assert buffer.choice is not None  # it is ready
        surface.choice = buffer.choice
        told = (buffer.choice.mode, _kind(buffer.choice.reason))
        if told not in self._told and len(self._told) < MAX_TOLD:
            self._told.append(told)
            self._trace_mode(surface, buffer)

    def _trace_mode(self, surface: Surface, buffer: Buffer) -> None:
        """Log how a client's surface is shown, where none before was shown so.

        That pixels are copied is warned of, once for the whole guest, unless the user
        wanted it.
        """
        mode, reason = surface.choice.mode, surface.choice.reason
        copying = mode is Mode.COPY
        level = TraceLevel.INFO
        warned, kind = self._context.shared.warned, _kind(reason)
        wanted = self._context.config.wants_copies
        if copying and not wanted and kind not in warned and len(warned) < MAX_TOLD:
            warned.add(kind)
            level = TraceLevel.WARNING
        self._context.trace(
            level,
            f"surface {surface.object.guest_id} {buffer.width}x{buffer.height}: "
            f"{'copied' if copying else 'zero-copy'}, mode {mode.value} ({reason})",
        )

    def _spread(self, surface: Surface, damage: list[Rectangle] | None) -> None:
        """Add damage to what each copy of this surface's buffers still lacks."""
        for key, rectangles in surface.stale.items():
            if damage is None or rectangles is None:
                surface.stale[key] = None
            else:
                surface.stale[key] = _joined(rectangles, damage)

    def _copy(self, surface: Surface) -> None:
        buffer = surface.current
        if buffer is None or not _is_copied(buffer):
            return
        everything = [(0, 0, buffer.width, buffer.height)]
        rectangles = surface.stale.get(buffer.serial)
        another = buffer.copied_for != surface.object.guest_id
        if rectangles is None or another or buffer.shm_format not in PIXEL_SIZE:
            rectangles = everything
        if len(surface.stale) > MAX_REMEMBERED:
            surface.stale.clear()  # a copy that is not in here is made whole
        surface.stale[buffer.serial] = []
        buffer.copied_for = surface.object.guest_id
        for rectangle in rectangles:
            self._copy_rows(buffer, rectangle)

    def _copy_rows(self, buffer: Buffer, rectangle: Rectangle) -> None:
        """Emit the copy of one rectangle."""
        x, y, width, height = rectangle
        left, top = max(x, 0), max(y, 0)
        right = min(x + width, buffer.width)
        bottom = min(y + height, buffer.height)
        if left >= right or top >= bottom:
            return
        pixel, plane = PIXEL_SIZE.get(buffer.shm_format, 0), buffer.rows
        stride = plane.stride
        if not pixel:  # planes, or pixels that share bytes: always the whole buffer
            start, length, rows = 0, plane.length, 1
        elif (left, right) == (0, buffer.width):
            start, length, rows = stride * top, stride * (bottom - top), 1
        else:
            start = stride * top + left * pixel
            length, rows = (right - left) * pixel, bottom - top
        assert buffer.copy is not None
        assert plane.location is not None
        self._context.command(
            CopyRows(
                client_id=self._context.client_id,
                handle=buffer.copy,
                items=plane.location.items,
                offset=plane.place + start,
                stride=stride,
                length=length,
                rows=rows,
            )
        )

    def _status(self, surface: Surface) -> SurfaceStatus:
        buffer = surface.current
        return SurfaceStatus(
            client_id=self._context.client_id,
            label=self._context.label,
            surface=surface.object.guest_id,
            kind=surface.kind,
            app_id=surface.app_id,
            title=surface.title,
            width=buffer.width if buffer else 0,
            height=buffer.height if buffer else 0,
            shm_format=buffer.shm_format if buffer else 0,
            mode=surface.choice.mode.value,
            reason=surface.choice.reason,
            frames=surface.frames,
            bytes_copied=surface.bytes_copied,
        )


def _is_copied(buffer: Buffer) -> bool:
    choice = buffer.choice
    return choice is not None and choice.mode is Mode.COPY and not buffer.life.is_failed


@lru_cache(MAX_TOLD)  # asked for every frame
def _kind(reason: str) -> str:
    """Make reasons equal that differ in their numbers only."""
    return "".join(char for char in reason if not char.isdigit())


def _replaced(surface: Surface) -> list[Buffer]:
    """Find what no surface has any more when this one's commit takes effect.

    That of a subsurface may have to wait for the parent's: until then the compositor
    shows what was there before, as it does with what has been waiting for this one.
    """
    surface.commits += 1
    beneath, surface.beneath = surface.beneath, []
    old = surface.current if surface.attached else None
    parent = surface.parent
    if parent is None or not surface.waits:
        return [*beneath, old] if old else beneath
    if len(parent.beneath) >= MAX_BENEATH:
        return [*beneath, *([old] if old else ())]
    parent.beneath.extend(beneath)
    if not surface.attached:
        return []
    first, surface.latched = surface.latched != parent.commits, parent.commits
    if old is None or first:
        parent.beneath.extend([old] if old else ())
        return []
    return [old]  # it waited, too, and will never be shown


def _joined(rectangles: list[Rectangle], more: Iterable[Rectangle]) -> list[Rectangle]:
    """Add rectangles, leaving out those within others; past a bound, one around all."""
    joined = list(rectangles)
    for new in more:
        if any(_contains(old, new) for old in joined):
            continue
        joined = [old for old in joined if not _contains(new, old)]
        joined.append(new)
    if len(joined) <= MAX_RECTANGLES:
        return joined
    left = min(x for x, _, _, _ in joined)
    top = min(y for _, y, _, _ in joined)
    right = max(x + width for x, _, width, _ in joined)
    bottom = max(y + height for _, y, _, height in joined)
    return [(left, top, right - left, bottom - top)]


def _contains(outer: Rectangle, inner: Rectangle) -> bool:
    x, y, width, height = outer
    left, top, inner_width, inner_height = inner
    return (
        x <= left
        and y <= top
        and left + inner_width <= x + width
        and top + inner_height <= y + height
    )
