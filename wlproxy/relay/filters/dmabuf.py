"""linux-dmabuf: served here, not by the compositor, which sees none of these objects.

The checks are those of the protocol, with its error codes: what an app does wrong ends
it, as it would without us.  What is right and cannot be shown is answered with `failed`,
however much of that is for the host's sake.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wlproxy.protocol.channel.frames import AttachmentKind
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import DisplayError
from wlproxy.relay.buffers import offer
from wlproxy.relay.buffers.buffer import Buffer, DmabufGeometry, Plane, span_of
from wlproxy.relay.buffers.locations import Memory
from wlproxy.relay.formats import LAYOUTS, PIXEL_SIZE, PlaneLayout, shm_format
from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Request
from wlproxy.relay.wire.objects import ProtocolObject

(
    ALREADY_USED,
    PLANE_IDX,
    PLANE_SET,
    INCOMPLETE,
    INVALID_FORMAT,
    INVALID_DIMENSIONS,
    OUT_OF_BOUNDS,
) = range(7)
"""`zwp_linux_buffer_params_v1.error`."""

MAX_PLANES: Final = 4
"""The most planes of any format that DRM knows."""

KNOWN_FLAGS: Final = 0b111
"""y_invert, interlaced, bottom_first."""

FORMATS_BIND_SINCE: Final = 4
"""Version from which on a pair that was not offered is an error."""

ONE_MODIFIER_SINCE: Final = 5
"""Version from which on planes of different modifiers are an error."""

INT_MAX: Final = 0x7FFFFFFF
UINT_MAX: Final = 0xFFFFFFFF


@dataclass(slots=True)
class AddedPlane:
    """What one `add` said.

    Attributes:
        memory: None where the fd is none.
        size: of the memory.
        offset: of the plane in it.
        stride: bytes from row to row.
        modifier: as the app named it.
        linear: that is LINEAR, by its name or by what the agent says.
    """

    memory: Memory | None
    size: int
    offset: int
    stride: int
    modifier: int
    linear: bool


@dataclass(slots=True)
class Params:
    """A `zwp_linux_buffer_params_v1` of the guest.

    Attributes:
        planes: by their index.
        used: a buffer was made of them.
    """

    planes: dict[int, AddedPlane] = field(default_factory=dict)
    used: bool = False


class _Unusable(Exception):  # noqa: N818 - no error: it has an answer
    """Nothing is wrong with a request, but no buffer comes of it."""


def destroy(state: ClientState, request: Request) -> None:
    """`destroy`, of what has nothing to take care of."""
    state.context.delete_guest_id(request.object)


def get_feedback(state: ClientState, request: Request) -> None:
    """`get_default_feedback`, `get_surface_feedback`: the same for all surfaces."""
    context = state.context
    if request.spec.name == "get_surface_feedback":
        surface = context.objects.guest(request.integer("surface"))
        if surface.interface.name != "wl_surface":
            raise request.error(DisplayError.INVALID_OBJECT, "this is no wl_surface")
    feedback = state.add_guest(request, "zwp_linux_dmabuf_feedback_v1")
    table = offer.format_table(context)
    attachment = state.attach_contents(table)
    offer.send_feedback(context, feedback, attachment, len(table))


def create_params(state: ClientState, request: Request) -> None:
    """`create_params`: planes to come."""
    state.add_guest(request, "zwp_linux_buffer_params_v1").role = Params()


def destroy_params(state: ClientState, request: Request) -> None:
    """`destroy`: what was made of them lives on."""
    _drop(state, _params(request))
    state.context.delete_guest_id(request.object)


def add(state: ClientState, request: Request) -> None:
    """`add`: remember a plane; nothing is located."""
    params = _unused_params(request)
    index, offset, stride = request.integers("plane_idx", "offset", "stride")
    high, low = request.integers("modifier_hi", "modifier_lo")
    modifier = high << 32 | low
    if index >= MAX_PLANES:
        raise request.error(PLANE_IDX, f"plane index {index} is too high")
    if index in params.planes:
        raise request.error(PLANE_SET, f"plane {index} has an fd already")
    if request.object.version >= ONE_MODIFIER_SINCE and any(
        known.modifier != modifier for known in params.planes.values()
    ):
        raise request.error(INVALID_FORMAT, "planes of different modifiers")
    attachment = request.fds[0]
    memory = None
    if attachment.kind is AttachmentKind.MEMORY:
        memory = state.locations.use_memory(attachment.object_id)
    linear = modifier in offer.modifiers(state.context)
    params.planes[index] = AddedPlane(
        memory, attachment.size, offset, stride, modifier, linear
    )


def create(state: ClientState, request: Request) -> None:
    """`create`: answered when the buffer is known to be showable."""
    geometry = _geometry(request)
    entry = ProtocolObject(INTERFACES["wl_buffer"], request.object.version)
    buffer = _create_buffer(state, request, entry, geometry)
    if buffer.life.is_failed:
        state.buffers.destroy(buffer)  # nobody will know it
    else:
        state.buffers.answer_create(buffer)


def create_immed(state: ClientState, request: Request) -> None:
    """`create_immed`: the buffer is there at once, and located when it is shown."""
    # Its id is entered first: a wrong one is an error whatever the rest is.
    entry = state.add_guest(request, "wl_buffer")
    _create_buffer(state, request, entry, _geometry(request))


def _geometry(request: Request) -> DmabufGeometry:
    return DmabufGeometry(*request.integers("width", "height", "format", "flags"))


def _create_buffer(
    state: ClientState,
    request: Request,
    entry: ProtocolObject,
    geometry: DmabufGeometry,
) -> Buffer:
    """Enter the buffer; a dead one, and the app knows, if it cannot be shown.

    Raises:
        WaylandError: the app broke the protocol.
    """
    params = _unused_params(request)
    params.used = True
    _check(state, request, params.planes, geometry)
    try:
        planes = _planes(params.planes, geometry)
    except _Unusable as exc:
        _drop(state, params)
        buffer = state.buffers.add(entry, (), geometry, request.object)
        state.buffers.kill(buffer, str(exc))
        return buffer
    params.planes.clear()  # the memories are the buffer's from now on
    not_shm = _not_shm(state, planes, geometry)
    return state.buffers.add(entry, planes, geometry, request.object, not_shm)


def _check(
    state: ClientState,
    request: Request,
    added: Mapping[int, AddedPlane],
    geometry: DmabufGeometry,
) -> None:
    """Check what the protocol calls errors of the app.

    Raises:
        WaylandError: there is one.
    """
    width, height, fourcc = geometry.width, geometry.height, geometry.fourcc
    if not added or max(added) != len(added) - 1:
        raise request.error(INCOMPLETE, "a plane is missing")
    layouts = LAYOUTS.get(fourcc, ())
    linear = all(plane.linear for plane in added.values())
    known = linear and fourcc in offer.formats(state.context)
    if not known and request.object.version >= FORMATS_BIND_SINCE:
        raise request.error(
            INVALID_FORMAT, f"format {fourcc:#x} with this modifier was not offered"
        )
    if width < 1 or height < 1:
        raise request.error(INVALID_DIMENSIONS, f"invalid size {width}x{height}")
    if len(added) < len(layouts):
        raise request.error(
            INCOMPLETE,
            f"format {fourcc:#x} has {len(layouts)} planes, not {len(added)}",
        )
    for index, plane in added.items():
        layout = layouts[index] if index < len(layouts) else None
        end = plane.offset + _needed(plane, layout, height, whole=not index)
        if end > UINT_MAX or (plane.memory is not None and end > plane.size):
            raise request.error(
                OUT_OF_BOUNDS,
                f"plane {index} ends at {end}, its dma-buf at {plane.size}",
            )


def _needed(
    plane: AddedPlane, layout: PlaneLayout | None, height: int, *, whole: bool
) -> int:
    """Count the bytes that a plane must have: whole rows of the first, as protocol has it.

    The last row of the others, which a compositor does not check, may be cut short.
    """
    if whole:
        return plane.stride * height
    rows = layout.row_count(height) if layout is not None else 1
    return plane.stride * max(rows - 1, 1)


def _planes(added: Mapping[int, AddedPlane], geometry: DmabufGeometry) -> list[Plane]:
    """Make a buffer's planes of what was added.

    Raises:
        _Unusable: no buffer comes of them.
    """
    width, fourcc, flags = geometry.width, geometry.fourcc, geometry.flags
    layouts = LAYOUTS.get(fourcc, ())
    if len(layouts) != len(added):
        raise _Unusable(f"{len(added)} planes of format {fourcc:#x}")
    if flags & ~KNOWN_FLAGS:
        raise _Unusable(f"unknown flags {flags:#x}")
    planes: list[Plane] = []
    for index, layout in enumerate(layouts):
        plane = added[index]
        if plane.memory is None:
            raise _Unusable("its fd is no memory that can be located")
        if not plane.linear:
            raise _Unusable(f"modifier {plane.modifier:#x} is not LINEAR")
        least = layout.row_bytes(width)
        rows = layout.row_count(geometry.height)
        length = min(plane.stride * rows, plane.size - plane.offset)
        if plane.stride < least or length < plane.stride * (rows - 1) + least:
            raise _Unusable(
                f"plane {index} is smaller than {width}x{geometry.height} pixels"
            )
        area = (plane.offset, length)
        planes.append(Plane(plane.memory, *area, plane.stride, area))
    if len({added[index].size for index in added}) == 1:
        # Perhaps several fds of the same dma-buf: what all of them located tells.
        span = span_of(plane.span for plane in planes)
        for each in planes:
            each.span = span
    return planes


def _not_shm(state: ClientState, planes: list[Plane], geometry: DmabufGeometry) -> str:
    """Say why a buffer can be in no `wl_shm` pool; nothing if it can."""
    height, fourcc, flags = geometry.height, geometry.fourcc, geometry.flags
    known = shm_format(fourcc)
    if len(planes) > 1 or known not in PIXEL_SIZE:
        return f"wl_shm does not have the layout of format {fourcc:#x}"
    if known not in state.context.capabilities.shm_formats:
        return f"the compositor's wl_shm does not take format {fourcc:#x}"
    if flags:
        return f"wl_shm knows no flags ({flags:#x})"
    if planes[0].place + planes[0].stride * height > INT_MAX:
        return "too large for wl_shm"
    return ""


def _drop(state: ClientState, params: Params) -> None:
    for plane in params.planes.values():
        if plane.memory is not None:
            state.locations.drop_memory(plane.memory)
    params.planes.clear()


def _params(request: Request) -> Params:
    role = request.object.role
    assert isinstance(role, Params)  # entered with every one of them
    return role


def _unused_params(request: Request) -> Params:
    params = _params(request)
    if params.used:
        raise request.error(ALREADY_USED, "params were used already")
    return params
