"""`wl_surface`: what is attached, damaged and committed.

Everything is forwarded; this only keeps `relay.buffers.surfaces` informed.
"""

from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.surfaces import Subsurface, Surface
from wlproxy.relay.policy_tree import Switch
from wlproxy.relay.state import ClientState, surface_of
from wlproxy.relay.wire.forwarding import Request


def create(state: ClientState, request: Request) -> None:
    """`wl_compositor.create_surface`."""
    state.surfaces.create(state.forward_new(request))


def attach(state: ClientState, request: Request) -> None:
    """`attach`: at once if the buffer is ready, else with the commit.

    Only a commit shows it: it may be replaced before, or its pool's file be written yet.
    """
    buffer_id, x, y = request.numbers
    role = state.context.objects.guest(buffer_id).role if buffer_id else None
    buffer = role if isinstance(role, Buffer) else None
    surface = surface_of(request)
    if surface.configured is not None:
        surface.configured.hides = not buffer_id
    state.surfaces.take_postponed(surface)
    if buffer is not None:
        cycled = surface.cycles_with(buffer)
        if not state.buffers.is_ready(buffer, cycled=cycled):
            state.surfaces.postpone(surface, buffer, x, y)
            return
    state.forward(request)
    state.leave(state.surfaces.attach(surface, buffer))


def damage(state: ClientState, request: Request) -> None:
    """`damage`, `damage_buffer`: surface coordinates, and buffer pixels.

    The former are the same if nothing transforms.
    """
    x, y, width, height = request.numbers
    rectangle, in_buffer = (x, y, width, height), request.spec.name == "damage_buffer"
    state.surfaces.add_damage(surface_of(request), rectangle, in_buffer=in_buffer)
    state.forward(request)


def ignores_damage(role: object) -> bool:
    """Whether nobody needs to know what is damaged, since nothing is copied."""
    return isinstance(role, Surface) and not role.stale


def transform(state: ClientState, request: Request) -> None:
    """`set_buffer_scale`, `set_buffer_transform`: `damage` is in other units then."""
    is_scale = request.spec.name == "set_buffer_scale"
    name, plain = ("scale", 1) if is_scale else ("transform", 0)
    if request.integer(name) != plain:
        state.surfaces.transform(surface_of(request))
    state.forward(request)


def view(state: ClientState, request: Request) -> None:
    """`wp_viewporter.get_viewport`: the same."""
    if surface := state.named_surface(request):
        state.surfaces.transform(surface)
    state.forward(request)


def commit(state: ClientState, request: Request) -> None:
    """`commit`: copies, in mode C, before the compositor hears of it.

    The buffer that it is to show is ready by now (`relay.client` saw to that).
    """
    surface = surface_of(request)
    state.attach_postponed(surface)
    left = state.surfaces.commit(surface)
    if surface.configured is not None:
        surface.configured.commit()
    state.forward(request)
    state.leave(left)


def destroy(state: ClientState, request: Request) -> None:
    """`destroy`: its buffers may go."""
    left = state.surfaces.destroy(surface_of(request))
    state.gestures.forget(surface_of(request))
    state.forward(request)
    state.leave(left)


def get_subsurface(state: ClientState, request: Request) -> None:
    """`wl_subcompositor.get_subsurface`: whose commits wait for whose."""
    child, parent = state.named_surface(request), state.named_surface(request, "parent")
    created = state.forward_new(request)
    if child and parent:
        child.parent, child.sync = parent, True
        created.role = Subsurface(child)


def set_sync(state: ClientState, request: Request) -> None:
    """`wl_subsurface.set_sync`, `set_desync`, `destroy`: the same."""
    role = request.object.role
    if isinstance(role, Subsurface):
        role.surface.sync = request.spec.name == "set_sync"
        if request.spec.name == "destroy":
            role.surface.parent = None
    state.forward(request)


def queue_commits(state: ClientState, request: Request) -> None:
    """`get_fifo`, `get_timer`: the surface shows what is committed later."""
    if surface := state.named_surface(request):
        surface.queued = True
    state.forward(request)


def set_cursor(state: ClientState, request: Request) -> None:
    """`set_cursor` of pointer or pen: a cursor plane takes shared memory, so no mode B."""
    surface = state.named_surface(request)
    if surface is None and state.context.config.policy.pointer.hide is Switch.OFF:
        return  # the picture stays that it had
    if surface:
        surface.is_cursor = True
    state.forward(request)
