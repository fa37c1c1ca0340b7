"""What a filter may touch: the state of one client, and ways to speak to both sides.

Filters never see the client that calls them, nor each other.  Every method appends to
the outbox, so that what a filter does happens in the order it does it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from wlproxy.memory.guest_memory import GuestMemory
from wlproxy.protocol.channel.frames import Attachment, Frame
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import (
    FIRST_SERVER_ID,
    ArgValue,
    NewId,
)
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay.capabilities import PAGE_SIZE, CompositorCapabilities, Preference
from wlproxy.relay.commands import (
    CloseHandle,
    Command,
    SendFrame,
    Trace,
    TraceLevel,
)
from wlproxy.relay.handles import CoreHandles, Handle
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.names import Exports, Sessions
from wlproxy.relay.policy_tree import Policy
from wlproxy.relay.quotas import Quotas, Shares
from wlproxy.relay.wire.clock import GuestClock
from wlproxy.relay.wire.objects import IGNORED, Listener, ObjectTable, ProtocolObject
from wlproxy.relay.wire.outbox import Outbox
from wlproxy.relay.wire.timestamps import CLOCK_MONOTONIC


@dataclass(slots=True, eq=False)
class Bindings:
    """Whose the desktop's key bindings are while an app has asked for them: sessions come and go meanwhile.

    Attributes:
        are_hosts: the user has taken them back.
    """

    are_hosts: bool = False


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """What the user decided for a VM.

    Attributes:
        vm_name: shown in titles and app ids.
        preference: the mode to prefer.
        policy: what the guest may do.
        main_device: of linux-dmabuf, as the agent says; 0 where it cannot locate
            dma-bufs, or the guest has no such device.
        implicit_linear: the guest's dma-bufs without a modifier are linear, as the
            agent says.
        guest_page: bytes of a page of the guest, as the agent says: what it locates
            is whole ones.
        reads_files: the agent reads files of the guest's, if it is asked to.
        frame: how its windows are framed; None if they are not.
        bindings: what the user last said of them, by Ctrl+Alt+G.
    """

    vm_name: str = "vm"
    preference: Preference = Preference.AUTO
    policy: Policy = field(default_factory=Policy)
    main_device: int = 0
    implicit_linear: bool = False
    guest_page: int = PAGE_SIZE
    reads_files: bool = False
    frame: WindowFrame | None = None
    bindings: Bindings = field(default_factory=Bindings)

    @property
    def wants_copies(self) -> bool:
        """Whether mode C was asked for."""
        return self.preference is Preference.COPY


@dataclass(slots=True, eq=False)
class Shared:
    """What all clients of one guest share.

    Attributes:
        config: the VM's.
        ram: where the guest's pages are.
        quotas: what all of them may take up together.
        handles: names for what the shell is to make.
        clock: the guest's.
        warned: what was warned of, for any of them.
        asking: the client about whom the user is being asked; 0: none.
        exports: windows that they lend to each other.
        sessions: that they have begun.
        focused: which of them has the keyboard of which seat, by the global's name.
        pressed: in which of them the user has just pressed something, likewise.
        bindings: the configuration's, which a snapshot does not have.
    """

    config: RelayConfig
    ram: GuestMemory
    quotas: Quotas
    handles: CoreHandles = field(default_factory=CoreHandles)
    clock: GuestClock = field(default_factory=GuestClock)
    warned: set[str] = field(default_factory=set)
    asking: int = 0
    exports: Exports = field(default_factory=Exports)
    sessions: Sessions = field(default_factory=Sessions)
    focused: set[tuple[int, int]] = field(default_factory=set)
    pressed: set[tuple[int, int]] = field(default_factory=set)
    bindings: Bindings = field(default_factory=Bindings)


@dataclass(frozen=True, slots=True)
class Global:
    """A global of the compositor: interface, and version as the host has it."""

    interface: str
    version: int


@dataclass(slots=True, eq=False)
class Context:
    """One client's state, as far as filters, buffers and surfaces share it.

    Attributes:
        client_id: of the channel.
        label: names the client in logs.
        shared: with all other clients of the guest.
        capabilities: the host's.
        shares: what it may take up of the host.
        objects: both id spaces.
        owners: whose each udmabuf and memfd is that the shell makes and keeps: a
            `Location` or a `Buffer` of `buffers`.
        globals: what the compositor has ever advertised, by global name.
        withdrawn: names of those that it has taken back.
        shm_formats: what the compositor's `wl_shm` takes; empty until it has said so.
        presentation_clock: the one whose times `wp_presentation` tells.
        hears_keys: there is a keyboard of the proxy's own.
        woken: what the client's stalled request waits for may have come.
        outbox: where everything goes; empty between two inputs.
    """

    client_id: int
    label: str
    shared: Shared
    capabilities: CompositorCapabilities
    shares: Shares
    objects: ObjectTable = field(
        default_factory=lambda: ObjectTable(INTERFACES["wl_display"])
    )
    owners: dict[Handle, object] = field(default_factory=dict)
    globals: dict[int, Global] = field(default_factory=dict)
    withdrawn: set[int] = field(default_factory=set)
    shm_formats: set[int] = field(default_factory=set)
    presentation_clock: int = CLOCK_MONOTONIC
    hears_keys: bool = False
    woken: bool = False
    _own_registry: ProtocolObject | None = None
    _own_globals: dict[str, ProtocolObject] = field(default_factory=dict)
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.client_id)

    @property
    def config(self) -> RelayConfig:
        """The VM's."""
        return self.shared.config

    @property
    def executable(self) -> str:
        """The app's, as the agent says: the same for each of its processes."""
        return self.label.rpartition("(")[0]

    @property
    def clock(self) -> GuestClock:
        """The guest's."""
        return self.shared.clock

    def make_handle(self, owner: object) -> Handle:
        """Name what the shell is to make and keep for a `Location` or a `Buffer`."""
        handle = next(self.shared.handles)
        self.owners[handle] = owner
        return handle

    def close_handle(self, handle: Handle) -> None:
        """Have the shell close what it made."""
        del self.owners[handle]
        self.command(CloseHandle(self.client_id, handle))

    def command(self, command: Command) -> None:
        """Have the shell do something, after all that was said before."""
        self.outbox.command(command)

    def send_frame(self, frame: Frame) -> None:
        """Send the agent a frame, after all that was said before."""
        self.outbox.command(SendFrame(frame))

    def wake(self) -> None:
        """Have the client try its stalled request again, if it has one."""
        self.woken = True

    def trace(self, level: TraceLevel, message: str) -> None:
        """Log a line about this client."""
        self.command(Trace(self.client_id, level, message))

    def warn(self, message: str) -> None:
        """Log what somebody may have to look into."""
        self.trace(TraceLevel.WARNING, message)

    def debug(self, message: str) -> None:
        """Log what only explains."""
        self.trace(TraceLevel.DEBUG, message)

    def send(
        self,
        target: ProtocolObject,
        request: str,
        args: Sequence[ArgValue] = (),
        handles: Sequence[Handle] = (),
    ) -> None:
        """Send a request of the proxy's own; ids in `args` are host ids."""
        spec = target.interface.request(request)
        self.outbox.request(encode_message(target.host_id, spec, args), handles)

    def send_event(
        self,
        source: ProtocolObject,
        event: str,
        args: Sequence[ArgValue] = (),
        attachments: Sequence[Attachment] = (),
    ) -> None:
        """Send the guest an event of the proxy's own; ids in `args` are guest ids."""
        spec = source.interface.event(event)
        self.outbox.event(encode_message(source.guest_id, spec, args), attachments)

    def delete_guest_id(self, entry: ProtocolObject) -> None:
        """Free a guest id as a compositor would: tell the guest, if it allocated it."""
        guest_id = entry.guest_id
        self.objects.forget_guest(entry)
        if guest_id < FIRST_SERVER_ID:
            self.send_event(self.objects.display, "delete_id", (guest_id,))

    def own_global(self, interface: str, version: int) -> ProtocolObject | None:
        """Bind a global for the proxy's own use, once; None if the host has none.

        Args:
            interface: its name.
            version: the highest that is of use; the host may have less.
        """
        if interface in self._own_globals:
            return self._own_globals[interface]
        names = [n for n in self._names(interface) if n not in self.withdrawn]
        if not names:
            return None
        name, registry = names[-1], self.own_registry()
        bound = min(version, self.globals[name].version, INTERFACES[interface].version)
        entry = self.objects.add_own(INTERFACES[interface], bound, IGNORED)
        self.send(
            registry,
            "bind",
            (name, NewId(interface.encode(), bound, entry.host_id)),
        )
        self._own_globals[interface] = entry
        return entry

    def own_registry(self) -> ProtocolObject:
        """The proxy's own registry, whose events tell of globals as all others' do."""
        if self._own_registry is None:
            self._own_registry = self.objects.add_own(INTERFACES["wl_registry"], 1)
            args = (self._own_registry.host_id,)
            self.send(self.objects.display, "get_registry", args)
        return self._own_registry

    def is_withdrawn(self, interface: str) -> bool:
        """Whether the compositor had such a global, and has none any more."""
        names = self._names(interface)
        return bool(names) and self.withdrawn.issuperset(names)

    def _names(self, interface: str) -> list[int]:
        return [n for n, known in self.globals.items() if known.interface == interface]

    def when_compositor_reached(self, listener: Listener) -> None:
        """Tell `listener` once the compositor has handled all requests so far."""
        callback = self.objects.add_own(INTERFACES["wl_callback"], 1, listener)
        self.send(self.objects.display, "sync", (callback.host_id,))
