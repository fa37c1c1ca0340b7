"""Surfaces and subsurfaces of framed windows: how large they are, where, and above what.

Each function is given what is to be done about a request otherwise (`onward`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from wlproxy.relay.buffers.buffer import Buffer
from wlproxy.relay.buffers.surfaces import Surface
from wlproxy.relay.frame.tree import Node
from wlproxy.relay.state import ClientState, surface_of
from wlproxy.relay.wire.forwarding import Request

Onward = Callable[[ClientState, Request], None]

SWAPPED = 1
"""The bit of `wl_output.transform` that says that width and height are swapped."""

UNSET = -256
"""A FIXED of -1, by which a viewport's source is unset."""


@dataclass(slots=True, eq=False)
class Viewport:
    """The role of a `wp_viewport`: of which surface it is."""

    node: Node


def create(state: ClientState, request: Request, onward: Onward) -> None:
    """`wl_compositor.create_surface`."""
    onward(state, request)
    surface = state.context.objects.guest(request.new_id).role
    assert isinstance(surface, Surface)  # just made
    state.frames.create(surface)


def attach(state: ClientState, request: Request, onward: Onward) -> None:
    """`attach`: what is no buffer of ours is one pixel; a subsurface stays where it is."""
    buffer_id, x, y = request.numbers
    node = state.frames.node(surface_of(request))
    role = state.context.objects.guest(buffer_id).role if buffer_id else None
    node.plain = bool(buffer_id) and not isinstance(role, Buffer)
    if x or y:
        if node.link is not None:
            request = request.saying((buffer_id, 0, 0))
        else:
            node.moves = True
    onward(state, request)


def offset(state: ClientState, request: Request, onward: Onward) -> None:
    """`offset`: the same."""
    node = state.frames.node(surface_of(request))
    if node.link is None:
        node.moves = True
        onward(state, request)


def commit(state: ClientState, request: Request, onward: Onward) -> None:
    """`commit`: with a new layout, if there is one."""
    window = state.frames.commit(surface_of(request))
    onward(state, request)
    if window is not None:
        state.frames.committed(window)


def destroy(state: ClientState, request: Request, onward: Onward) -> None:
    """`destroy`: the frame goes after the window."""
    surface = surface_of(request)
    onward(state, request)
    state.frames.destroy(surface)


def set_scale(state: ClientState, request: Request, onward: Onward) -> None:
    """`set_buffer_scale`: what is no scale is an error, which the compositor will name."""
    if (scale := request.integer("scale")) > 0:
        state.frames.node(surface_of(request)).scale = scale
    onward(state, request)


def set_transform(state: ClientState, request: Request, onward: Onward) -> None:
    """`set_buffer_transform`."""
    turned = bool(request.integer("transform") & SWAPPED)
    state.frames.node(surface_of(request)).turned = turned
    onward(state, request)


def get_viewport(state: ClientState, request: Request, onward: Onward) -> None:
    """`wp_viewporter.get_viewport`."""
    surface = state.named_surface(request)
    onward(state, request)
    if surface is not None:
        node = state.frames.node(surface)
        state.context.objects.guest(request.new_id).role = Viewport(node)


def set_source(state: ClientState, request: Request, onward: Onward) -> None:
    """`wp_viewport.set_source`: what is no size is an error, or unsets it."""
    width, height = request.integers("width", "height")
    if isinstance(role := request.object.role, Viewport):
        unset = width <= 0 or height <= 0
        role.node.source = None if unset else (width, height)
    onward(state, request)


def set_destination(state: ClientState, request: Request, onward: Onward) -> None:
    """`wp_viewport.set_destination`: the same."""
    width, height = request.integers("width", "height")
    if isinstance(role := request.object.role, Viewport):
        unset = width <= 0 or height <= 0
        role.node.destination = None if unset else (width, height)
    onward(state, request)


def destroy_viewport(state: ClientState, request: Request, onward: Onward) -> None:
    """`wp_viewport.destroy`: both are unset."""
    if isinstance(role := request.object.role, Viewport):
        role.node.source = role.node.destination = None
    onward(state, request)


def get_subsurface(state: ClientState, request: Request, onward: Onward) -> None:
    """`wl_subcompositor.get_subsurface`: below the frame, from the start."""
    child, parent = state.named_surface(request), state.named_surface(request, "parent")
    onward(state, request)
    if child is not None and parent is not None:
        entry = state.context.objects.guest(request.new_id)
        state.frames.add_part(entry, child, parent)


def set_position(state: ClientState, request: Request, onward: Onward) -> None:
    """`wl_subsurface.set_position`: not where no frame could be drawn around it."""
    place = request.integers("x", "y")
    if link := state.frames.link_of(request.object.role):
        allowed = state.frames.move(link, *place)
        if allowed != place:
            request = request.saying(allowed)
    onward(state, request)


def set_sync(state: ClientState, request: Request, onward: Onward) -> None:
    """`wl_subsurface.set_sync`."""
    if link := state.frames.link_of(request.object.role):
        state.frames.set_sync(link)
    onward(state, request)


def set_desync(state: ClientState, request: Request, onward: Onward) -> None:
    """`wl_subsurface.set_desync`: not while what it shows would be beside the frame."""
    link = state.frames.link_of(request.object.role)
    if link is None or state.frames.set_desync(link):
        onward(state, request)


def destroy_subsurface(state: ClientState, request: Request, onward: Onward) -> None:
    """`wl_subsurface.destroy`."""
    if link := state.frames.link_of(request.object.role):
        state.frames.remove_part(link)
    onward(state, request)
