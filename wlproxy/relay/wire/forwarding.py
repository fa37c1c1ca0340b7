"""Forwarding of messages: ids are translated in place, fds become handles or attachments.

A filter is given a `Request` or an `Event` and forwards it, changed or not, or answers
it; a message that no filter claims is forwarded as it is.  No interface is special here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, cast

from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    OpenStream,
)
from wlproxy.protocol.errors import CompositorError, WaylandError
from wlproxy.protocol.wayland.interface import (
    ArgSpec,
    Interface,
    MessageSpec,
)
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import (
    DISPLAY_ID,
    FIRST_SERVER_ID,
    ArgValue,
    DisplayError,
    FdT,
    NewId,
    RawMessage,
    as_array,
    as_integer,
    as_new_id,
    as_string,
)
from wlproxy.protocol.wayland.wire import encode_message, rewrite_ids
from wlproxy.relay.commands import (
    AdoptStream,
    CloseHandle,
    CreateStream,
    Direction,
    SendContents,
    SendFile,
    TraceLevel,
)
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FdKind, ReceivedFd
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.objects import MUTED, Muted, ProtocolObject
from wlproxy.relay.wire.passed_fds import Purpose, purpose_of


class _Named(Generic[FdT]):
    """Arguments by their names, as the protocol's XML has them."""

    __slots__ = ()
    spec: MessageSpec
    args: tuple[ArgValue, ...]
    fds: tuple[FdT, ...]

    def integer(self, name: str) -> int:
        """The INT, UINT, FIXED, OBJECT or typed NEW_ID of that name."""
        return as_integer(self.args[self.spec.places[name]])

    def integers(self, *names: str) -> tuple[int, ...]:
        """The same, of several."""
        return tuple(map(self.integer, names))

    @property
    def numbers(self) -> tuple[int, ...]:
        """All arguments, in order: each is an INT, UINT, FIXED, OBJECT or typed NEW_ID."""
        assert self.spec.words is not None
        return cast("tuple[int, ...]", self.args)

    def string(self, name: str) -> bytes | None:
        """The STRING of that name, `None` if it is null."""
        return as_string(self.args[self.spec.places[name]])

    def array(self, name: str) -> bytes:
        """The ARRAY of that name, or a STRING that is not nullable."""
        return as_array(self.args[self.spec.places[name]])


# Neither is frozen, as `RawMessage` is not: one is made of every message that is claimed.
@dataclass(slots=True, eq=False)
class Request(_Named[Attachment]):
    """A decoded request of the guest, ids as the guest has them."""

    object: ProtocolObject
    spec: MessageSpec
    raw: RawMessage
    args: tuple[ArgValue, ...]
    fds: tuple[Attachment, ...] = ()

    def error(self, code: int, message: str) -> WaylandError:
        """Make the error that ends a client for it."""
        return self.object.error(code, message)

    def saying(self, args: Sequence[ArgValue]) -> "Request":
        """Make the same request with other arguments; ids as the guest has them."""
        return Request(
            self.object, self.spec, _raw(self, self.object.guest_id, args), tuple(args)
        )

    @property
    def new_id(self) -> int:
        """The id of what it creates, whose interface the protocol says."""
        return self.integer("new_id")

    @property
    def bound(self) -> NewId:
        """What it creates, where it says itself of which interface."""
        return as_new_id(self.args[self.spec.places["new_id"]])


@dataclass(slots=True, eq=False)
class Event(_Named[ReceivedFd]):
    """A decoded event of the compositor, ids as the host has them."""

    object: ProtocolObject
    spec: MessageSpec
    raw: RawMessage
    args: tuple[ArgValue, ...]
    fds: tuple[ReceivedFd, ...] = ()

    def saying(self, args: Sequence[ArgValue]) -> "Event":
        """Make the same event with other arguments; ids as the host has them."""
        return Event(
            self.object, self.spec, _raw(self, self.object.host_id, args), tuple(args)
        )


def _raw(message: Request | Event, sender: int, args: Sequence[ArgValue]) -> RawMessage:
    data = encode_message(sender, message.spec, args)
    return RawMessage(message.raw.object_id, message.raw.opcode, bytearray(data))


@dataclass(eq=False)
class Forwarder:
    """The way through for one client's messages, both ways.

    Attributes:
        context: ids, configuration, outbox.
        limit: bytes after which the pipes of what is forwarded end; 0: no limit.
    """

    context: Context
    limit: int = 0
    _last_file: int = 0
    _last_stream: int = -1  # odd ones are the host's
    _version: int = field(init=False)
    _created: ProtocolObject | None = field(init=False)
    """What the message that is being translated is about, and what it creates."""

    def forward(
        self, request: Request, args: Sequence[ArgValue] | None = None
    ) -> ProtocolObject | None:
        """Pass a request on.

        Args:
            request: as received.
            args: instead of its own; ids as the guest has them.

        Returns:
            The object it creates, if it does.

        Raises:
            WaylandError: it names objects that it may not.
        """
        raw, spec = request.raw, request.spec
        if args is not None:
            data = encode_message(request.object.guest_id, spec, args)
            raw = RawMessage(raw.object_id, raw.opcode, bytearray(data))
        return self.forward_raw(request.object, spec, raw, request.fds)

    def forward_raw(
        self,
        entry: ProtocolObject,
        spec: MessageSpec,
        raw: RawMessage,
        attachments: Sequence[Attachment] = (),
    ) -> ProtocolObject | None:
        """Pass a request on without having decoded it; otherwise as `forward`."""
        if not entry.host_id:
            if isinstance(entry.role, Muted):
                self._leave_out(entry, spec, raw)
                return None
            raise entry.error(
                DisplayError.IMPLEMENTATION, f"wlproxy: {spec} has no host object"
            )
        self._version, self._created = entry.version, None
        rewrite_ids(
            spec, raw, entry.host_id, self._object_to_host, self._new_id_from_guest
        )
        if attachments:
            self._request_with_fds(spec, raw, attachments)
        else:
            self.context.outbox.request(raw.data)
        if entry.guest_id >= FIRST_SERVER_ID and spec.is_destructor:
            self.context.objects.forget_guest(entry)
        return self._created

    def forward_event(
        self,
        entry: ProtocolObject,
        spec: MessageSpec,
        raw: RawMessage,
        fds: Sequence[ReceivedFd] = (),
    ) -> None:
        """Pass an event on to the guest.

        An event of an object that the guest has freed, or about one, is dropped, as
        libwayland does with a zombie's; what it creates is entered all the same, since
        the compositor will go on talking about it.

        Raises:
            CompositorError: it names objects that are not there, or of another kind.
        """
        if not entry.guest_id:
            self._drop_event(entry, spec, raw, fds)
            return
        self._version = entry.version
        try:
            rewrite_ids(
                spec, raw, entry.guest_id, self._object_to_guest, self._new_id_from_host
            )
        except _GoneError:
            self.drop_fds(fds)
            return
        # Only now: the contents of a file are sent ahead of the event that attaches it.
        attachments = [self._export(spec, fd) for fd in fds] if fds else ()
        self.context.outbox.event(raw.data, attachments)

    def refuse_fds(self, request: Request) -> None:
        """Answer fds of a request that is not forwarded: what is behind them ends at once."""
        for item in request.fds:
            handle = self._import(request.spec, item)
            self.context.command(CloseHandle(self.context.client_id, handle))

    def attach_contents(self, contents: bytes) -> Attachment:
        """Describe a file of our own to the guest, and send what is in it."""
        client_id, file_id = self.context.client_id, self._new_file()
        self.context.command(SendContents(client_id, file_id, contents))
        flags = AttachmentFlags.NONE
        return Attachment(AttachmentKind.FILE, flags, file_id, len(contents))

    def drop_fds(self, fds: Sequence[ReceivedFd]) -> None:
        """Close fds that nobody will get."""
        for fd in fds:
            self.context.command(CloseHandle(self.context.client_id, fd.handle))

    def enter_unseen(self, host_id: int, arg: ArgSpec, version: int) -> None:
        """Enter an object that the compositor creates and the guest does not see."""
        interface = _interface(arg.interface)
        self.context.objects.add_host(host_id, interface, version, visible=False)

    def give_back(self, host_id: int) -> None:
        """Have the compositor know that nobody needs what was entered unseen, and is so still."""
        entry = self.context.objects.host(host_id)
        if entry is not None and not entry.guest_id and entry.role is not None:
            entry.role = None
            self.context.send(entry, "destroy")

    def _leave_out(
        self, entry: ProtocolObject, spec: MessageSpec, raw: RawMessage
    ) -> None:
        """Take a request to an object that does nothing: what it makes does nothing either."""
        if spec.new_id_index is not None:
            self._version = entry.version
            rewrite_ids(spec, raw, 0, lambda _id, _arg: 0, self._new_id_muted)
        if spec.is_destructor:
            self.context.delete_guest_id(entry)

    def _drop_event(
        self,
        entry: ProtocolObject,
        spec: MessageSpec,
        raw: RawMessage,
        fds: Sequence[ReceivedFd],
    ) -> None:
        self.drop_fds(fds)
        self._version = entry.version
        if spec.new_id_index is not None:
            rewrite_ids(spec, raw, 0, lambda _id, _arg: 0, self._new_id_unseen)

    def _request_with_fds(
        self, spec: MessageSpec, raw: RawMessage, attachments: Sequence[Attachment]
    ) -> None:
        handles = [self._import(spec, item) for item in attachments]
        self.context.outbox.request(raw.data, handles)
        # The compositor has its own by then: ours would hide the end of the pipe.
        for handle in handles:
            self.context.command(CloseHandle(self.context.client_id, handle))

    def _new_file(self) -> int:
        self._last_file += 1
        return self._last_file

    def new_stream(self) -> int:
        """Name a stream of the host's."""
        self._last_stream += 2
        return self._last_stream

    def _object_to_host(self, guest_id: int, arg: ArgSpec) -> int:
        entry = self.context.objects.guest(guest_id)
        if arg.interface is not None and arg.interface != entry.interface.name:
            raise WaylandError(
                DISPLAY_ID,
                DisplayError.INVALID_OBJECT,
                f"object {guest_id} is no {arg.interface}",
            )
        if not entry.host_id:
            raise entry.error(
                DisplayError.IMPLEMENTATION, "wlproxy: object has no host side"
            )
        return entry.host_id

    def _new_id_from_guest(self, guest_id: int, arg: ArgSpec) -> int:
        interface = _interface(arg.interface)
        entry = self.context.objects.add_guest(guest_id, interface, self._version)
        self._created = entry
        return self.context.objects.give_host_id(entry)

    def _object_to_guest(self, host_id: int, arg: ArgSpec) -> int:
        entry = self.context.objects.host(host_id)
        if entry is None:
            raise CompositorError(f"it named unknown object {host_id}")
        if arg.interface is not None and arg.interface != entry.interface.name:
            raise CompositorError(f"it named {entry!r} as a {arg.interface}")
        if entry.guest_id:
            return entry.guest_id
        if arg.nullable:
            return 0
        raise _GoneError

    def _new_id_from_host(self, host_id: int, arg: ArgSpec) -> int:
        entry = self.context.objects.add_host(
            host_id, _interface(arg.interface), self._version, visible=True
        )
        return entry.guest_id

    def _new_id_unseen(self, host_id: int, arg: ArgSpec) -> int:
        self.enter_unseen(host_id, arg, self._version)
        return host_id

    def _new_id_muted(self, guest_id: int, arg: ArgSpec) -> int:
        interface = _interface(arg.interface)
        self.context.objects.add_guest(guest_id, interface, self._version).role = MUTED
        return guest_id

    def _import(self, spec: MessageSpec, item: Attachment) -> Handle:
        """Make an fd for the compositor of what the guest attached."""
        wanted = _holder_flags(spec, item)
        if wanted is None:
            raise WaylandError(
                DISPLAY_ID,
                DisplayError.IMPLEMENTATION,
                f"wlproxy: cannot forward the {item.kind.name} fd of {spec}",
            )
        reads = wanted is AttachmentFlags.HOLDER_READS
        direction = Direction.TO_COMPOSITOR if reads else Direction.TO_GUEST
        handle, client_id = next(self.context.shared.handles), self.context.client_id
        stream_id, usable = item.object_id, wanted is item.flags
        if item.kind is not AttachmentKind.STREAM:
            stream_id, usable = self.new_stream(), True
            frame = OpenStream(client_id, item.object_id, stream_id, wanted)
            self.context.send_frame(frame)
        self.context.command(
            CreateStream(client_id, stream_id, handle, direction, usable, self.limit)
        )
        return handle

    def _export(self, spec: MessageSpec, fd: ReceivedFd) -> Attachment:
        """Describe an fd of the compositor to the guest.

        The event arrives in any case: with nothing behind its fd, if need be.
        """
        client_id = self.context.client_id
        purpose = purpose_of(spec.interface, spec.name)
        if fd.kind is FdKind.FILE and purpose is not Purpose.WRITTEN:
            file_id = self._new_file()
            self.context.command(SendFile(client_id, file_id, fd.handle, fd.size))
            flags = AttachmentFlags.NONE
            return Attachment(AttachmentKind.FILE, flags, file_id, fd.size)
        if purpose is Purpose.CONTENTS:  # /dev/null, for one, where there is no keymap
            self.context.trace(
                TraceLevel.INFO, f"the fd of {spec} is no file: taken for an empty one"
            )
            self.drop_fds([fd])
            return self.attach_contents(b"")
        direction = fd.direction
        if purpose is Purpose.WRITTEN or direction is None:
            direction = Direction.TO_COMPOSITOR
        stream_id = self.new_stream()
        adopt = AdoptStream(client_id, stream_id, fd.handle, direction, self.limit)
        self.context.command(adopt)
        writes = direction is Direction.TO_COMPOSITOR
        flags = (
            AttachmentFlags.HOLDER_WRITES if writes else AttachmentFlags.HOLDER_READS
        )
        return Attachment(AttachmentKind.STREAM, flags, stream_id, 0)


def _holder_flags(spec: MessageSpec, item: Attachment) -> AttachmentFlags | None:
    """Say what the compositor will do with an fd; None if that cannot be carried."""
    match purpose_of(spec.interface, spec.name):
        case Purpose.WRITTEN:
            return AttachmentFlags.HOLDER_WRITES
        case Purpose.UNSAID if item.kind is not AttachmentKind.MEMORY:
            # A socket is both; whoever passes one where Wayland says "fd" wants to be
            # written to.
            for way in (AttachmentFlags.HOLDER_WRITES, AttachmentFlags.HOLDER_READS):
                if item.flags & way:
                    return way
    return None


class _GoneError(Exception):
    """An event names an object that the guest no longer has."""


@cache
def _interface(name: str | None) -> Interface:
    if name is None or name not in INTERFACES:
        raise WaylandError(
            DISPLAY_ID,
            DisplayError.IMPLEMENTATION,
            f"wlproxy: unknown interface {name}",
        )
    return INTERFACES[name]
