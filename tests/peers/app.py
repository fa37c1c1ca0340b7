"""A Wayland app for tests: pywayland's client, without a call that blocks.

Its pools are in the file that stands for the guest's RAM, so that wherever the app draws
is where the host looks.
"""

import ctypes
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import trio
from pywayland.client.display import Display
from pywayland.protocol.wayland import WlCompositor, WlRegistry, WlShm
from pywayland.protocol.xdg_shell import XdgWmBase
from pywayland.protocol_core.interface import Interface

from tests.peers.libwayland import SYMBOLS, address

PAGE = 4096
TIMEOUT = 30
"""Seconds, for what takes milliseconds on a machine at rest."""

SYMBOLS.wl_display_get_protocol_error.argtypes = [ctypes.c_void_p] * 3
SYMBOLS.wl_display_get_protocol_error.restype = ctypes.c_uint32
SYMBOLS.wl_display_get_error.argtypes = [ctypes.c_void_p]
SYMBOLS.wl_proxy_get_id.argtypes = [ctypes.c_void_p]
SYMBOLS.wl_proxy_get_id.restype = ctypes.c_uint32


@dataclass(frozen=True, slots=True)
class ProtocolError:
    """What ended a connection, as libwayland tells the app."""

    interface: str
    object_id: int
    code: int


class Disconnected(Exception):  # noqa: N818 - what every Wayland app has to expect
    """The connection ended; `error` is what the compositor said, if it did."""

    def __init__(self, error: ProtocolError | None) -> None:
        super().__init__(error)
        self.error = error


class Ram:
    """The guest's RAM: a file, of which apps take pages."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.fd = os.memfd_create("ram", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, size)
        self._next = 0

    def take(self, size: int) -> int:
        """Set memory aside; returns its offset."""
        offset = self._next
        self._next += -(-size // PAGE) * PAGE
        assert self._next <= self.size - PAGE, "the last page is the token's"
        return offset

    def write(self, offset: int, data: bytes) -> None:
        assert os.pwrite(self.fd, data, offset) == len(data)

    def close(self) -> None:
        os.close(self.fd)


@dataclass(slots=True)
class Window:
    """A window of an app that was configured."""

    surface: Any
    xdg_surface: Any
    role: Any


class Canvas:
    """A buffer and where its pixels are."""

    def __init__(
        self, app: "App", pool: Any, offset: int, size: tuple[int, int], stride: int
    ) -> None:
        self.ram = app.ram
        self.offset = offset
        self.width, self.height = size
        self.stride = stride
        self.released = 0
        self.buffer = app.keep(
            pool.create_buffer(offset, self.width, self.height, stride, 1)
        )
        self.buffer.dispatcher["release"] = self._release

    def _release(self, _buffer: object) -> None:
        self.released += 1

    def draw(self, seed: int) -> bytes:
        """Fill it with a pattern, no two rows or frames of which are alike."""
        block = bytes((seed * 31 + i * 7 + (i >> 8) * 13) & 0xFF for i in range(4099))
        size = self.stride * self.height
        pixels = (block * (size // len(block) + 1))[:size]
        self.ram.write(self.offset, pixels)
        return pixels


class App:
    """A connection, used by one task at a time."""

    def __init__(self, display: Display, ram: Ram) -> None:
        self.display = display
        self.ram = ram
        # pywayland would know them weakly, and leave them to the garbage collector, which
        # may run in the thread of the proxy's probe: libwayland does not survive that.
        self._objects: set[Any] = set()
        display._children = self._objects  # type: ignore[assignment]
        self.globals: dict[int, tuple[str, int]] = {}
        self.removed: list[int] = []
        self._alive: list[Any] = []
        self._bound: dict[str, Any] = {}
        self.registry: Any = None
        self._registries: Any = None
        self.watch_globals()

    def watch_globals(self) -> None:
        """Take a registry, in place of one that there was."""
        self.registry = self.display.get_registry()
        self.registry.dispatcher["global"] = self._add_global
        self.registry.dispatcher["global_remove"] = self._remove_global
        self._registries = WeakValueDictionary({self.registry._ptr: self.registry})

    def end_registry(self, fixes: Any) -> None:
        """Destroy the registry, as wl_fixes lets apps do."""
        fixes.destroy_registry(self.registry)
        self.registry._destroy()

    @classmethod
    async def connect(cls, path: Path, ram: Ram) -> "App":
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.connect(str(path))
        display = Display(connected.detach())
        display.connect()
        app = cls(display, ram)
        try:
            await app.roundtrip()
        except BaseException:
            app.close()
            raise
        return app

    def keep(self, proxy: Any) -> Any:
        """Keep an object from being collected: events about it would find nothing."""
        self._alive.append(proxy)
        return proxy

    def close(self) -> None:
        """Hang up, whatever was going on; again is harmless."""
        # Without the requests of `destroy`, as if killed.
        for proxy in self._objects:
            proxy._destroy()
        self._objects.clear()
        self._alive.clear()
        self._bound.clear()
        self.display.disconnect()

    def bind(self, interface: type[Interface], version: int | None = None) -> Any:
        """Bind a global, once, at the version that is advertised."""
        if interface.name not in self._bound:
            name, found = self.find(interface.name)
            self._bound[interface.name] = self.registry.bind(
                name, interface, version or min(found, interface.version)
            )
        return self._bound[interface.name]

    def find(self, interface: str) -> tuple[int, int]:
        """Name and version of a global."""
        [found] = [
            (name, version)
            for name, (known, version) in self.globals.items()
            if known == interface
        ]
        return found

    @property
    def interfaces(self) -> dict[str, int]:
        return dict(self.globals.values())

    @property
    def ids(self) -> list[int]:
        """The ids of its objects, in the order it made them."""
        kept = [*self._bound.values(), *self._alive]
        return [1, *[object_id(each) for each in (self.registry, *kept)]]

    @property
    def error(self) -> ProtocolError | None:
        """The protocol error that ended the connection."""
        pointer = address(self.display._ptr)
        interface, object_id = ctypes.c_void_p(), ctypes.c_uint32()
        if SYMBOLS.wl_display_get_error(pointer) != 71:  # EPROTO
            return None
        code = SYMBOLS.wl_display_get_protocol_error(
            pointer, ctypes.byref(interface), ctypes.byref(object_id)
        )
        name = ""
        if interface.value:  # struct wl_interface begins with its name
            name = (ctypes.c_char_p.from_address(interface.value).value or b"").decode()
        return ProtocolError(name, object_id.value, code)

    async def pump(self) -> None:
        """Send what is to be sent, wait for events, handle them.

        Raises:
            Disconnected: the connection has ended.
        """
        try:
            if self._dispatch():
                return
            self.display.flush()
            await trio.lowlevel.wait_readable(self.display.get_fd())
            self.display.read()
            self._dispatch()
        except RuntimeError as exc:
            raise Disconnected(self.error) from exc

    async def until(self, done: Callable[[], object]) -> None:
        """Handle events until something is so."""
        with trio.fail_after(TIMEOUT):
            while not done():
                await self.pump()
        self.display.flush()

    async def roundtrip(self) -> None:
        answers: list[int] = []
        callback = self.display.sync()
        callback.dispatcher["done"] = lambda _callback, data: answers.append(data)
        await self.until(lambda: answers)

    async def disconnected(self) -> ProtocolError | None:
        """Wait for the connection to end; returns the compositor's error, if any."""
        try:
            await self.until(lambda: False)
        except Disconnected as exc:
            return exc.error
        raise AssertionError("unreachable")

    def pool(self, size: int) -> Any:
        """Make a pool of the RAM, from its start."""
        return self.keep(self.bind(WlShm).create_pool(self.ram.fd, size))

    def canvas(
        self, size: tuple[int, int], pool: Any = None, stride: int = 0
    ) -> Canvas:
        """Make a buffer, in a pool of the whole RAM unless another is given."""
        stride = stride or size[0] * 4
        offset = self.ram.take(stride * size[1])
        own = pool or self.pool(offset + stride * size[1])
        return Canvas(self, own, offset, size, stride)

    def surface(self) -> Any:
        return self.keep(self.bind(WlCompositor).create_surface())

    async def window(self) -> Window:
        """Make a window and go through xdg-shell's handshake."""
        surface = self.surface()
        xdg_surface = self.keep(self.bind(XdgWmBase).get_xdg_surface(surface))
        toplevel = self.keep(xdg_surface.get_toplevel())
        serials = self.record(xdg_surface, "configure")
        surface.commit()
        await self.until(lambda: serials)
        xdg_surface.ack_configure(serials[0][0])
        return Window(surface, xdg_surface, toplevel)

    def record(self, proxy: Any, *events: str) -> list[tuple[Any, ...]]:
        """Collect the arguments of events, in order."""
        seen: list[tuple[Any, ...]] = []
        for event in events:
            proxy.dispatcher[event] = lambda _proxy, *args: seen.append(args)
        return seen

    async def show(self, surface: Any, canvas: Canvas, *damage: int) -> None:
        """Attach a buffer, commit, and wait until the compositor has seen it."""
        surface.attach(canvas.buffer, 0, 0)
        surface.damage_buffer(*(damage or (0, 0, canvas.width, canvas.height)))
        surface.commit()
        await self.roundtrip()

    def _dispatch(self) -> int:
        # What comes with an event would else be taken for another connection's.
        WlRegistry.registry = self._registries
        return self.display.dispatch(block=False)

    def _add_global(self, _: object, name: int, interface: str, version: int) -> None:
        self.globals[name] = (interface, version)

    def _remove_global(self, _: object, name: int) -> None:
        del self.globals[name]
        self.removed.append(name)


def object_id(proxy: Any) -> int:
    found: int = SYMBOLS.wl_proxy_get_id(address(proxy._ptr))
    return found
