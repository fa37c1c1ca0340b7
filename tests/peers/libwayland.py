"""The compositor's side of libwayland, for any protocol in pywayland's tables.

pywayland's own server can neither create objects in requests nor in events, so this
calls libwayland-server itself and takes from pywayland the tables only.  What requests
do is not known here: `compositor` says that.  Everything runs in the thread of trio.
"""

import ctypes
import os
import platform
import re
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pywayland
import pywayland._ffi
import trio
from pywayland.protocol_core.argument import (  # type: ignore[attr-defined]
    ArgumentType,
)
from pywayland.protocol_core.interface import Interface

ffi: Any = pywayland.ffi
lib: Any = pywayland.lib
Type = type[Interface]
Bind = Callable[["Resource"], None]

SYMBOLS = ctypes.CDLL(pywayland._ffi.__file__)
"""The functions of libwayland that pywayland has no declaration of."""
SYMBOLS.wl_event_loop_get_fd.argtypes = [ctypes.c_void_p]
SYMBOLS.wl_client_get_fd.argtypes = [ctypes.c_void_p]
SYMBOLS.wl_global_remove.argtypes = [ctypes.c_void_p]
EPOLL_CTL_MOD = 3
LIBC = ctypes.CDLL(None, use_errno=True)


class EpollEvent(ctypes.Structure):
    """Struct epoll_event."""

    _pack_ = 1 if platform.machine() == "x86_64" else 0
    _fields_ = (("events", ctypes.c_uint32), ("data", ctypes.c_uint64))


def address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


@dataclass(frozen=True, slots=True)
class Called:
    """A request that came."""

    resource: "Resource"
    name: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        args = ", ".join(str(arg) for arg in self.args)
        return f"{self.resource.interface.name}.{self.name}({args})"


class ServerClient:
    """One connection, as libwayland has it."""

    def __init__(self, display: "ServerDisplay", fd: int) -> None:
        self.display = display
        self.pointer = lib.wl_client_create(display.pointer, fd)
        self.resources: list[Resource] = []
        self.gone = trio.Event()
        self._listener = ffi.new("struct wl_listener *")
        self._listener.notify = C_CLIENT_DESTROYED
        _clients[address(self._listener)] = self
        lib.wl_client_add_destroy_listener(self.pointer, self._listener)
        display.clients.append(self)

    def find(self, interface: str) -> "Resource":
        """The newest object of an interface."""
        return self.all(interface)[-1]

    def all(self, interface: str) -> list["Resource"]:
        return [r for r in self.resources if r.interface.name == interface]

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Read nothing of it for a while; all others are served."""
        loop = lib.wl_display_get_event_loop(self.display.pointer)
        epoll = SYMBOLS.wl_event_loop_get_fd(address(loop))
        connection = os.fstat(SYMBOLS.wl_client_get_fd(address(self.pointer)))
        # There is no call for it, so it is done behind libwayland's back: what it has
        # asked of the kernel is asked anew, with and without events.
        known = Path(f"/proc/self/fdinfo/{epoll}").read_text()
        [(fd, data)] = [
            (int(fd), int(data, 16))
            for fd, data in re.findall(r"tfd: +(\d+) .* data: +([0-9a-f]+)", known)
            if os.path.samestat(os.fstat(int(fd)), connection)
        ]

        def watch(events: int) -> None:
            event = EpollEvent(events, data)
            if LIBC.epoll_ctl(epoll, EPOLL_CTL_MOD, fd, ctypes.byref(event)):
                raise OSError(ctypes.get_errno(), "epoll_ctl")

        watch(0)
        try:
            yield
        finally:
            watch(select.EPOLLIN)

    def disconnect(self) -> None:
        lib.wl_client_destroy(self.pointer)

    def closed(self) -> None:
        self.display.clients.remove(self)
        self.gone.set()


class Resource:
    """An object of a client."""

    def __init__(
        self, client: ServerClient, interface: Type, version: int, object_id: int = 0
    ) -> None:
        """Create it; without an id, it gets one of the server's."""
        self.client = client
        self.interface = interface
        self.version = version
        self.state: Any = None
        self.on_destroy: list[Callable[[], object]] = []
        self.pointer = lib.wl_resource_create(
            client.pointer, interface._ptr, version, object_id
        )
        lib.wl_resource_set_dispatcher(
            self.pointer, C_REQUEST, ffi.NULL, ffi.NULL, C_RESOURCE_DESTROYED
        )
        self.object_id: int = lib.wl_resource_get_id(self.pointer)
        _resources[address(self.pointer)] = self
        client.resources.append(self)

    def __str__(self) -> str:
        return f"{self.interface.name}#{self.object_id}"

    @property
    def alive(self) -> bool:
        return self.pointer is not None

    def send(self, event: str, *args: Any) -> None:
        """Send an event; an fd stays the caller's."""
        names = [message.name for message in self.interface.events]
        opcode = names.index(event)
        kinds = self.interface.events[opcode].arguments
        values = ffi.new("union wl_argument[]", len(kinds))
        keep: list[Any] = []
        for value, kind, arg in zip(values, kinds, args, strict=True):
            _encode(value, kind.argument_type, arg, keep)
        lib.wl_resource_post_event_array(self.pointer, opcode, values)
        lib.wl_client_flush(self.client.pointer)

    def post_error(self, code: int, message: str) -> None:
        lib.wl_resource_post_error(self.pointer, code, message.encode())
        lib.wl_client_flush(self.client.pointer)

    def destroy(self) -> None:
        if self.pointer is not None:
            lib.wl_resource_destroy(self.pointer)

    def closed(self) -> None:
        self.pointer = None
        self.client.resources.remove(self)
        for callback in self.on_destroy:
            callback()


class ServerDisplay:
    """A libwayland display with a socket; runs as a task."""

    def __init__(self) -> None:
        self.pointer = lib.wl_display_create()
        self.clients: list[ServerClient] = []
        self.calls: list[Called] = []
        self.handlers: dict[tuple[str, str], Callable[..., None]] = {}
        self.going = trio.Event()
        self.going.set()
        self._binds: dict[int, Any] = {}

    def add_global(
        self, interface: Type, version: int, bind: Bind | None = None
    ) -> int:
        """Advertise a global; returns what `remove_global` takes."""
        handle = ffi.new_handle((self, interface, bind))
        pointer = lib.wl_global_create(
            self.pointer, interface._ptr, version, handle, C_BOUND
        )
        self._binds[address(pointer)] = handle
        lib.wl_display_flush_clients(self.pointer)
        return address(pointer)

    def remove_global(self, name: int) -> None:
        """Withdraw a global as compositors do: who binds it just now is not in error."""
        SYMBOLS.wl_global_remove(name)
        lib.wl_display_flush_clients(self.pointer)

    def add_native_shm(self) -> None:
        """Advertise libwayland's own wl_shm."""
        lib.wl_display_init_shm(self.pointer)

    def pause(self) -> None:
        """Read nothing until `going` is set."""
        self.going = trio.Event()

    def called(self, name: str) -> list[Called]:
        """The requests so far of a name such as "wl_surface.commit"."""
        interface, _, request = name.partition(".")
        return [
            call
            for call in self.calls
            if (call.resource.interface.name, call.name) == (interface, request)
        ]

    async def run(
        self,
        path: Path,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve at a socket until cancelled; then disconnect everybody."""
        loop = lib.wl_display_get_event_loop(self.pointer)
        fd = SYMBOLS.wl_event_loop_get_fd(address(loop))
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))
        listening.listen(100)
        with trio.socket.from_stdlib_socket(listening) as listener:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._accept, listener)
                    task_status.started()
                    while True:
                        lib.wl_display_flush_clients(self.pointer)
                        await trio.lowlevel.wait_readable(fd)
                        await self.going.wait()
                        lib.wl_event_loop_dispatch(loop, 0)
                        if _failures:
                            raise _failures.pop()
            finally:
                os.unlink(path)
                lib.wl_display_destroy_clients(self.pointer)
                lib.wl_display_destroy(self.pointer)

    async def _accept(self, listener: trio.socket.SocketType) -> None:
        while True:
            connected, _ = await listener.accept()
            ServerClient(self, connected.detach())

    def dispatch(self, call: Called) -> None:
        self.calls.append(call)
        handler = self.handlers.get((call.resource.interface.name, call.name))
        if handler is not None:
            handler(call.resource, *call.args)
        if call.name in ("destroy", "release"):
            call.resource.destroy()


_resources: dict[int, Resource] = {}
_clients: dict[int, ServerClient] = {}
_failures: list[BaseException] = []


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - nothing may reach libwayland's C
        _failures.append(exc)


def _request(_data: Any, target: Any, opcode: int, _message: Any, args: Any) -> int:
    with _reported():
        resource = _resources[address(target)]
        message = resource.interface.requests[opcode]
        decoded = [
            _decode(resource, args[index], kind)
            for index, kind in enumerate(message.arguments)
        ]
        resource.client.display.dispatch(Called(resource, message.name, tuple(decoded)))
    return 0


def _resource_destroyed(pointer: Any) -> None:
    with _reported():
        _resources.pop(address(pointer)).closed()


def _client_destroyed(listener: Any, _data: Any) -> None:
    with _reported():
        _clients.pop(address(listener)).closed()


def _bound(client_pointer: Any, data: Any, version: int, object_id: int) -> None:
    with _reported():
        display, interface, bind = ffi.from_handle(data)
        [client] = [c for c in display.clients if c.pointer == client_pointer]
        resource = Resource(client, interface, version, object_id)
        if bind is not None:
            bind(resource)


C_REQUEST = ffi.callback("wl_dispatcher_func_t", _request)
C_RESOURCE_DESTROYED = ffi.callback("wl_resource_destroy_func_t", _resource_destroyed)
C_CLIENT_DESTROYED = ffi.callback("wl_notify_func_t", _client_destroyed)
C_BOUND = ffi.callback("wl_global_bind_func_t", _bound)


def _decode(parent: Resource, value: Any, kind: Any) -> Any:
    match kind.argument_type:
        case ArgumentType.Int:
            return value.i
        case ArgumentType.Uint:
            return value.u
        case ArgumentType.Fixed:
            return value.f / 256
        case ArgumentType.FileDescriptor:
            return value.h
        case ArgumentType.String:
            return None if value.s == ffi.NULL else ffi.string(value.s).decode()
        case ArgumentType.Array:
            return ffi.buffer(value.a.data, value.a.size)[:]
        case ArgumentType.Object:
            return None if value.o == ffi.NULL else _resources.get(address(value.o))
        case _:
            return Resource(parent.client, kind.interface, parent.version, value.n)


def _encode(value: Any, kind: ArgumentType, arg: Any, keep: list[Any]) -> None:
    match kind:
        case ArgumentType.Int:
            value.i = arg
        case ArgumentType.Uint:
            value.u = arg
        case ArgumentType.Fixed:
            value.f = int(arg * 256)
        case ArgumentType.FileDescriptor:
            value.h = arg
        case ArgumentType.String:
            keep.append(ffi.new("char[]", arg.encode()))
            value.s = keep[-1]
        case ArgumentType.Array:
            keep.append(ffi.from_buffer(arg))
            array = ffi.new("struct wl_array *")
            array.size = array.alloc = len(arg)
            array.data = keep[-1]
            keep.append(array)
            value.a = array
        case _:
            pointer = ffi.NULL if arg is None else arg.pointer
            value.o = ffi.cast("struct wl_object *", pointer)
