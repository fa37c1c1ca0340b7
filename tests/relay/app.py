"""An app in the guest, as strict about events as libwayland-client."""

from collections.abc import Callable, Sequence

from tests.relay.things import SERVER, Thing, fill, words
from wlproxy.protocol.channel.frames import (
    Attachment,
    Data,
)
from wlproxy.protocol.wayland.interface import ArgKind, MessageSpec
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue, NewId, RawMessage
from wlproxy.protocol.wayland.wire import (
    MessageSplitter,
    decode_message,
    encode_message,
)


class App:
    """An app in the guest, as strict about events as libwayland-client."""

    def __init__(self, send: Callable[[bytes, Sequence[Attachment]], None]) -> None:
        self._send = send
        self._splitter = MessageSplitter()
        self._free: list[int] = []
        self.next_id = 2
        self._server_next = SERVER
        self.attachments: list[Attachment] = []
        self.display = Thing(1, INTERFACES["wl_display"], 1)
        self.things: dict[int, Thing] = {1: self.display}
        self._left: dict[int, Thing] = {}
        """What a server created and the app destroyed: there is no delete_id for it."""
        self.meets_late_events = False
        """Whether events may come for those: who destroys one does not wait until it is
        heard of, as behind a request that waits.  libwayland drops them."""
        self.globals: dict[int, tuple[str, int]] = {}
        self.error: tuple[int, int, str] | None = None
        self.log: list[str] = []
        self.created: list[Thing] = []
        self.received: list[Attachment] = []
        self.checks = True
        self.trusts_ids = True
        """Whether the compositor gives no id away that it still uses: nobody in between
        can know, since an app destroys some objects without saying so."""

    def new(self, interface: str, version: int) -> Thing:
        """Allocate an id as libwayland does: the one freed last, or the next."""
        if self._free:
            object_id = self._free.pop()
        else:
            object_id, self.next_id = self.next_id, self.next_id + 1
        thing = Thing(object_id, INTERFACES[interface], version)
        self.things[object_id] = thing
        return thing

    def encode(
        self, sender: Thing, name: str, args: Sequence[ArgValue]
    ) -> tuple[bytes, Thing | None]:
        created: list[Thing] = []

        def new_id(interface: str) -> int:
            created.append(self.new(interface, sender.version))
            return created[-1].id

        spec = sender.interface.request(name)
        data = encode_message(sender.id, spec, fill(spec, args, new_id))
        return data, created[0] if created else None

    def request(
        self,
        sender: Thing,
        name: str,
        *args: ArgValue,
        attach: Sequence[Attachment] = (),
    ) -> Thing:
        """Send a request; what it creates comes back (else its sender)."""
        data, created = self.encode(sender, name, args)
        if sender.interface.request(name).is_destructor:
            self.destroyed(sender)
        self._send(data, attach)
        return created or sender

    def destroyed(self, thing: Thing) -> None:
        thing.alive = False
        if thing.id >= SERVER:
            gone = self.things.pop(thing.id, None)
            if gone is not None and self.meets_late_events:
                self._left[thing.id] = gone

    def bind(self, interface: str, version: int = 0) -> Thing:
        name, known = next(
            (n, v) for n, (i, v) in self.globals.items() if i == interface
        )
        version = version or min(known, INTERFACES[interface].version)
        thing = self.new(interface, version)
        new_id = NewId(interface.encode(), version, thing.id)
        spec = self.registry.interface.request("bind")
        self._send(encode_message(self.registry.id, spec, (name, new_id)), ())
        return thing

    @property
    def registry(self) -> Thing:
        return next(
            t
            for t in self.things.values()
            if t.interface.name == "wl_registry" and t.alive
        )

    def receive(self, frame: Data) -> None:
        if not self.checks:
            return
        self._splitter.feed(frame.data)
        self.attachments.extend(frame.attachments)
        while (raw := self._splitter.next_message()) is not None:
            self._event(raw)

    def _event(self, raw: RawMessage) -> None:
        thing = self._known(raw.object_id)
        assert thing is not None, f"event of unknown object {raw.object_id}"
        spec = thing.interface.events[raw.opcode]
        assert spec.since <= thing.version, f"{spec} is too new for {thing}"
        message = decode_message(spec, raw, self.attachments)
        self.received.extend(message.fds)
        for arg, value in zip(spec.args, message.args, strict=True):
            if arg.kind is ArgKind.OBJECT and value:
                assert isinstance(value, int)
                about = self._known(value)
                assert about is not None, f"{spec} names unknown object {value}"
                wanted = arg.interface or about.interface.name
                assert about.interface.name == wanted, f"{spec} names {about}"
            if arg.kind is ArgKind.NEW_ID:
                assert isinstance(value, int)
                assert arg.interface is not None
                self._created_by_server(value, arg.interface, thing.version)
        if thing.id not in self.things:
            return
        fds = [f"{a.kind.name.lower()} {a.object_id}" for a in message.fds]
        self.log.append(f"app: {thing}.{words(spec, message.args, fds)}")
        if thing is self.display:
            self._display_event(spec, message.args)
        elif spec.name == "global":
            name, interface, version = message.args
            assert isinstance(name, int)
            assert isinstance(interface, bytes)
            assert isinstance(version, int)
            self.globals[name] = (interface.decode(), version)
        elif thing.interface.name == "wl_callback":
            thing.alive = False  # `done` destroys it

    def _known(self, object_id: int) -> Thing | None:
        return self.things.get(object_id) or self._left.get(object_id)

    def _created_by_server(self, new_id: int, interface: str, version: int) -> None:
        assert SERVER <= new_id <= self._server_next, f"gap before {new_id:#x}"
        if self.trusts_ids:
            assert new_id not in self.things, f"{new_id:#x} is in use"
        self._server_next = max(self._server_next, new_id + 1)
        thing = Thing(new_id, INTERFACES[interface], version)
        self.things[new_id] = thing
        self._left.pop(new_id, None)
        self.created.append(thing)

    def _display_event(self, spec: MessageSpec, args: Sequence[ArgValue]) -> None:
        if spec.name == "error":
            about, code, text = args
            assert isinstance(about, int)
            assert isinstance(code, int)
            assert isinstance(text, bytes)
            assert self.error is None, "a second error"
            self.error = about, code, text.decode(errors="replace")
        else:
            (freed,) = args
            assert isinstance(freed, int)
            gone = self.things.pop(freed, None)
            assert gone is not None, f"delete_id of unknown {freed}"
            assert not gone.alive, f"delete_id of {gone}, which is alive"
            self._free.append(freed)
