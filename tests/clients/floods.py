"""Clients that ask for as much as they can, each in one way, until killed.

    python3 -m tests.clients.floods KIND [DISPLAY]

All of it is allowed, or nearly: no garbage, but far too much.  Who is disconnected connects
again.  Runs in the guest and natively; standard library only.
"""

import contextlib
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from tests.clients.wire import (
    DISPLAY,
    Connection,
    DisconnectedError,
    WaylandError,
    encode,
)

BATCH = 32 * 1024
"""Bytes that are sent at once."""
AGAIN = 0.01
"""Seconds until a client that was disconnected, or refused, is back."""

Flood = Callable[[Connection], None]


def drain(wire: Connection) -> None:
    """Handle what has come."""
    while wire.dispatch(0):
        pass


def repeat(wire: Connection, message: bytes) -> NoReturn:
    """Send the same for ever."""
    blob = message * max(1, BATCH // len(message))
    while True:
        wire.send_raw(blob)
        drain(wire)


def window(wire: Connection) -> int:
    """Make a window that may show something; returns its surface."""
    configured: list[int] = []
    shell = 0

    def on_shell(_opcode: int, data: bytes) -> None:
        wire.send(shell, 3, "u", *struct.unpack("=I", data))

    def on_configure(_opcode: int, data: bytes) -> None:
        wire.send(xdg_surface, 4, "u", *struct.unpack("=I", data))
        configured.append(1)

    shell = wire.bind("xdg_wm_base", 1, on_shell)
    compositor = wire.bind("wl_compositor", 4)
    surface, xdg_surface = wire.new(), wire.new(on_configure)
    wire.send(compositor, 0, "u", surface)
    wire.send(shell, 2, "uu", xdg_surface, surface)
    wire.send(xdg_surface, 1, "u", wire.new())
    wire.send(surface, 6)
    wire.wait(lambda: configured)
    return surface


def buffer(wire: Connection, width: int, height: int, stride: int) -> int:
    """Make a buffer in a pool of its own."""
    pool = make_pool(wire, wire.bind("wl_shm", 1), stride * height)
    made = wire.new()
    wire.send(pool, 0, "uiiiiu", made, 0, width, height, stride, 1)
    return made


def make_pool(wire: Connection, shm: int, size: int) -> int:
    """Make a pool, and close its file."""
    fd = os.memfd_create("pool", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        pool = wire.new()
        wire.send(shm, 0, "ui", pool, size, fds=[fd])
    finally:
        os.close(fd)
    return pool


def show(surface: int, shown: int, width: int, height: int) -> bytes:
    """Attach, damage, commit: nobody waits for the frame."""
    return (
        encode(surface, 1, "uii", shown, 0, 0)
        + encode(surface, 9, "iiii", 0, 0, width, height)
        + encode(surface, 6, "")
    )


def syncs(wire: Connection) -> None:
    """Ask, and wait for all the answers."""
    while True:
        ids = [wire.new() for _ in range(BATCH // 12)]
        wire.send_raw(b"".join(encode(DISPLAY, 0, "u", each) for each in ids))
        wire.roundtrip()


def tiny_requests(wire: Connection) -> None:
    """Set a surface's scale."""
    surface = wire.new()
    wire.send(wire.bind("wl_compositor", 4), 0, "u", surface)
    repeat(wire, encode(surface, 8, "i", 1))


def commits(wire: Connection) -> None:
    """Commit nothing."""
    surface = wire.new()
    wire.send(wire.bind("wl_compositor", 4), 0, "u", surface)
    repeat(wire, encode(surface, 6, ""))


def frames(wire: Connection) -> None:
    """Show a small buffer without waiting."""
    repeat(wire, show(window(wire), buffer(wire, 64, 64, 256), 64, 64))


def copies(wire: Connection) -> None:
    """Show a 4K buffer without waiting: where it is copied, 33 MB for 56 bytes."""
    width, height = 3840, 2160
    made = buffer(wire, width, height, width * 4)
    repeat(wire, show(window(wire), made, width, height))


def thin_copies(wire: Connection) -> None:
    """Show a buffer of one pixel a row, and a great many rows."""
    height = 100_000
    repeat(wire, show(window(wire), buffer(wire, 16, height, 64), 1, height))


def registries(wire: Connection) -> None:
    """Ask for registries, and bind a global in each."""
    name, _ = wire.globals["wl_compositor"]
    while True:
        data = bytearray()
        for _ in range(100):
            registry = wire.new()
            data += encode(DISPLAY, 1, "u", registry)
            bound = (name, "wl_compositor", 1, wire.new())
            data += encode(registry, 0, "usuu", *bound)
        wire.send_raw(bytes(data))
        wire.roundtrip()


def objects(wire: Connection) -> None:
    """Make regions and surfaces, and destroy them."""
    compositor = wire.bind("wl_compositor", 4)
    while True:
        data = bytearray()
        for _ in range(500):
            surface, region = wire.new(), wire.new()
            data += encode(compositor, 0, "u", surface)
            data += encode(compositor, 1, "u", region)
            data += encode(surface, 0, "") + encode(region, 0, "")
        wire.send_raw(bytes(data))
        wire.roundtrip()


def pools(wire: Connection) -> None:
    """Make pools with a buffer, and destroy them."""
    shm = wire.bind("wl_shm", 1)
    while True:
        for _ in range(100):
            pool, made = make_pool(wire, shm, 1 << 20), wire.new()
            wire.send(pool, 0, "uiiiiu", made, 0, 256, 256, 1024, 1)
            wire.send_raw(encode(made, 0, "") + encode(pool, 1, ""))
        wire.roundtrip()


def pipes(wire: Connection) -> None:
    """Send pipes along, which no message asks for."""
    read, write = os.pipe()
    try:
        while True:
            fds = [read, write] * 10
            wire.send(DISPLAY, 0, "u", wire.new(), fds=fds)
            drain(wire)
    finally:
        os.close(read)
        os.close(write)


def connections(_wire: Connection) -> None:
    """Do nothing but to have connected: the next one comes at once."""


def deaf(wire: Connection) -> None:
    """Ask for registries, and read nothing of them."""
    while True:
        wire.send_raw(
            b"".join(encode(DISPLAY, 1, "u", wire.new()) for _ in range(BATCH // 12))
        )


def bytewise(wire: Connection) -> None:
    """Send messages a byte at a time, and the last one never to its end."""
    surface = wire.new()
    wire.send(wire.bind("wl_compositor", 4), 0, "u", surface)
    message = encode(surface, 8, "i", 1)
    while True:
        for index in range(len(message)):
            wire.send_raw(message[index : index + 1])
        drain(wire)


FLOODS: dict[str, Flood] = {
    each.__name__: each
    for each in (
        *(syncs, tiny_requests, commits, frames, copies, thin_copies, registries),
        *(objects, pools, pipes, connections, deaf, bytewise),
    )
}


def main(kind: str, display: str | None) -> NoReturn:
    """Flood until killed."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    flood = FLOODS[kind]
    while True:
        with contextlib.suppress(
            DisconnectedError, WaylandError, TimeoutError, OSError
        ):
            wire = Connection(display)
            try:
                flood(wire)
            finally:
                wire.close()
            continue  # whoever has done what there was to do is back at once
        time.sleep(AGAIN)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
