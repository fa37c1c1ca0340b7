"""Everything that the filters of one client work on: its connection, its buffers, its surfaces."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.client_buffers import Buffers
from wlproxy.relay.buffers.locations import Locations
from wlproxy.relay.buffers.surfaces import Surface, Surfaces
from wlproxy.relay.gestures import Gestures
from wlproxy.relay.look import NEEDED, WindowFrame
from wlproxy.relay.questions import Questions
from wlproxy.relay.wire.context import Context
from wlproxy.relay.wire.forwarding import Forwarder, Request
from wlproxy.relay.wire.objects import MUTED, ProtocolObject

if TYPE_CHECKING:
    from wlproxy.relay.frame.frames import Frames


def look_of(context: Context) -> WindowFrame | None:
    """Say how the windows of a client that begins are framed; None: they are not."""
    look = context.config.frame
    if look is None or look.asked:
        return look
    there = context.capabilities.global_versions
    return look if all(each in there for each in NEEDED) else None


@dataclass(eq=False, init=False, kw_only=True)
class ClientState(Forwarder):
    """One client: its objects, buffers and surfaces, and the way through.

    Attributes:
        locations: its pinned ranges.
        buffers: its pools and buffers.
        surfaces: its surfaces.
        gestures: what the user has just pressed, and where.
        questions: what the user is being asked.
    """

    locations: Locations
    buffers: Buffers
    surfaces: Surfaces
    gestures: Gestures
    questions: Questions
    _frames: object

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.locations = Locations(context)
        self.buffers = Buffers(context, self.locations)
        self.surfaces = Surfaces(context, self.buffers)
        self.gestures = Gestures(context)
        self.questions = Questions(context)
        self._frames = None

    def frame(self, look: WindowFrame | None) -> None:
        """Have its windows be framed, before it makes any; None: they are not."""
        self._frames = None
        if look is not None:
            # Here, since most windows have none, and it takes a while.
            from wlproxy.relay.frame.frames import Frames  # noqa: PLC0415

            self._frames = Frames(self.context, look)

    @property
    def look(self) -> WindowFrame | None:
        """How its windows are framed; None: they are not."""
        return None if self._frames is None else self.frames.look

    @property
    def frames(self) -> "Frames":
        """Those of its windows: asked for only where windows are framed."""
        return cast("Frames", self._frames)

    def forward_new(self, request: Request) -> ProtocolObject:
        """Forward a request that creates an object, and return that."""
        created = self.forward(request)
        assert created is not None  # its new_id
        return created

    def add_guest(self, request: Request, interface: str) -> ProtocolObject:
        """Enter the object that a request creates, of which the compositor knows nothing.

        Raises:
            WaylandError: its id cannot be used.
        """
        return self.context.objects.add_guest(
            request.new_id, INTERFACES[interface], request.object.version
        )

    def add_muted(self, request: Request) -> ProtocolObject:
        """The same, for an object that does nothing."""
        interface = request.spec.args[request.spec.places["new_id"]].interface
        assert interface is not None
        created = self.add_guest(request, interface)
        created.role = MUTED
        return created

    def named_surface(
        self, request: Request, argument: str = "surface"
    ) -> Surface | None:
        """Find the surface that an argument names, if it is one."""
        surface_id = request.integer(argument)
        role = self.context.objects.guest(surface_id).role if surface_id else None
        return role if isinstance(role, Surface) else None

    def attach_postponed(self, surface: Surface) -> None:
        """Attach what was not ready when the guest did; it is by now, or has failed."""
        postponed = self.surfaces.take_postponed(surface)
        if postponed is None:
            return
        buffer, x, y = postponed
        if buffer.life.is_failed:
            # The surface keeps what it has, and all else goes on.
            self.surfaces.not_shown(surface, buffer)
            self.buffers.refuse(buffer)
            return
        self.context.send(surface.object, "attach", (buffer.object.host_id, x, y))
        self.leave(self.surfaces.attach(surface, buffer))

    def leave(self, buffers: Iterable[Buffer]) -> None:
        """Let go of buffers that surfaces have no more; one for each such surface."""
        for buffer in buffers:
            self.buffers.left(buffer)


def surface_of(request: Request) -> Surface:
    """Return the surface that a request's object is, or has been made of."""
    role = request.object.role
    assert isinstance(role, Surface)  # as every such object was given it
    return role
