"""Reads PNG files, as icons are: into rows of red, green, blue and alpha, 8 bits each.

By the PNG specification (third edition), without interlaced files: those are rare among
icons, and whoever cannot be read has no icon.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_SIDE: Final = 1024

_HEADER: Final = struct.Struct(">IIBBBBB")
_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel, by color type."""
_PALETTE: Final = 3


class PngError(Exception):
    """It is no PNG, or none of a kind that is read here."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What was in it.

    Attributes:
        width: in pixels.
        height: likewise.
        pixels: rows of red, green, blue and alpha, which is not premultiplied.
    """

    width: int
    height: int
    pixels: bytes


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    depth: int
    color: int

    @property
    def row_size(self) -> int:
        return (self.width * self.depth * _CHANNELS[self.color] + 7) // 8

    @property
    def step(self) -> int:
        """How many bytes before a byte the same sample of the pixel before it is."""
        return max(self.depth * _CHANNELS[self.color] // 8, 1)


def read_png(data: bytes) -> Picture:
    """Read a file.

    Raises:
        PngError: it cannot be read.
    """
    if not data.startswith(SIGNATURE):
        raise PngError("no PNG")
    palette, alphas, packed = b"", b"", b""
    header: _Header | None = None
    for kind, content in _chunks(data):
        match kind:
            case b"IHDR":
                header = _read_header(content)
            case b"PLTE":
                palette = content
            case b"tRNS":
                alphas = content
            case b"IDAT":
                packed += content
            case _:
                pass
    if header is None:
        raise PngError("no header")
    size = (header.row_size + 1) * header.height
    try:
        raw = zlib.decompressobj().decompress(packed, size)
    except zlib.error as exc:
        raise PngError(str(exc)) from None
    if len(raw) != size:
        raise PngError("it ends early")
    samples = [_samples(header, row) for row in _unfilter(header, raw)]
    pixels = b"".join(_pixels(header, row, palette, alphas) for row in samples)
    return Picture(header.width, header.height, pixels)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _read_header(content: bytes) -> _Header:
    try:
        width, height, depth, color, *methods = _HEADER.unpack(content)
    except struct.error:
        raise PngError("no header") from None
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE) or any(methods):
        raise PngError("too large, or interlaced")
    depths = (8, 16) if color in (2, 4, 6) else (1, 2, 4, 8, 16)
    if color not in _CHANNELS or depth not in depths:
        raise PngError("no such color")
    return _Header(width, height, depth, color)


def _unfilter(header: _Header, raw: bytes) -> Iterator[bytes]:
    """Undo what makes rows compress better (section 9)."""
    size, step = header.row_size, header.step
    above = bytes(size)
    for start in range(0, len(raw), size + 1):
        kind, row = raw[start], bytearray(raw[start + 1 : start + 1 + size])
        if kind == 1:
            for i in range(step, size):
                row[i] = (row[i] + row[i - step]) & 255
        elif kind == 2:
            row = bytearray((a + b) & 255 for a, b in zip(row, above, strict=True))
        elif kind == 3:
            for i in range(size):
                left = row[i - step] if i >= step else 0
                row[i] = (row[i] + (left + above[i]) // 2) & 255
        elif kind == 4:
            for i in range(size):
                left, corner = (row[i - step], above[i - step]) if i >= step else (0, 0)
                row[i] = (row[i] + _paeth(left, above[i], corner)) & 255
        elif kind:
            raise PngError("no such filter")
        above = bytes(row)
        yield above


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    distances = abs(guess - left), abs(guess - above), abs(guess - corner)
    if distances[0] <= distances[1] and distances[0] <= distances[2]:
        return left
    return above if distances[1] <= distances[2] else corner


def _samples(header: _Header, row: bytes) -> bytes:
    """Return a row's samples, one byte for each: 8 bits, or an index of the palette."""
    depth = header.depth
    if depth == 16:
        return row[::2]
    if depth == 8:
        return row
    most = (1 << depth) - 1
    scale = 1 if header.color == _PALETTE else 255 // most
    found = bytes(
        (byte >> shift & most) * scale
        for byte in row
        for shift in range(8 - depth, -1, -depth)
    )
    return found[: header.width]


def _pixels(header: _Header, row: bytes, palette: bytes, alphas: bytes) -> bytes:
    """Return a row as it is wanted.  A color that stands for nothing (tRNS) is kept."""
    out = bytearray(b"\xff" * (4 * header.width))
    match header.color:
        case 6:
            return row
        case 2:
            for channel in range(3):
                out[channel::4] = row[channel::3]
        case 0 | 4:
            step = _CHANNELS[header.color]
            for channel in range(3):
                out[channel::4] = row[::step]
            if step == 2:
                out[3::4] = row[1::2]
        case _:
            table = [palette[i * 3 : i * 3 + 3] for i in range(len(palette) // 3)]
            if max(row, default=0) >= len(table):
                raise PngError("a color that is not in the palette")
            opaque = alphas.ljust(len(table), b"\xff")
            out = bytearray(b"".join(table[i] + opaque[i : i + 1] for i in row))
    return bytes(out)
