"""Our own connection to a compositor, sans-IO: objects, requests and events by their names.

What goes in are bytes and fds; what comes out is in `take_output`.  What a window is, is not known
here.  libwayland would block, and would know of no trio.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from wlproxy.protocol.errors import CompositorError, WaylandError
from wlproxy.protocol.wayland.interface import ArgKind, Interface, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import (
    DISPLAY_ID,
    ArgValue,
    Message,
    NewId,
    RawMessage,
    as_integer,
)
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    decode_message,
    encode_message,
    event_spec,
)
from wlproxy.screen.commands import Fd

FdT = TypeVar("FdT", bound=Fd)
"""An fd, ours or the compositor's."""

EVENTS_AT_ONCE: Final = 1 << 16
"""More than fit into what is received at once."""
MAX_WAITING_FDS: Final = 64
"""Fds of events that have not come whole."""

Handler = Callable[[str, Message[FdT]], None]
"""Told the name of an event, and its arguments.  Its fds are closed thereafter."""


@dataclass(slots=True)
class _Object(Generic[FdT]):
    interface: Interface
    version: int
    handler: Handler[FdT] | None


@dataclass(slots=True)
class WaylandOutput(Generic[FdT]):
    """Bytes to be sent, and the fds that go with the first of them.

    The fds are held; whoever sends them releases them.
    """

    data: bytes
    fds: tuple[FdT, ...] = ()


@dataclass(slots=True)
class Global:
    """A global of the compositor's."""

    name: int
    version: int


class WaylandConnection(Generic[FdT]):
    """A connection, and the objects that we have on it.

    Attributes:
        globals: interface to global; of several, the first.
        told: how many events handlers were told of, but for those of `wl_display`.
    """

    def __init__(self) -> None:
        """Ask for the compositor's globals."""
        self.globals: dict[str, Global] = {}
        self.told = 0
        self._splitter = MessageSplitter()
        self._fds: list[FdT] = []
        self._output: list[WaylandOutput[FdT]] = []
        self._free: list[int] = []
        self._next_id = DISPLAY_ID + 1
        display = _Object[FdT](INTERFACES["wl_display"], 1, self._on_display)
        self._objects = {DISPLAY_ID: display}
        self._registry = self.create(
            DISPLAY_ID, "get_registry", handler=self._on_registry
        )

    def receive(self, data: bytes, fds: Sequence[FdT] = ()) -> None:
        """Take what came, and tell handlers of it.

        Raises:
            CompositorError: it has ended the connection, or broke the protocol.
        """
        self._fds += fds
        splitter = self._splitter
        splitter.feed(data)
        start = splitter.start
        try:
            if len(self._fds) > MAX_WAITING_FDS:
                raise CompositorError(f"{len(self._fds)} fds of no event")
            for object_id, opcode, end in splitter.messages(EVENTS_AT_ONCE):
                begin, start = start, end
                known = self._objects.get(object_id)
                if known is None:
                    raise CompositorError(f"an event of no object: {object_id}")
                spec = event_spec(known.interface, known.version, object_id, opcode)
                bare = spec.size == end - begin and not spec.fd_count + spec.has_ids
                if bare and known.handler is None:
                    continue  # a buffer's release
                raw = RawMessage(object_id, opcode, splitter.buffer[begin:end])
                self._tell(known, spec, decode_message(spec, raw, self._fds))
        except WaylandError as exc:
            raise CompositorError(f"the compositor broke the protocol: {exc}") from exc

    def take_output(self) -> list[WaylandOutput[FdT]]:
        """Take what is to be sent."""
        taken, self._output = self._output, []
        return taken

    def close(self) -> None:
        """Close the fds that came and were not used."""
        waiting, self._fds = self._fds, []
        for fd in waiting:
            fd.close()

    def version(self, object_id: int) -> int:
        """Tell an object's version."""
        return self._objects[object_id].version

    def send(
        self, object_id: int, request: str, *args: ArgValue, fds: tuple[FdT, ...] = ()
    ) -> None:
        """Send a request that creates nothing; `None` stands for an fd in `args`."""
        spec = self._objects[object_id].interface.request(request)
        self._send(object_id, spec, args, fds)

    def create(
        self,
        parent_id: int,
        request: str,
        *args: ArgValue,
        handler: Handler[FdT] | None = None,
        fds: tuple[FdT, ...] = (),
    ) -> int:
        """Send a request that creates an object; return its id, which `args` lack."""
        parent = self._objects[parent_id]
        spec = parent.interface.request(request)
        place = spec.new_id_index
        assert place is not None
        interface = spec.args[place].interface
        assert interface is not None
        new_id = self.add(interface, parent_id, handler)
        self._send(parent_id, spec, (*args[:place], new_id, *args[place:]), fds)
        return new_id

    def bind(
        self, interface: str, most: int, handler: Handler[FdT] | None = None
    ) -> int:
        """Bind a global, in a version of at most `most`.

        Raises:
            CompositorError: there is none.
        """
        found = self.globals.get(interface)
        if found is None:
            raise CompositorError(f"the compositor has no {interface}")
        version = min(found.version, most, INTERFACES[interface].version)
        new_id = self._add(interface, version, handler)
        untyped = NewId(interface.encode(), version, new_id)
        self.send(self._registry, "bind", found.name, untyped)
        return new_id

    def add(
        self, interface: str, parent_id: int, handler: Handler[FdT] | None = None
    ) -> int:
        """Make room for an object that an encoded request creates; return its id."""
        return self._add(interface, self._objects[parent_id].version, handler)

    def send_encoded(self, data: bytes) -> None:
        """Send requests that were written already, and have no fds."""
        last = self._output[-1] if self._output else None
        if last is not None:
            last.data += data
        else:
            self._output.append(WaylandOutput(data))

    def handle(self, object_id: int, handler: Handler[FdT]) -> None:
        """Have events of an object told."""
        self._objects[object_id].handler = handler

    def destroy(self, object_id: int, request: str = "destroy") -> None:
        """Destroy an object; no event of it is told any more."""
        self.send(object_id, request)
        self._objects[object_id].handler = None

    def sync(self, done: Callable[[], None]) -> None:
        """Have `done` called when the compositor has seen all that was sent so far."""
        self.create(DISPLAY_ID, "sync", handler=lambda _name, _event: done())

    def _add(self, interface: str, version: int, handler: Handler[FdT] | None) -> int:
        if self._free:
            new_id = self._free.pop()
        else:
            new_id, self._next_id = self._next_id, self._next_id + 1
        self._objects[new_id] = _Object(INTERFACES[interface], version, handler)
        return new_id

    def _send(
        self,
        object_id: int,
        spec: MessageSpec,
        args: tuple[ArgValue, ...],
        fds: tuple[FdT, ...],
    ) -> None:
        data = encode_message(object_id, spec, args)
        if not fds:
            self.send_encoded(data)
            return
        for fd in fds:
            fd.hold()
        self._output.append(WaylandOutput(data, fds))

    def _tell(
        self, known: _Object[FdT], spec: MessageSpec, event: Message[FdT]
    ) -> None:
        if spec.has_ids:
            self._add_new(known, spec, event)
        try:
            if known.handler is not None:
                self.told += event.object_id != DISPLAY_ID
                known.handler(spec.name, event)
        finally:
            for fd in event.fds:
                fd.close()

    def _add_new(
        self, known: _Object[FdT], spec: MessageSpec, event: Message[FdT]
    ) -> None:
        """Know the objects that an event creates."""
        for arg, value in zip(spec.args, event.args, strict=True):
            if arg.kind is ArgKind.NEW_ID and arg.interface is not None:
                self._objects[as_integer(value)] = _Object(
                    INTERFACES[arg.interface], known.version, None
                )

    def _on_display(self, name: str, event: Message[FdT]) -> None:
        if name == "delete_id":
            freed = event.integer(0)
            if freed == DISPLAY_ID or self._objects.pop(freed, None) is None:
                raise CompositorError(f"there is no object {freed} to delete")
            self._free.append(freed)
            return
        text = event.array(2).decode(errors="replace")
        raise CompositorError(
            f"the compositor ended the connection: {text} (code {event.integer(1)})"
        )

    def _on_registry(self, name: str, event: Message[FdT]) -> None:
        if name == "global":
            interface = event.array(1).decode(errors="replace")
            found = Global(event.integer(0), event.integer(2))
            self.globals.setdefault(interface, found)
