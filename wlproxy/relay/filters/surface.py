"""`wl_surface`: what is attached, damaged and committed.

Everything is forwarded; this only keeps `relay.surfaces` informed.
"""

from collections.abc import Iterable

from wlproxy.relay.buffer import Buffer
from wlproxy.relay.state import ClientState, Request
from wlproxy.relay.surfaces import Surface


def attach(state: ClientState, request: Request) -> None:
    """`attach`: the buffer is ready by now (`relay.client` saw to that)."""
    buffer_id = request.message.integer(0)
    role = state.context.objects.guest(buffer_id).role if buffer_id else None
    buffer = role if isinstance(role, Buffer) else None
    if buffer is not None and buffer.dead:
        # What becomes of the surface is undefined: it keeps what it has.
        state.buffers.refuse(buffer)
        return
    state.forward(request)
    _settle(state, state.surfaces.attach(_surface(request), buffer))


def damage(state: ClientState, request: Request) -> None:
    """`damage`: surface coordinates, which are buffer pixels if nothing transforms."""
    _note_damage(state, request, in_buffer=False)


def damage_buffer(state: ClientState, request: Request) -> None:
    """`damage_buffer`: buffer pixels."""
    _note_damage(state, request, in_buffer=True)


def transform(state: ClientState, request: Request) -> None:
    """`set_buffer_scale`, `set_buffer_transform`: `damage` is in other units then."""
    neutral = 1 if request.spec.name == "set_buffer_scale" else 0
    if request.message.integer(0) != neutral:
        state.surfaces.transform(_surface(request))
    state.forward(request)


def view(state: ClientState, request: Request) -> None:
    """`wp_viewporter.get_viewport`: the same."""
    role = state.context.objects.guest(request.message.integer(1)).role
    if isinstance(role, Surface):
        state.surfaces.transform(role)
    state.forward(request)


def commit(state: ClientState, request: Request) -> None:
    """`commit`: copies, in mode C, before the compositor hears of it."""
    left = state.surfaces.commit(_surface(request))
    state.forward(request)
    _settle(state, left)


def destroy(state: ClientState, request: Request) -> None:
    """`destroy`: its buffers may go."""
    left = state.surfaces.destroy(_surface(request))
    state.forward(request)
    _settle(state, left)


def set_cursor(state: ClientState, request: Request) -> None:
    """`set_cursor` of pointer or pen: a cursor plane takes shared memory, so no mode B."""
    surface_id = request.message.integer(1)
    role = state.context.objects.guest(surface_id).role if surface_id else None
    if isinstance(role, Surface):
        role.is_cursor = True
    state.forward(request)


def _note_damage(state: ClientState, request: Request, *, in_buffer: bool) -> None:
    message = request.message
    x, y = message.integer(0), message.integer(1)
    rectangle = (x, y, message.integer(2), message.integer(3))
    state.surfaces.add_damage(_surface(request), rectangle, in_buffer=in_buffer)
    state.forward(request)


def _settle(state: ClientState, buffers: Iterable[Buffer]) -> None:
    for buffer in buffers:
        state.buffers.settle(buffer)


def _surface(request: Request) -> Surface:
    role = request.entry.role
    assert isinstance(role, Surface)  # entered with every wl_surface
    return role
