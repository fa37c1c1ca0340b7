"""The host's compositor, as strict about requests as libwayland-server."""

from collections import deque
from collections.abc import Callable, Sequence

from tests.relay.things import DESTRUCTORS, SERVER, Thing, fill, integer, words
from wlproxy.protocol.wayland.interface import ArgKind, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue, NewId, RawMessage
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    decode_message,
    encode_message,
)
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import ReceivedFd

GLOBALS = {
    1: ("wl_compositor", 6),
    2: ("wl_shm", 2),
    3: ("wl_seat", 9),
    4: ("xdg_wm_base", 6),
    5: ("zwp_linux_dmabuf_v1", 5),
    6: ("wp_viewporter", 1),
    7: ("wl_data_device_manager", 3),
    8: ("wl_output", 4),
    9: ("zwlr_screencopy_manager_v1", 3),
    10: ("xdg_toplevel_icon_manager_v1", 1),
    11: ("wp_single_pixel_buffer_manager_v1", 1),
    12: ("some_vendors_own_v1", 1),
    13: ("wl_subcompositor", 1),
}


FORMATS = (0, 1, 0x20203852, 0x3231564E)
"""ARGB8888, XRGB8888, R8, NV12."""


Watcher = Callable[[Thing, str, Sequence[ArgValue], Thing], None]


class RefusedError(AssertionError):
    """A request about an object that has just been destroyed: the sender's own fault."""


class Compositor:
    """The host's compositor, as strict about requests as libwayland-server."""

    def __init__(self) -> None:
        self._splitter = MessageSplitter()
        self._fds: list[Handle] = []
        self._next = 2
        self._free_server: list[int] = []
        self._server_next = SERVER
        self._serial = 0
        self.display = Thing(1, INTERFACES["wl_display"], 1)
        self.things: dict[int, Thing] = {1: self.display}
        self.globals = dict(GLOBALS)
        self.out: deque[tuple[bytes, tuple[ReceivedFd, ...]]] = deque()
        self.log: list[str] = []
        self.imports = "accept"
        self.answers_sync = True
        self.releases = True
        self.busy: list[Thing] = []
        self.checks = True
        self._gone: set[int] = set()
        self.waiting: list[Callable[[], None]] = []
        self.watchers: list[Watcher] = []
        """Told each request: to what, its name, its arguments, and what it created."""

    # ------------------------------------------------------------ events

    def event(
        self, sender: Thing, name: str, *args: ArgValue, fds: Sequence[ReceivedFd] = ()
    ) -> Thing:
        created: list[Thing] = []

        def new_id(interface: str) -> int:
            if self._free_server:
                object_id = self._free_server.pop()
            else:
                object_id, self._server_next = self._server_next, self._server_next + 1
            thing = Thing(object_id, INTERFACES[interface], sender.version)
            self.things[object_id] = thing
            created.append(thing)
            return object_id

        spec = sender.interface.event(name)
        data = encode_message(sender.id, spec, fill(spec, args, new_id))
        self.out.append((data, tuple(fds)))
        return created[0] if created else sender

    def answer(self) -> None:
        """Do what was put off: syncs, imports."""
        waiting, self.waiting = self.waiting, []
        for action in waiting:
            action()

    # ------------------------------------------------------------ requests

    def receive(self, data: bytes, handles: Sequence[Handle]) -> None:
        if not self.checks:
            return
        self._splitter.feed(data)
        self._fds.extend(handles)
        assert len(handles) <= 28
        while (raw := self._splitter.next_message()) is not None:
            self._request(raw)
        assert not self._splitter.pending, "half a message"
        assert not self._fds, "fds of no message"

    def _request(self, raw: RawMessage) -> None:
        thing = self._find(raw.object_id, "request to")
        spec = thing.interface.requests[raw.opcode]
        assert spec.since <= thing.version, f"{spec} is too new for {thing}"
        message = decode_message(spec, raw, self._fds)
        created = self._check_ids(thing, spec, message.args)
        self.log.append(f"host: {thing}.{words(spec, message.args, message.fds)}")
        special = getattr(self, f"_on_{thing.interface.name}", None)
        if special is not None:
            special(thing, spec.name, message.args, message.fds, created)
        for watcher in self.watchers:
            watcher(thing, spec.name, message.args, created)
        if spec.name in DESTRUCTORS:
            self.destroy(thing)

    def _check_ids(
        self, thing: Thing, spec: MessageSpec, args: Sequence[ArgValue]
    ) -> Thing:
        created = thing
        for arg, value in zip(spec.args, args, strict=True):
            if arg.kind is ArgKind.OBJECT and value:
                assert isinstance(value, int)
                about = self._find(value, f"{spec} names")
                wanted = arg.interface or about.interface.name
                assert about.interface.name == wanted, f"{spec} names {about}"
            elif isinstance(value, NewId):
                interface = value.interface.decode()
                assert self.globals[integer(args[0])][0] == interface
                assert 0 < value.version <= self.globals[integer(args[0])][1]
                created = self._new(value.object_id, interface, value.version)
            elif arg.kind is ArgKind.NEW_ID:
                assert arg.interface is not None
                created = self._new(integer(value), arg.interface, thing.version)
        return created

    def _find(self, object_id: int, what: str) -> Thing:
        thing = self.things.get(object_id)
        if thing is None and object_id in self._gone:
            raise RefusedError(f"{what} object {object_id}, which is destroyed")
        assert thing is not None, f"{what} unknown object {object_id}"
        return thing

    def _new(self, object_id: int, interface: str, version: int) -> Thing:
        assert 1 < object_id <= self._next, f"gap before new id {object_id}"
        assert object_id not in self.things, f"new id {object_id} is in use"
        self._next = max(self._next, object_id + 1)
        thing = Thing(object_id, INTERFACES[interface], version)
        self.things[object_id] = thing
        self._gone.discard(object_id)
        return thing

    def destroy(self, thing: Thing) -> None:
        thing.alive = False
        del self.things[thing.id]
        self._gone.add(thing.id)
        if thing.id < SERVER:
            self.event(self.display, "delete_id", thing.id)
        else:
            self._free_server.append(thing.id)

    def _on_wl_display(
        self,
        _thing: Thing,
        name: str,
        _args: Sequence[ArgValue],
        _fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        if name == "get_registry":
            for number, (interface, version) in self.globals.items():
                self.event(created, "global", number, interface.encode(), version)
            return

        def done() -> None:
            self._serial += 1
            self.event(created, "done", self._serial)
            self.destroy(created)

        if self.answers_sync:
            done()
        else:
            self.waiting.append(done)

    def _on_wl_registry(
        self,
        _thing: Thing,
        _name: str,
        _args: Sequence[ArgValue],
        _fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        if created.interface.name == "wl_shm":
            for shm_format in FORMATS:
                self.event(created, "format", shm_format)

    def _on_wl_fixes(
        self,
        _thing: Thing,
        name: str,
        args: Sequence[ArgValue],
        _fds: Sequence[Handle],
        _created: Thing,
    ) -> None:
        if name == "destroy_registry":
            self.destroy(self.things[integer(args[0])])

    def _on_wl_shm(
        self,
        _thing: Thing,
        name: str,
        args: Sequence[ArgValue],
        fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        if name == "release":
            return
        size = integer(args[-1])
        assert size > 0
        created.facts = {"fd": fds[0], "size": size}

    def _on_wl_shm_pool(
        self,
        thing: Thing,
        name: str,
        args: Sequence[ArgValue],
        _fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        if name != "create_buffer":
            assert name == "destroy", "a pool of ours is never resized"
            return
        offset, width, height, stride, shm_format = map(integer, args[1:])
        size = integer(thing.facts["size"])
        assert offset >= 0
        assert width > 0
        assert height > 0
        assert stride >= width
        assert offset <= size - stride * height, "buffer exceeds its pool"
        created.facts = {
            "fd": thing.facts["fd"],
            "geometry": (offset, width, height, stride, shm_format),
        }

    def _on_zwp_linux_buffer_params_v1(
        self,
        thing: Thing,
        name: str,
        args: Sequence[ArgValue],
        fds: Sequence[Handle],
        _created: Thing,
    ) -> None:
        planes = thing.facts.setdefault("planes", [])
        assert isinstance(planes, list)
        if name == "add":
            index, offset, stride, high, low = map(integer, args[1:])
            assert index == len(planes)
            assert not high | low, "not LINEAR"
            planes.append((fds[0], offset, stride))
        elif name == "create":
            width, height, fourcc, flags = map(integer, args)
            handle, offset, stride = planes[0]

            def answer() -> None:
                if self.imports == "refuse":
                    self.event(thing, "failed")
                    return
                made = self.event(thing, "created")
                geometry = (offset, width, height, stride, fourcc)
                made.version = thing.version
                self.things[made.id] = made
                made.facts = {
                    "fd": handle,
                    "geometry": geometry,
                    "planes": planes,
                    "flags": flags,
                }

            if self.imports == "hold":
                self.waiting.append(answer)
            else:
                answer()

    def _on_wl_surface(
        self,
        thing: Thing,
        name: str,
        args: Sequence[ArgValue],
        _fds: Sequence[Handle],
        created: Thing,
    ) -> None:
        if name == "attach":
            buffer = integer(args[0])
            thing.facts["pending"] = self.things[buffer] if buffer else None
        elif name == "frame":
            thing.facts["frame"] = created
        elif name == "commit" and "pending" in thing.facts:
            old = thing.facts.get("current")
            thing.facts["current"] = thing.facts.pop("pending")
            if isinstance(old, Thing):
                self.busy.append(old)
            if self.releases:
                self.release()
        elif name == "destroy":
            for state in ("pending", "current"):
                old = thing.facts.pop(state, None)
                if isinstance(old, Thing):
                    self.busy.append(old)
            self.release()

    def release(self) -> None:
        """Let go of every buffer that no surface shows any more."""
        busy, self.busy = self.busy, []
        for buffer in busy:
            if buffer.alive:
                self.event(buffer, "release")

    def frame_done(self, surface: Thing) -> None:
        callback = surface.facts.pop("frame")
        assert isinstance(callback, Thing)
        self.event(callback, "done", 7)
        self.destroy(callback)
