"""A Wayland client that does as it is told, one JSON object a line.

    {"op": "pool", "pool": "p", "size": 4096, "kind": "memfd"}   ->   {"ok": {...}}

Answers are `{"ok": ...}` or `{"error": [kind, text]}`; a protocol error of the
compositor's has the kind "wayland" and its object's name in the text.  It draws
`pattern`s into buffers of every shape that toolkits make, and of shapes that they had
better not make.  Runs in the guest (started by `spawner`) and natively; standard
library only.
"""

import fcntl
import json
import mmap
import os
import random
import select
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.clients import numa, pattern
from tests.clients.wire import (
    DISPLAY,
    Connection,
    DisconnectedError,
    WaylandError,
    encode,
)

PAGE = 4096
F_ADD_SEALS = 1033
F_SEAL_SHRINK = 2
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
ANSWER = 60.0
"""Seconds to wait for the compositor, under emulation on a busy machine."""


@dataclass(slots=True)
class Pool:
    """A `wl_shm_pool`, its file and our mapping of it."""

    object_id: int
    fd: int
    size: int
    memory: mmap.mmap


@dataclass(slots=True)
class Buffer:
    """A `wl_buffer` in a pool."""

    object_id: int
    pool: Pool
    offset: int
    width: int
    height: int
    stride: int
    releases: int = 0


@dataclass(slots=True)
class Surface:
    """A `wl_surface`; configured once its shell surface is."""

    object_id: int
    configured: bool = False
    size: tuple[int, int] = (0, 0)
    closed: bool = False
    shell: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Animation:
    """Frames shown one after the other, each when the last one's callback came."""

    surface: Surface
    buffers: list[Buffer]
    wanted: int
    draw: bool
    damage: list[int] | None
    first: int
    shown: int = 0
    last: int = 0
    gaps: list[int] = field(default_factory=list)
    """Nanoseconds between callbacks."""


class Client:
    """The client: a connection, and everything it made, by name."""

    def __init__(self, display: str | None = None) -> None:
        self._display = display
        self._wire: Connection | None = None
        self._bound: dict[str, int] = {}
        self._pools: dict[str, Pool] = {}
        self._buffers: dict[str, Buffer] = {}
        self._surfaces: dict[str, Surface] = {}
        self._animations: dict[str, Animation] = {}
        self._mappings: list[mmap.mmap] = []
        self._pipes: list[int] = []
        self._crowd: list[Client] = []
        self._deaf = False
        self._lost: Exception | None = None

    @property
    def wire(self) -> Connection:
        """The connection.

        Raises:
            DisconnectedError: it was lost while nobody asked for anything.
            WaylandError: the compositor ended it then.
        """
        if self._lost is not None:
            raise self._lost
        if self._wire is None:
            self._wire = Connection(self._display)
        return self._wire

    def execute(self, command: dict[str, Any]) -> object:
        """Carry out one command."""
        operation: Callable[..., object] = getattr(self, f"op_{command.pop('op')}")
        return operation(**command)

    def op_sequence(self, commands: list[dict[str, Any]]) -> object:
        """Carry out several commands; returns what the last one does."""
        return [self.execute(command) for command in commands][-1]

    def fileno(self) -> int | None:
        """What to wait for events on; None: there is no connection."""
        if self._wire is None or self._lost is not None or self._deaf:
            return None
        return self._wire.socket.fileno()

    def dispatch(self) -> None:
        """Handle events that came; a lost connection is for whoever asks next."""
        try:
            self.wire.dispatch(0)
        except (DisconnectedError, WaylandError, OSError) as error:
            self._lost = error

    # ---- the connection

    def op_connect(self) -> list[tuple[int, str, int]]:
        """Connect, and return the globals."""
        return self.wire.all_globals

    def op_roundtrip(self, timeout: float = ANSWER) -> None:
        """Wait until the compositor has seen everything."""
        self.wire.roundtrip(timeout)

    def op_connected(self) -> None:
        """Fail if the connection has ended, as far as is known."""
        self.wire.readable(0)

    def op_expect_disconnect(self, timeout: float = ANSWER) -> str:
        """Wait for the connection to end."""
        try:
            self.wire.wait(lambda: False, timeout)
        except (DisconnectedError, WaylandError) as error:
            return f"{type(error).__name__}: {error}"
        raise AssertionError("unreachable")

    def op_reconnect(self) -> None:
        """Drop everything and connect anew."""
        if self._wire is not None:
            self._wire.close()
        self.__init__(self._display)  # type: ignore[misc]
        self.wire.roundtrip(ANSWER)

    def op_raw(
        self, data: str = "", fds: tuple[str, ...] = (), repeat: int = 1
    ) -> None:
        """Send bytes (hex) as they are, with fds of some kinds."""
        for _ in range(repeat):
            opened = [self._open_fd(kind) for kind in fds]
            try:
                self.wire.send_raw(bytes.fromhex(data), opened)
            finally:
                for fd in opened:
                    os.close(fd)

    def op_syncs_with_fds(self, count: int, fds: tuple[str, ...]) -> None:
        """Send messages that take no fd, each with some."""
        for _ in range(count):
            opened = [self._open_fd(kind) for kind in fds]
            try:
                self.wire.send(DISPLAY, 0, "u", self.wire.new(), fds=opened)
            finally:
                for fd in opened:
                    os.close(fd)
        self.wire.roundtrip(ANSWER)

    def op_request(
        self, target: str, opcode: int, signature: str = "", args: tuple[Any, ...] = ()
    ) -> None:
        """Send a request to a named object; "@NAME" among the args is an object too."""
        numbers = [
            self._object(each[1:])
            if isinstance(each, str) and each.startswith("@")
            else each
            for each in args
        ]
        self.wire.send(self._object(target), opcode, signature, *numbers)

    def op_many_objects(self, count: int) -> None:
        """Make a great many objects and keep them."""
        compositor = self._global("wl_compositor", 4)
        data = bytearray()
        for _ in range(count):
            data += encode(compositor, 1, "u", self.wire.new())
            if len(data) > 32768:
                self.wire.send_raw(bytes(data))
                data.clear()
        self.wire.send_raw(bytes(data))
        self.wire.roundtrip(ANSWER)

    def op_unread(self, count: int) -> None:
        """Ask for so many registries, and do not read the answers (about 1 KiB each)."""
        self._deaf = True
        new = [self.wire.new() for _ in range(count)]
        self.wire.send_raw(b"".join(encode(DISPLAY, 1, "u", each) for each in new))

    def op_exit(self) -> None:
        """End at once, as a crash would."""
        os._exit(3)

    # ---- memory

    def op_pool(
        self,
        pool: str,
        size: int,
        kind: str = "sealed",
        scatter: int = 0,
        claim: int = 0,
        stripe: int = 0,
        pin: bool = False,
    ) -> None:
        """Make a pool.

        Args:
            pool: its name.
            size: bytes of its file.
            kind: sealed, memfd (no seals allowed), tmpfs (an unlinked file) or
                readonly (the pool gets an fd that cannot be written to).
            scatter: not 0: touch the pages in random order, this the seed, so that
                they are not contiguous.
            claim: what the pool is said to be, if not `size`.
            stripe: not 0: so many bytes are on NUMA node 0, as many on node 1, and so on.
            pin: hold every page in a pipe, so that the kernel cannot move it.
        """
        fd = _make_file(kind, size)
        memory = mmap.mmap(fd, size)
        if stripe:
            for offset in range(0, size, stripe):
                length = min(stripe, size - offset)
                numa.bind(memory, offset, length, offset // stripe % 2)
        if scatter:
            pages = list(range(0, size, PAGE))
            random.Random(scatter).shuffle(pages)
            for offset in pages:
                memory[offset] = 1
        passed = fd
        if kind == "readonly":
            passed = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        shm, object_id = self._global("wl_shm", 1), self.wire.new()
        self.wire.send(shm, 0, "ui", object_id, claim or size, fds=[passed])
        if passed != fd:
            os.close(passed)
        self._pools[pool] = Pool(object_id, fd, size, memory)
        if pin:
            self._pipes += _pin(fd, size)

    def op_wrong_pool(self, kind: str, size: int = PAGE) -> None:
        """Pass something as a pool that is none."""
        fd = self._open_fd(kind)
        shm = self._global("wl_shm", 1)
        self.wire.send(shm, 0, "ui", self.wire.new(), size, fds=[fd])
        os.close(fd)
        self.wire.roundtrip(ANSWER)

    def op_grow(self, pool: str, size: int) -> None:
        """Grow a pool and its file."""
        target = self._pools[pool]
        os.ftruncate(target.fd, size)
        self._mappings.append(target.memory)
        target.memory, target.size = mmap.mmap(target.fd, size), size
        self.wire.send(target.object_id, 2, "i", size)

    def op_destroy_pool(self, pool: str) -> None:
        """Destroy a pool, and close its file; the mapping stays for drawing."""
        target = self._pools.pop(pool)
        self.wire.send(target.object_id, 1)
        os.close(target.fd)

    def op_punch(self, pool: str, offset: int, length: int) -> None:
        """Punch a hole into a pool's file, as foot does behind itself."""
        libc_fallocate(
            self._pools[pool].fd,
            FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            offset,
            length,
        )

    def op_nodes(self, pool: str) -> list[int]:
        """Return the NUMA node of each page of a pool, all of which were drawn into."""
        return numa.nodes(self._pools[pool].memory)

    def op_blocks(self, pool: str) -> int:
        """Return the bytes of memory that a pool's file has."""
        return os.fstat(self._pools[pool].fd).st_blocks * 512

    def op_buffer(
        self,
        buffer: str,
        pool: str,
        width: int,
        height: int,
        offset: int = 0,
        stride: int = 0,
        shm_format: int = 1,
    ) -> None:
        """Make a buffer; a stride of 0 is the smallest that fits."""
        owner, object_id = self._pools[pool], self.wire.new()
        made = Buffer(object_id, owner, offset, width, height, stride or width * 4)

        def on_release(_opcode: int, _data: bytes) -> None:
            made.releases += 1

        self.wire.handle(object_id, on_release)
        geometry = (offset, width, height, made.stride, shm_format)
        self.wire.send(owner.object_id, 0, "uiiiiu", object_id, *geometry)
        self._buffers[buffer] = made

    def op_draw(
        self,
        buffer: str,
        frame: int,
        rectangle: tuple[int, int, int, int] | None = None,
    ) -> None:
        """Draw a frame of the pattern, or a rectangle of it."""
        _draw(self._buffers[buffer], frame, rectangle)

    def op_destroy_buffer(self, buffer: str) -> None:
        """Destroy a buffer."""
        self.wire.send(self._buffers.pop(buffer).object_id, 0)

    def op_wait_release(self, buffer: str, count: int = 1) -> int:
        """Wait until a buffer has been released `count` times."""
        made = self._buffers[buffer]
        self.wire.wait(lambda: made.releases >= count, ANSWER)
        return made.releases

    # ---- surfaces

    def op_toplevel(
        self, surface: str, *, fullscreen: bool = True, title: str = "pattern"
    ) -> tuple[int, int]:
        """Make a window and wait until it is configured; returns its size."""
        compositor = self._global("wl_compositor", 4)
        shell = self._global("xdg_wm_base", 1, self._on_shell)
        made = Surface(self.wire.new())
        self.wire.send(compositor, 0, "u", made.object_id)

        def on_shell_surface(_opcode: int, data: bytes) -> None:
            (serial,) = struct.unpack("=I", data)
            self.wire.send(made.shell["xdg_surface"], 4, "u", serial)
            made.configured = True

        def on_toplevel(opcode: int, data: bytes) -> None:
            if opcode == 0:
                made.size = struct.unpack_from("=ii", data)
            elif opcode == 1:
                made.closed = True

        xdg_surface = self.wire.new(on_shell_surface)
        toplevel = self.wire.new(on_toplevel)
        made.shell = {"xdg_surface": xdg_surface, "xdg_toplevel": toplevel}
        self.wire.send(shell, 2, "uu", xdg_surface, made.object_id)
        self.wire.send(xdg_surface, 1, "u", toplevel)
        self.wire.send(toplevel, 2, "s", title)
        self.wire.send(toplevel, 3, "s", "wlproxy.pattern")
        if fullscreen:
            self.wire.send(toplevel, 11, "u", 0)
        self.wire.send(made.object_id, 6)
        self._surfaces[surface] = made
        self.wire.wait(lambda: made.configured, ANSWER)
        return made.size

    def op_subsurface(self, surface: str, parent: str, x: int = 0, y: int = 0) -> None:
        """Make a desynchronised subsurface."""
        compositor = self._global("wl_compositor", 4)
        manager = self._global("wl_subcompositor", 1)
        made, role = Surface(self.wire.new(), configured=True), self.wire.new()
        self.wire.send(compositor, 0, "u", made.object_id)
        parent_id = self._surfaces[parent].object_id
        self.wire.send(manager, 1, "uuu", role, made.object_id, parent_id)
        self.wire.send(role, 1, "ii", x, y)
        self.wire.send(role, 5)
        self.wire.send(parent_id, 6)  # the position is the parent's state
        made.shell = {"wl_subsurface": role}
        self._surfaces[surface] = made

    def op_viewport(
        self, surface: str, source: tuple[int, int, int, int] | None
    ) -> None:
        """Show a part of the surface's buffer, in its own size."""
        made = self._surfaces[surface]
        viewport = made.shell.get("wp_viewport")
        if viewport is None:
            viewporter = self._global("wp_viewporter", 1)
            viewport = made.shell["wp_viewport"] = self.wire.new()
            self.wire.send(viewporter, 1, "uu", viewport, made.object_id)
        fixed = [each * 256 for each in source] if source else [-256] * 4
        self.wire.send(viewport, 1, "iiii", *fixed)

    def op_show(
        self,
        surface: str,
        buffer: str | None = None,
        damage: tuple[int, int, int, int] | None = None,
        *,
        wait: bool = True,
    ) -> None:
        """Attach, damage (everything, or a rectangle), commit; wait for its frame."""
        target = self._surfaces[surface]
        shown = self._buffers[buffer] if buffer else None
        done = self._commit(target, shown, damage)
        if wait:
            self.wire.wait(lambda: done, ANSWER)

    def op_destroy_surface(self, surface: str) -> None:
        """Destroy a surface and its role."""
        target = self._surfaces.pop(surface)
        for name in ("wp_viewport", "wl_subsurface", "xdg_toplevel", "xdg_surface"):
            if name in target.shell:
                self.wire.send(target.shell[name], 0)
        self.wire.send(target.object_id, 0)

    # ---- animation

    def op_animate(
        self,
        surface: str,
        buffers: list[str],
        frames: int = 0,
        *,
        draw: bool = True,
        damage: list[int] | None = None,
        first: int = 0,
    ) -> None:
        """Start showing frames; 0: without end.  Go on with `animation`."""
        chosen = [self._buffers[each] for each in buffers]
        target = self._surfaces[surface]
        animation = Animation(target, chosen, frames, draw, damage, first)
        self._animations[surface] = animation
        self._advance(animation)

    def op_animation(self, surface: str, *, wait: bool = False) -> dict[str, Any]:
        """Say how an animation is doing; with `wait`, after its last frame."""
        animation = self._animations[surface]
        if wait:
            deadline = time.monotonic() + 10 * ANSWER
            while animation.shown < animation.wanted:
                self.wire.dispatch(deadline - time.monotonic())
        return {"shown": animation.shown, "gaps": animation.gaps}

    def op_forget_gaps(self, surface: str) -> None:
        """Begin to measure anew."""
        self._animations[surface].gaps.clear()

    def op_stop(self, surface: str) -> int:
        """Stop an animation; returns the frames it has shown."""
        animation = self._animations[surface]
        animation.wanted = -1
        return animation.shown

    # ---- many clients in one process

    def op_crowd(self, count: int) -> None:
        """Be many clients, each with a connection and an animation of its own."""
        for index in range(count):
            each = Client(self._display)
            each.op_toplevel("window", fullscreen=False, title=f"crowd {index}")
            each.op_pool("pool", 2 * 64 * 64 * 4)
            each.op_buffer("b0", "pool", 64, 64)
            each.op_buffer("b1", "pool", 64, 64, offset=64 * 64 * 4)
            each.op_show("window", "b0", wait=False)
            each.op_roundtrip()
            self._crowd.append(each)
        for each in self._crowd:
            each.op_animate("window", ["b0", "b1"], draw=False)

    def op_crowd_watch(self, seconds: float) -> list[int]:
        """Let them animate; returns how many frames each has shown in that time."""
        animations = [
            each._animations["window"]  # noqa: SLF001 - of its own class
            for each in self._crowd
        ]
        before = [each.shown for each in animations]
        deadline = time.monotonic() + seconds
        waiting = {each.wire.socket.fileno(): each for each in self._crowd}
        while (left := deadline - time.monotonic()) > 0:
            for fd in select.select(list(waiting), [], [], left)[0]:
                waiting[fd].wire.dispatch(0)
        return [
            each.shown - began for each, began in zip(animations, before, strict=True)
        ]

    def _advance(self, animation: Animation) -> None:
        frame = animation.shown
        buffer = animation.buffers[frame % len(animation.buffers)]
        if animation.draw:
            _draw(buffer, animation.first + frame, None)

        def on_done() -> None:
            now = time.monotonic_ns()
            if animation.last:
                animation.gaps.append(now - animation.last)
            animation.last = now
            animation.shown += 1
            if not animation.wanted or animation.shown < animation.wanted:
                self._advance(animation)

        rectangle = tuple(animation.damage) if animation.damage else None
        self._commit(animation.surface, buffer, rectangle, on_done)

    # ---- the rest

    def _commit(
        self,
        surface: Surface,
        buffer: Buffer | None,
        damage: tuple[int, ...] | None,
        then: Callable[[], None] | None = None,
    ) -> list[int]:
        done: list[int] = []

        def on_frame(_opcode: int, _data: bytes) -> None:
            done.append(1)
            if then is not None:
                then()

        callback = self.wire.new(on_frame)
        everything = (0, 0, buffer.width, buffer.height) if buffer else (0, 0, 1, 1)
        target = surface.object_id
        data = encode(target, 1, "uii", buffer.object_id if buffer else 0, 0, 0)
        data += encode(target, 9, "iiii", *(damage or everything))
        data += encode(target, 3, "u", callback) + encode(target, 6, "")
        self.wire.send_raw(bytes(data))
        return done

    def _on_shell(self, opcode: int, data: bytes) -> None:
        if opcode == 0:
            (serial,) = struct.unpack("=I", data)
            self.wire.send(self._bound["xdg_wm_base"], 3, "u", serial)

    def _global(
        self,
        interface: str,
        version: int,
        handler: Callable[[int, bytes], None] | None = None,
    ) -> int:
        wire = self.wire
        if interface not in self._bound:
            self._bound[interface] = wire.bind(interface, version, handler)
        return self._bound[interface]

    def _object(self, name: str) -> int:
        if name in self._surfaces:
            return self._surfaces[name].object_id
        if name in self._buffers:
            return self._buffers[name].object_id
        if name in self._pools:
            return self._pools[name].object_id
        return DISPLAY if name == "wl_display" else self._global(name, 1)

    @staticmethod
    def _open_fd(kind: str) -> int:
        if kind == "pipe":
            read, write = os.pipe()
            os.close(write)
            return read
        if kind == "null":
            return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if kind == "directory":
            return os.open("/", os.O_RDONLY | os.O_CLOEXEC)
        return _make_file(kind, PAGE)


def _make_file(kind: str, size: int) -> int:
    match kind:
        case "sealed" | "readonly":
            fd = os.memfd_create("pool", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
        case "memfd":
            fd = os.memfd_create("pool", os.MFD_CLOEXEC)
            os.ftruncate(fd, size)
        case "tmpfs":
            fd = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            os.ftruncate(fd, size)
        case _:
            raise ValueError(kind)
    return fd


def _pin(fd: int, size: int) -> list[int]:
    """Hold the pages of a file in pipes; returns the pipes' reading ends."""
    pipes, offset = [], 0
    while offset < size:
        read, write = os.pipe()
        room = fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 256 * PAGE)
        end = min(offset + room, size)
        while offset < end:
            offset += os.splice(fd, write, end - offset, offset_src=offset)
        os.close(write)
        pipes.append(read)
    return pipes


def _draw(
    buffer: Buffer, frame: int, rectangle: tuple[int, int, int, int] | None
) -> None:
    x, y, width, height = rectangle or (0, 0, buffer.width, buffer.height)
    memory = buffer.pool.memory
    for line in range(y, y + height):
        start = buffer.offset + line * buffer.stride + x * 4
        memory[start : start + width * 4] = pattern.row(line, frame, width, x)


def libc_fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """Call fallocate(2), whose modes Python does not have."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int(fd), ctypes.c_int(mode))
    range_ = (ctypes.c_long(offset), ctypes.c_long(length))
    if libc.fallocate(*arguments, *range_):
        raise OSError(ctypes.get_errno(), "fallocate")


def answer(client: Client, line: bytes) -> bytes:
    """Carry out a command line; returns the answer's."""
    try:
        result: dict[str, object] = {"ok": client.execute(json.loads(line))}
    except WaylandError as error:
        result = {"error": ["wayland", str(error)]}
    except DisconnectedError as error:
        result = {"error": ["disconnected", str(error)]}
    except Exception as error:  # noqa: BLE001 - it is the answer
        result = {"error": [type(error).__name__, str(error)]}
    return json.dumps(result).encode() + b"\n"


def serve(commands: int, answers: int, client: Client) -> None:
    """Carry out what comes from one fd, answer on the other, until it ends."""
    buffered = bytearray()
    while True:
        sources = [commands]
        if (connection := client.fileno()) is not None:
            sources.append(connection)
        ready = select.select(sources, [], [])[0]
        if commands in ready:
            data = os.read(commands, 65536)
            if not data:
                return
            buffered += data
            while b"\n" in buffered:
                line, _, rest = bytes(buffered).partition(b"\n")
                buffered[:] = rest
                os.write(answers, answer(client, line))
        else:
            client.dispatch()


if __name__ == "__main__":
    serve(0, 1, Client(sys.argv[1] if len(sys.argv) > 1 else None))
