"""A keyboard of sway's, and a pixel of its output: how long one takes to change the other.

By virtual_keyboard_unstable_v1 and wlr_screencopy_unstable_v1, which wlroots compositors have.
"""

import mmap
import os
import struct
import time
from typing import Final

from bench.processes import BenchError
from tests.clients.wire import Connection, WaylandError
from wlproxy.transport.closable import Closing

KEYMAP: Final = (
    b'xkb_keymap { xkb_keycodes { include "evdev" }; xkb_types { include "complete" }; '
    b'xkb_compat { include "complete" }; xkb_symbols { include "pc+us" }; };\0'
)
"""A usual one, of evdev's codes, which the compositor compiles."""
SPACE: Final = 57
SIDE: Final = 4
"""Pixels that are looked at, each way."""
PATIENCE: Final = 5.0

_BUFFER, _READY, _FAILED = 0, 2, 3
_COPY_WITH_DAMAGE, _DESTROY = 2, 1


class Output(Closing):
    """The compositor's one output and its seat, beside those who show windows there."""

    def __init__(self, display: str, place: tuple[int, int]) -> None:
        """Connect.

        Args:
            display: where the compositor listens.
            place: the pixel that is looked at.

        Raises:
            BenchError: the compositor lacks a protocol.
        """
        self._wire = wire = Connection(display)
        self._place = place
        self._copied: list[int] = []
        try:
            seat = wire.bind("wl_seat", 1)
            keyboards = wire.bind("zwp_virtual_keyboard_manager_v1", 1)
            self._copies = wire.bind("zwlr_screencopy_manager_v1", 3)
            self._output = wire.bind("wl_output", 1)
            self._shm = wire.bind("wl_shm", 1)
            self._keyboard = wire.new()
            wire.send(keyboards, 0, "uu", seat, self._keyboard)
            with open(os.memfd_create("keymap"), "w+b") as file:
                file.write(KEYMAP)
                file.flush()
                one = (1, len(KEYMAP))  # XKB's text, version 1
                wire.send(self._keyboard, 0, "uu", *one, fds=[file.fileno()])
            wire.roundtrip()
        except (KeyError, WaylandError) as error:
            wire.close()
            raise BenchError(f"the compositor lacks {error}") from error
        self._memory, self._buffer = self._make_buffer()

    def close(self) -> None:
        """Disconnect."""
        self._memory.close()
        self._wire.close()

    def press(self) -> None:
        """Press the space bar, and let go of it."""
        for number, down in enumerate((1, 0)):
            self._wire.send(self._keyboard, 1, "uuu", number, SPACE, down)

    def pixel(self, *, at_once: bool = False) -> bytes:
        """Return the pixel, when the output has changed (or `at_once`).

        Raises:
            TimeoutError: it does not.
        """
        events: dict[int, bytes] = {}

        def told(opcode: int, data: bytes) -> None:
            events[opcode] = data

        wire, frame = self._wire, self._wire.new(told)
        area = (*self._place, SIDE, SIDE)
        wire.send(self._copies, 1, "uiuiiii", frame, 0, self._output, *area)
        wire.wait(lambda: _BUFFER in events, PATIENCE)
        wire.send(frame, 0 if at_once else _COPY_WITH_DAMAGE, "u", self._buffer)
        wire.wait(lambda: _READY in events or _FAILED in events, PATIENCE)
        wire.send(frame, _DESTROY)
        return bytes(self._memory[:4])

    def seconds_to_change(self) -> float:
        """Press a key; return how long it takes until the pixel is another.

        Raises:
            TimeoutError: it remains as it is.
        """
        before = self.pixel(at_once=True)
        start = time.monotonic()
        self.press()
        while True:
            if self.pixel() != before:
                return time.monotonic() - start
            if time.monotonic() > start + PATIENCE:
                raise TimeoutError("a key changes nothing")

    def _make_buffer(self) -> tuple[mmap.mmap, int]:
        shape: list[tuple[int, ...]] = []

        def told(opcode: int, data: bytes) -> None:
            if opcode == _BUFFER:
                shape.append(struct.unpack("=IIII", data))

        wire, frame = self._wire, self._wire.new(told)
        area = (*self._place, SIDE, SIDE)
        wire.send(self._copies, 1, "uiuiiii", frame, 0, self._output, *area)
        wire.wait(lambda: shape, PATIENCE)
        wire.send(frame, _DESTROY)
        ((pixels, width, height, stride),) = shape
        size = stride * height
        with open(os.memfd_create("copy"), "w+b") as file:
            file.truncate(size)
            pool, buffer = wire.new(), wire.new()
            wire.send(self._shm, 0, "ui", pool, size, fds=[file.fileno()])
            wire.send(pool, 0, "uiiiiu", buffer, 0, width, height, stride, pixels)
            return mmap.mmap(file.fileno(), size), buffer
