"""A compositor for tests: no screen, but every pixel it is shown can be looked at.

What a request does beyond creating and destroying objects is here; requests that need
nothing else are only recorded (`ServerDisplay.called`).
"""

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pywayland.protocol.content_type_v1 import WpContentTypeManagerV1
from pywayland.protocol.ext_data_control_v1 import ExtDataControlManagerV1
from pywayland.protocol.linux_dmabuf_v1 import ZwpLinuxDmabufV1
from pywayland.protocol.presentation_time import WpPresentation
from pywayland.protocol.viewporter import WpViewporter
from pywayland.protocol.wayland import (
    WlBuffer,
    WlCompositor,
    WlDataDeviceManager,
    WlDataOffer,
    WlOutput,
    WlSeat,
    WlShm,
    WlSubcompositor,
)
from pywayland.protocol.wp_primary_selection_unstable_v1 import (
    ZwpPrimarySelectionDeviceManagerV1,
    ZwpPrimarySelectionOfferV1,
)
from pywayland.protocol.xdg_activation_v1 import XdgActivationV1
from pywayland.protocol.xdg_shell import XdgWmBase
from pywayland.protocol_core.interface import Interface
from pywayland.protocol_core.proxy import Proxy

from tests.peers.libwayland import Resource, ServerClient, ServerDisplay

KEYMAP = b"xkb_keymap { the very bytes };\n\0" * 1500
TOKEN = "token-of-the-compositor"
CLOCK = 1
SECOND = (1 << 33) + 5


class ZwlrScreencopyManagerV1(Interface):
    """A global that pywayland's tables do not know."""

    name = "zwlr_screencopy_manager_v1"
    version = 3


class _ScreencopyProxy(Proxy[ZwlrScreencopyManagerV1]):
    interface = ZwlrScreencopyManagerV1


ZwlrScreencopyManagerV1._gen_c()
ZwlrScreencopyManagerV1.proxy_class = _ScreencopyProxy

HIDDEN: tuple[tuple[type[Interface], int], ...] = (
    (ZwpLinuxDmabufV1, 3),
    (ExtDataControlManagerV1, 1),
    (ZwlrScreencopyManagerV1, 3),
)


class PoolFile:
    """The memory of a wl_shm_pool, for as long as the pool or a buffer needs it."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self.size = size
        self._users = 1

    def use(self) -> None:
        self._users += 1

    def drop(self) -> None:
        self._users -= 1
        if not self._users:
            os.close(self.fd)


@dataclass(frozen=True, slots=True)
class Buffer:
    file: PoolFile
    offset: int
    width: int
    height: int
    stride: int
    format: int

    def pixels(self) -> bytes:
        """Read the pixels as a compositor does: by mapping the pool."""
        with mmap.mmap(
            self.file.fd, self.file.size, mmap.MAP_SHARED, mmap.PROT_READ
        ) as pool:
            return pool[self.offset : self.offset + self.stride * self.height]


@dataclass(slots=True)
class Surface:
    """What a surface shows and has shown."""

    attached: Resource | None = None
    frames: list[bytes] = field(default_factory=list)
    damage: list[tuple[int, ...]] = field(default_factory=list)
    shown: Resource | None = None
    callbacks: list[Resource] = field(default_factory=list)
    feedback: list[Resource] = field(default_factory=list)
    xdg_surface: Resource | None = None
    role: Resource | None = None
    configured: bool = False
    acked: bool = False


Handler = Callable[..., None]

FORMATS = (0x34325258, 0x34325241, 0x3231564E)
"""XRGB8888, ARGB8888, NV12."""


@dataclass(frozen=True, slots=True)
class Planes:
    """A buffer that came through linux-dmabuf: (file, offset, bytes) of each plane."""

    parts: tuple[tuple[PoolFile, int, int], ...]

    def pixels(self) -> bytes:
        """Read all planes, one after the other."""
        return b"".join(
            os.pread(file.fd, size, offset) for file, offset, size in self.parts
        )


@dataclass(frozen=True, slots=True)
class Solid:
    """A single-pixel buffer."""

    rgba: tuple[int, ...]

    def pixels(self) -> bytes:
        """Return its four numbers."""
        return struct.pack("=4I", *self.rgba)


class Compositor(ServerDisplay):
    """The compositor; what the tests decide is in its attributes.

    Attributes:
        releases_at_once: whether a buffer is released as soon as it is shown.
        imports: whether a dma-buf becomes a buffer.
        repeats: how a key that is held repeats: times a second, and after how many milliseconds.
    """

    def __init__(self, *, native_shm: bool = False, dmabuf: bool = False) -> None:
        super().__init__()
        self.releases_at_once = True
        self.imports = dmabuf
        self.repeats = 25, 600
        self.seat = self.output = 0
        for name, handler in HANDLERS.items():
            interface, _, request = name.partition(".")
            self.handlers[interface, request] = handler
        self.add_global(WlCompositor, 6)
        self.add_global(WlSubcompositor, 1)
        self.shm = 0
        if native_shm:
            self.add_native_shm()
        else:
            self.shm = self.add_global(WlShm, 1, _send_formats)
        self.add_global(XdgWmBase, 5)
        self.seat = self.add_global(WlSeat, 8, _introduce_seat)
        self.output = self.add_global(WlOutput, 4, introduce_output)
        self.add_global(WlDataDeviceManager, 3)
        self.add_global(ZwpPrimarySelectionDeviceManagerV1, 1)
        self.add_global(WpPresentation, 1, lambda r: r.send("clock_id", CLOCK))
        self.add_global(XdgActivationV1, 1)
        self.add_global(WpContentTypeManagerV1, 1)
        self.add_global(WpViewporter, 1)
        for hidden, version in HIDDEN:
            if dmabuf and hidden is ZwpLinuxDmabufV1:
                self.add_global(hidden, version, _send_modifiers)
            else:
                self.add_global(hidden, version)

    @property
    def apps(self) -> list[ServerClient]:
        """The connections that do something: not the one that the proxy only watches."""
        return [client for client in self.clients if client.resources]

    def surfaces(self) -> list[Surface]:
        """Every surface of every client, oldest first."""
        return [
            resource.state
            for client in self.clients
            for resource in client.all("wl_surface")
        ]


def _send_formats(shm: Resource) -> None:
    shm.send("format", 0)
    shm.send("format", 1)


def _send_modifiers(dmabuf: Resource) -> None:
    for drm_format in FORMATS:
        dmabuf.send("modifier", drm_format, 0, 0)
        dmabuf.send("modifier", drm_format, 1, 2)


def _create_params(_dmabuf: Resource, params: Resource) -> None:
    params.state = []


def _add(
    params: Resource,
    fd: int,
    index: int,
    offset: int,
    stride: int,
    high: int,
    low: int,
) -> None:
    assert index == len(params.state)
    assert (high, low) == (0, 0)
    params.state.append((PoolFile(fd, 0), offset, stride))


def _import(
    params: Resource, width: int, height: int, drm_format: int, _flags: int
) -> None:
    display = params.client.display
    assert isinstance(display, Compositor)
    if not display.imports:
        for file, _, _ in params.state:
            file.drop()
        params.send("failed")
        return
    rows = (height, -(-height // 2))
    parts = tuple(
        (file, offset, stride * rows[index])
        for index, (file, offset, stride) in enumerate(params.state)
    )
    buffer = Resource(params.client, WlBuffer, 1)
    buffer.state = Planes(parts)
    for file, _, _ in parts:
        buffer.on_destroy.append(file.drop)
    params.send("created", buffer)


def _introduce_seat(seat: Resource) -> None:
    seat.send("capabilities", 3)
    seat.send("name", "seat0")


def introduce_output(output: Resource) -> None:
    output.send("geometry", 0, 0, 300, 200, 0, "wlproxy", "loopback", 0)
    output.send("mode", 1, 640, 480, 60000)
    if output.version >= 4:
        output.send("scale", 1)
        output.send("name", "TEST-1")
        output.send("done")


def _create_pool(_shm: Resource, pool: Resource, fd: int, size: int) -> None:
    pool.state = PoolFile(fd, size)
    pool.on_destroy.append(pool.state.drop)


def _resize(pool: Resource, size: int) -> None:
    pool.state.size = size


def _create_buffer(pool: Resource, buffer: Resource, *layout: int) -> None:
    buffer.state = Buffer(pool.state, *layout)
    pool.state.use()
    buffer.on_destroy.append(pool.state.drop)


def _create_solid(_manager: Resource, buffer: Resource, *rgba: int) -> None:
    buffer.state = Solid(rgba)


def _create_surface(_compositor: Resource, surface: Resource) -> None:
    surface.state = Surface()


def _attach(surface: Resource, buffer: Resource | None, _x: int, _y: int) -> None:
    surface.state.attached = buffer


def _damage(surface: Resource, *rectangle: int) -> None:
    surface.state.damage.append(rectangle)


def _frame(surface: Resource, callback: Resource) -> None:
    surface.state.callbacks.append(callback)


def _commit(surface: Resource) -> None:
    state: Surface = surface.state
    if state.xdg_surface is not None and not state.acked:
        if state.attached is not None:
            state.xdg_surface.post_error(3, "xdg_surface has never been configured")
        elif not state.configured:
            configure(surface)
        return
    if state.attached is not None:
        state.frames.append(state.attached.state.pixels())
        display = surface.client.display
        assert isinstance(display, Compositor)
        if display.releases_at_once:
            state.attached.send("release")
        state.shown, state.attached = state.attached, None
    for callback in state.callbacks:
        callback.send("done", 1234)
        callback.destroy()
    state.callbacks.clear()
    for feedback in state.feedback:
        high, low = SECOND >> 32, SECOND & 0xFFFFFFFF
        feedback.send("presented", high, low, 7, 16_666_666, 0, 42, 1)
        feedback.destroy()
    state.feedback.clear()


def configure(surface: Resource, size: tuple[int, int] = (0, 0)) -> None:
    """Configure a window or popup."""
    state: Surface = surface.state
    assert state.xdg_surface is not None
    if state.role is not None and state.role.interface.name == "xdg_toplevel":
        state.role.send("configure", *size, b"\4\0\0\0")
    elif state.role is not None:
        state.role.send("configure", 3, 4, 50, 60)
    state.configured = True
    state.xdg_surface.send("configure", 77)


def _get_xdg_surface(_base: Resource, xdg: Resource, surface: Resource) -> None:
    xdg.state = surface
    surface.state.xdg_surface = xdg


def _get_toplevel(xdg: Resource, toplevel: Resource) -> None:
    xdg.state.state.role = toplevel


def _get_popup(xdg: Resource, popup: Resource, _parent: object, _where: object) -> None:
    xdg.state.state.role = popup


def _ack_configure(xdg: Resource, serial: int) -> None:
    if serial != 77:
        xdg.post_error(4, f"wrong configure serial: {serial}")
    xdg.state.state.acked = True


def _get_keyboard(seat: Resource, keyboard: Resource) -> None:
    fd = os.memfd_create("keymap", os.MFD_CLOEXEC)
    try:
        os.write(fd, KEYMAP)
        keyboard.send("keymap", 1, fd, len(KEYMAP))
    finally:
        os.close(fd)
    display = seat.client.display
    assert isinstance(display, Compositor)
    keyboard.send("repeat_info", *display.repeats)


def _offer(source: Resource, mime: str) -> None:
    source.state = [*(source.state or ()), mime]


def _receive(offer: Resource, mime: str, fd: int) -> None:
    offer.state.append((mime, fd))
    offer.on_destroy.append(lambda: _close_kept(offer.state, fd))


def _close_kept(kept: list[tuple[str, int]], fd: int) -> None:
    for item in kept:
        if item[1] == fd:
            kept.remove(item)
            os.close(fd)
            return


def _feedback(_presentation: Resource, surface: Resource, feedback: Resource) -> None:
    surface.state.feedback.append(feedback)


def _token_commit(token: Resource) -> None:
    token.send("done", TOKEN)


HANDLERS: dict[str, Handler] = {
    "wl_shm.create_pool": _create_pool,
    "wl_shm_pool.resize": _resize,
    "wl_shm_pool.create_buffer": _create_buffer,
    "zwp_linux_dmabuf_v1.create_params": _create_params,
    "zwp_linux_buffer_params_v1.add": _add,
    "zwp_linux_buffer_params_v1.create": _import,
    "wp_single_pixel_buffer_manager_v1.create_u32_rgba_buffer": _create_solid,
    "wl_compositor.create_surface": _create_surface,
    "wl_surface.attach": _attach,
    "wl_surface.damage": _damage,
    "wl_surface.damage_buffer": _damage,
    "wl_surface.frame": _frame,
    "wl_surface.commit": _commit,
    "xdg_wm_base.get_xdg_surface": _get_xdg_surface,
    "xdg_surface.get_toplevel": _get_toplevel,
    "xdg_surface.get_popup": _get_popup,
    "xdg_surface.ack_configure": _ack_configure,
    "wl_seat.get_keyboard": _get_keyboard,
    "wl_data_source.offer": _offer,
    "wl_data_offer.receive": _receive,
    "zwp_primary_selection_source_v1.offer": _offer,
    "zwp_primary_selection_offer_v1.receive": _receive,
    "wp_presentation.feedback": _feedback,
    "xdg_activation_token_v1.commit": _token_commit,
}


def offer_selection(device: Resource, *mimes: str) -> Resource:
    """Offer a selection to an app; what it asks for is listed in the offer's state."""
    primary = device.interface.name.startswith("zwp_primary")
    kind: Any = ZwpPrimarySelectionOfferV1 if primary else WlDataOffer
    offer = Resource(device.client, kind, device.version)
    offer.state = []
    device.send("data_offer", offer)
    for mime in mimes:
        offer.send("offer", mime)
    device.send("selection", offer)
    return offer
