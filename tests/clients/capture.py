"""What a compositor shows, read back on the host: weston's capture protocol, or grim."""

import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.clients import pattern
from tests.clients.wire import Connection

XRGB8888 = 1
ARGB8888 = 0
DRM_TO_SHM = {0x34325241: ARGB8888, 0x34325258: XRGB8888}
FRAMEBUFFER = 1
"""`weston_capture_v1.source`: what was rendered, as in memory."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: blue, green, red, 255 per pixel, no padding."""

    width: int
    height: int
    data: bytes

    def rows(self, x: int, y: int, width: int, height: int) -> list[bytes]:
        """Cut out a rectangle, as rows."""
        size = self.width * 4
        return [
            self.data[line * size + x * 4 : line * size + (x + width) * 4]
            for line in range(y, y + height)
        ]

    def save(self, path: Path) -> None:
        """Write it as a binary PPM file."""
        rgb = bytearray(self.width * self.height * 3)
        for target, source in enumerate((2, 1, 0)):
            rgb[target::3] = self.data[source::4]
        path.write_bytes(b"P6\n%d %d\n255\n" % (self.width, self.height) + rgb)

    def find(self, wanted: bytes) -> Iterator[tuple[int, int]]:
        """Find a row of pixels, wherever it is: (x, y)."""
        start = -1
        while (start := self.data.find(wanted, start + 1)) >= 0:
            if start % 4 == 0:
                yield start // 4 % self.width, start // 4 // self.width


def assert_shows(
    picture: Picture,
    width: int,
    height: int,
    frame: int,
    origin: tuple[int, int] = (0, 0),
) -> tuple[int, int]:
    """Check that a part of a frame is shown somewhere, every pixel of it.

    Args:
        picture: of the whole output.
        width: of the part.
        height: of the part.
        frame: which frame of the pattern.
        origin: where in the frame the part begins.

    Returns:
        Where on the output it is.

    Raises:
        AssertionError: it is not, or not all of it.
    """
    x0, y0 = origin
    wanted = [pattern.row(y0 + line, frame, width, x0) for line in range(height)]
    # Any row may be the broken one, and a few of another frame's may look alike.
    places = {
        (x, y - line)
        for line in {0, height // 2, height - 1}
        for x, y in picture.find(wanted[line])
    }
    best: tuple[list[int], tuple[int, int]] | None = None
    for x, y in sorted(places):
        if y < 0 or y + height > picture.height:
            continue
        shown = picture.rows(x, y, width, height)
        wrong = [line for line in range(height) if shown[line] != wanted[line]]
        if best is None or len(wrong) < len(best[0]):
            best = wrong, (x, y)
    assert best is not None, f"frame {frame} ({width}x{height}) is nowhere on screen"
    wrong, place = best
    assert not wrong, (
        f"frame {frame}: {len(wrong)} of {height} rows wrong: {wrong[:20]}"
    )
    return place


def weston(display: str) -> Picture:
    """Capture the output of a weston that was started with ``--debug``."""
    connection = Connection(display)
    try:
        return _capture(connection)
    finally:
        connection.close()


def _capture(connection: Connection) -> Picture:
    output = connection.bind("wl_output", 1)
    shm = connection.bind("wl_shm", 1)
    manager = connection.bind("weston_capture_v1", 1)
    state: dict[str, object] = {}

    def on_source(opcode: int, data: bytes) -> None:
        match opcode:
            case 0:
                state["format"] = struct.unpack("=I", data)[0]
            case 1:
                state["size"] = struct.unpack("=ii", data)
            case 2:
                state["end"] = "complete"
            case _:
                state["end"] = f"event {opcode}: {data!r}"

    source = connection.new(on_source)
    connection.send(manager, 1, "uuu", output, FRAMEBUFFER, source)
    connection.wait(lambda: {"format", "size"} <= state.keys() or "end" in state)
    if "end" in state:
        raise AssertionError(f"weston cannot capture: {state['end']}")
    size, drm_format = state["size"], state["format"]
    assert isinstance(size, tuple)
    assert isinstance(drm_format, int)
    width, height = size
    length = width * height * 4
    fd = os.memfd_create("capture", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, length)
        pool, buffer = connection.new(), connection.new()
        connection.send(shm, 0, "ui", pool, length, fds=[fd])
        shm_format = DRM_TO_SHM[drm_format]
        geometry = (0, width, height, width * 4, shm_format)
        connection.send(pool, 0, "uiiiiu", buffer, *geometry)
        connection.send(source, 1, "u", buffer)
        connection.wait(lambda: "end" in state)
        if state["end"] != "complete":
            raise AssertionError(f"weston did not capture: {state['end']}")
        return Picture(width, height, _opaque(bytearray(os.pread(fd, length, 0))))
    finally:
        os.close(fd)


def old_weston(display: str, width: int, height: int) -> Picture:
    """Capture the output, of a known size, of a weston before 11 with ``--debug``."""
    connection = Connection(display)
    done: list[int] = []
    fd = os.memfd_create("capture", os.MFD_CLOEXEC)
    try:
        output = connection.bind("wl_output", 1)
        shm = connection.bind("wl_shm", 1)
        shooter = connection.bind(
            "weston_screenshooter", 1, lambda opcode, _data: done.append(opcode)
        )
        length = width * height * 4
        os.ftruncate(fd, length)
        pool, buffer = connection.new(), connection.new()
        connection.send(shm, 0, "ui", pool, length, fds=[fd])
        geometry = (0, width, height, width * 4, XRGB8888)
        connection.send(pool, 0, "uiiiiu", buffer, *geometry)
        connection.send(shooter, 0, "uu", output, buffer)
        connection.wait(lambda: done)
        return Picture(width, height, _opaque(bytearray(os.pread(fd, length, 0))))
    finally:
        os.close(fd)
        connection.close()


def grim(display: str, runtime: Path) -> Picture:
    """Capture the output of a wlroots compositor."""
    environment = {
        **os.environ,
        "WAYLAND_DISPLAY": display,
        "XDG_RUNTIME_DIR": str(runtime),
    }
    done = subprocess.run(
        ["grim", "-t", "ppm", "-"], env=environment, capture_output=True, check=True
    )
    return from_ppm(done.stdout)


def from_ppm(ppm: bytes) -> Picture:
    """Read a binary PPM file."""
    magic, words, most, pixels = ppm.split(b"\n", 3)
    assert (magic, most) == (b"P6", b"255"), ppm[:20]
    width, height = map(int, words.split())
    data = bytearray(width * height * 4)
    data[0::4], data[1::4], data[2::4] = pixels[2::3], pixels[1::3], pixels[0::3]
    return Picture(width, height, _opaque(data))


def _opaque(pixels: bytearray) -> bytes:
    pixels[3::4] = b"\xff" * (len(pixels) // 4)
    return bytes(pixels)
