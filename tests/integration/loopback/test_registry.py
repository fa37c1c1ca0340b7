"""Apps that bind globals without waiting to hear of them, or end registries: a real server."""

import ctypes
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from pywayland.protocol.wayland import WlFixes

from tests.peers.libwayland import SYMBOLS, Resource, address
from tests.peers.loopback import Loopback

Talk = Callable[[Path, bytes], Awaitable[bytes]]
REGISTRY, BOUND, CALLBACK = 2, 3, 4


def message(object_id: int, opcode: int, body: bytes = b"") -> bytes:
    return struct.pack("=II", object_id, (8 + len(body)) << 16 | opcode) + body


def string(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("=I", len(data)) + data + bytes(-len(data) % 4)


def hasty(name: int, interface: str) -> bytes:
    """Ask for the globals, bind one, and sync, in one write."""
    new_id = string(interface) + struct.pack("=II", 1, BOUND)
    return (
        message(1, 1, struct.pack("=I", REGISTRY))
        + message(REGISTRY, 0, struct.pack("=I", name) + new_id)
        + message(1, 0, struct.pack("=I", CALLBACK))
    )


async def talk(path: Path, said: bytes) -> bytes:
    """Say something; return what comes until the sync is answered, or the end."""
    connected = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await connected.connect(str(path))
    heard = b""
    done = struct.pack("=II", CALLBACK, 12 << 16)
    with trio.fail_after(10), connected:
        await connected.send(said)
        while done not in heard:
            try:
                piece = await connected.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            heard += piece
    return heard


async def test_a_bind_in_the_write_that_asks_for_the_globals(
    loopback: Loopback,
) -> None:
    app = await loopback.app()
    name, _ = app.find("wl_output")

    heard = await talk(loopback.display, hasty(name, "wl_output"))

    assert b"loopback" in heard  # the output's model
    assert struct.pack("=II", CALLBACK, 12 << 16) in heard


@pytest.mark.parametrize("interface", ["zwlr_screencopy_manager_v1", "wl_output"])
async def test_a_hidden_global_cannot_be_had_by_its_number(
    loopback: Loopback, interface: str
) -> None:
    app = await loopback.app()
    direct = await loopback.direct_app()
    name, _ = direct.find("zwlr_screencopy_manager_v1")
    assert name not in app.globals

    heard = await talk(loopback.display, hasty(name, interface))

    assert f"invalid global {interface} ({name})".encode() in heard
    assert struct.pack("=II", CALLBACK, 12 << 16) not in heard


async def test_an_app_ends_its_registry_and_takes_another(loopback: Loopback) -> None:
    """libwayland serves registries itself, so that the compositor ends it by its id."""
    SYMBOLS.wl_client_get_object.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    SYMBOLS.wl_client_get_object.restype = ctypes.c_void_p
    SYMBOLS.wl_resource_destroy.argtypes = [ctypes.c_void_p]
    ended: list[int] = []

    def end(fixes: Resource, _registry: None) -> None:
        pointer = SYMBOLS.wl_client_get_object(address(fixes.client.pointer), REGISTRY)
        assert pointer
        SYMBOLS.wl_resource_destroy(pointer)
        ended.append(REGISTRY)

    compositor = loopback.compositor
    compositor.handlers["wl_fixes", "destroy_registry"] = end
    compositor.add_global(WlFixes, 1)
    app = await loopback.app()
    fixes = app.bind(WlFixes)
    known = dict(app.globals)
    app.end_registry(fixes)
    await app.roundtrip()
    assert ended == [REGISTRY]

    app.globals.clear()
    app.watch_globals()
    await app.roundtrip()

    assert app.globals == known
    canvas = app.canvas((32, 32))  # wl_shm is bound at the new one
    window = await app.window()
    drawn = canvas.draw(1)
    await app.show(window.surface, canvas)
    [surface] = compositor.surfaces()
    assert surface.frames == [drawn]
