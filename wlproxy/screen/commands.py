"""What QEMU's display has us do, as values."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class FileKind(Enum):
    """What an fd is that QEMU sent."""

    MEMORY = "memory"
    """A memfd, or another file of shared memory: what a `wl_shm` pool may be."""
    DMABUF = "dma-buf"
    OTHER = "something else"
    """Never used: QEMU 10 and 11 send their own stdin where they have nothing else."""


class Fd(Protocol):
    """An fd of ours, which may have to wait until it is sent."""

    def hold(self) -> object:
        """Keep it open until the matching `release`, whatever `close` says."""

    def release(self) -> None:
        """Undo one `hold`."""

    def close(self) -> None:
        """Close it now, or when the last hold is released.  Again: nothing happens."""


class File(Protocol):
    """An fd that QEMU sent.  Whoever has it closes it."""

    @property
    def kind(self) -> FileKind:
        """What it is."""

    @property
    def size(self) -> int:
        """How many bytes it has; 0 if it is OTHER."""

    @property
    def identity(self) -> tuple[int, int]:
        """Tell it from others: device and inode, which last as long as it is open."""

    @property
    def mappable(self) -> bool:
        """Whether all of it can be mapped to be read and written, as libwayland does."""

    def close(self) -> None:
        """Close it.  Again: nothing happens."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a picture lies in memory.

    Attributes:
        width: pixels.
        height: rows.
        stride: bytes from one row to the next.
        shm_format: of its pixels, as `wl_shm` calls it.
        offset: of the first pixel.
    """

    width: int
    height: int
    stride: int
    shm_format: int
    offset: int = 0

    @property
    def end(self) -> int:
        """Bytes up to the picture's end."""
        return self.offset + self.stride * self.height


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A part of a picture, in its pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ShowMap:
    """Show what is, and will be, in a file; whoever takes this closes it."""

    file: File
    layout: Layout


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a plane of a picture is.

    Attributes:
        file: a dma-buf.
        offset: of its first byte there.
        stride: bytes from one row to the next, in what units of rows the modifier says.
    """

    file: File
    offset: int
    stride: int


@dataclass(frozen=True, slots=True)
class ShowDmabuf:
    """Show what is, and will be, in a dma-buf; whoever takes this closes its files.

    Attributes:
        planes: one, unless the modifier has more.
        layout: how the first of them lies there, if it is LINEAR.
        modifier: how pixels are arranged there (drm_fourcc.h).
        flipped: whether the first row is the lowest.
    """

    planes: tuple[Plane, ...]
    layout: Layout
    modifier: int
    flipped: bool = False


@dataclass(frozen=True, slots=True)
class ShowBytes:
    """Show these bytes, of which updates will come."""

    layout: Layout
    pixels: bytes


@dataclass(frozen=True, slots=True)
class UpdateBytes:
    """Change a part of the bytes that are shown.

    Attributes:
        part: which.
        stride: bytes from one row of `pixels` to the next.
        pixels: those of the part.
    """

    part: Rectangle
    stride: int
    pixels: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of the shown file has changed, in the order in which its rows lie there."""

    part: Rectangle


@dataclass(frozen=True, slots=True)
class Cursor:
    """What the guest's pointer looks like: ARGB, premultiplied, without padding."""

    width: int
    height: int
    hot_x: int
    hot_y: int
    pixels: bytes


@dataclass(frozen=True, slots=True)
class CursorVisible:
    """Whether the guest shows its pointer."""

    visible: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """QEMU asked for what we do not do; it was answered, and this is for the log."""

    why: str


Command = (
    ShowMap
    | ShowDmabuf
    | ShowBytes
    | UpdateBytes
    | Damage
    | Cursor
    | CursorVisible
    | Refused
)


def files_of(command: Command | None) -> tuple[File, ...]:
    """Return the files that whoever takes a command has to close."""
    match command:
        case ShowMap(file):
            return (file,)
        case ShowDmabuf(planes):
            return tuple(plane.file for plane in planes)
        case _:
            return ()
