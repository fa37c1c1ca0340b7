"""Short scenarios of what apps and compositors do to each other, for transcripts.

Each takes one road through the whole of wlproxy, and none depends on a clock or on who
of two is faster: the same is said each time, by all.
"""

import os
import select
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio.testing
from pywayland.protocol.content_type_v1 import WpContentTypeManagerV1
from pywayland.protocol.linux_dmabuf_v1 import ZwpLinuxDmabufV1
from pywayland.protocol.presentation_time import WpPresentation
from pywayland.protocol.single_pixel_buffer_v1 import WpSinglePixelBufferManagerV1
from pywayland.protocol.tablet_v2 import ZwpTabletManagerV2, ZwpTabletV2
from pywayland.protocol.viewporter import WpViewporter
from pywayland.protocol.wayland import (
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
)
from pywayland.protocol.xdg_activation_v1 import XdgActivationV1
from pywayland.protocol.xdg_shell import XdgWmBase

from tests.peers.app import App
from tests.peers.compositor import (
    HIDDEN,
    Compositor,
    configure,
    introduce_output,
    offer_selection,
)
from tests.peers.dmabuf import NV12, DmabufCanvas, Feedback
from tests.peers.libwayland import Resource
from tests.peers.loopback import Loopback
from tests.peers.tap import Tap

TEXT = "text/plain;charset=utf-8"


class Stage:
    """Everything runs, with a tap on each side; what a scenario does comes in steps.

    Attributes:
        lines: the transcript so far.
    """

    def __init__(self, loopback: Loopback, apps: Tap, proxy: Tap) -> None:
        self.loopback = loopback
        self.compositor: Compositor = loopback.compositor
        self.lines: list[str] = []
        self._apps, self._proxy = apps, proxy

    async def connect(self) -> App:
        """Start an app."""
        app = await App.connect(self._apps.path, self.loopback.ram)
        self.loopback.apps.append(app)
        return app

    def resource(self, interface: str, index: int = -1) -> Resource:
        """Find an object of the newest app, as the compositor has it."""
        return self.compositor.apps[-1].all(interface)[index]

    async def step(self, title: str, *apps: App) -> None:
        """End a step: write down what was said in it.

        Args:
            title: what was done.
            apps: those that are still connected; they wait for what they asked for.
        """
        for app in apps:
            await app.roundtrip()
        await trio.testing.wait_all_tasks_blocked()
        for app in apps:  # the ids that are free again
            while select.select([app.display.get_fd()], [], [], 0)[0]:
                await app.pump()
        asked, told = self._apps.take()
        passed_on, answered = self._proxy.take()
        self.lines += ["", f"== {title}", *asked, *passed_on, *answered, *told]

    async def last_step(self, title: str, app: App) -> None:
        """The same, where the app is disconnected in the end."""
        await app.disconnected()
        await self.leave(title, app)

    async def leave(self, title: str, app: App) -> None:
        """Have an app leave, and wait until nobody remembers it."""
        app.close()
        self.loopback.apps.remove(app)
        left = len(self.loopback.apps)
        await self.loopback.until(lambda: self.loopback.clients() == left)
        await self.step(title)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario and what it needs.

    Attributes:
        play: does it.
        device: the host can make dma-bufs; without one, everything is copied.
        dmabuf: the compositor imports dma-bufs, and the agent can locate the guest's.
        native_shm: the compositor's wl_shm is libwayland's own.
    """

    play: Callable[[Stage, App], Awaitable[None]]
    device: bool = False
    dmabuf: bool = False
    native_shm: bool = False


SCENARIOS: dict[str, Scenario] = {}


def scenario(**needs: bool) -> Callable[[Any], Any]:
    """Give a scenario a transcript of its name."""

    def register(play: Callable[[Stage, App], Awaitable[None]]) -> Any:
        SCENARIOS[play.__name__] = Scenario(play, **needs)
        return play

    return register


# ---------------------------------------------------------------- globals


@scenario()
async def globals_and_what_is_hidden(stage: Stage, app: App) -> None:
    """An app finds what there is, less what the policy hides; outputs come and go."""
    await stage.step("the app has connected and has asked for the globals", app)
    app.bind(WlSeat)
    output = app.bind(WlOutput)
    app.bind(XdgWmBase, 2)
    await stage.step("it binds a seat, an output, and an old version", app)

    stage.compositor.add_global(WlOutput, 4, introduce_output)
    await stage.step("an output is plugged in", app)
    name = max(app.globals)
    app.keep(app.registry.bind(name, WlOutput, 4))
    await stage.step("the app binds it", app)

    stage.compositor.remove_global(stage.compositor.output)
    await stage.step("the first output is unplugged", app)
    output.release()
    app.keep(app.registry.bind(app.removed[0], WlOutput, 1))
    await stage.step("the app lets go of it, and binds it in a race", app)
    hidden = HIDDEN[0][0]
    stage.compositor.remove_global(stage.compositor.add_global(hidden, 1))
    await stage.step("a hidden global comes and goes", app)


@scenario()
async def hidden_global_is_bound(stage: Stage, app: App) -> None:
    """Who binds a hidden global by its number is told that there is no such global."""
    number = list(app.globals)[-1] + 1
    app.keep(app.registry.bind(number, HIDDEN[1][0], 1))
    await stage.last_step("the app binds what it was not told of", app)


@scenario()
async def version_too_high(stage: Stage, app: App) -> None:
    """Who binds a version that is not advertised is told so."""
    name, version = app.find("wl_compositor")
    app.keep(app.registry.bind(name, WlCompositor, version + 1))
    await stage.last_step("the app binds a version too high", app)


# ---------------------------------------------------------------- windows of wl_shm


async def _animate(stage: Stage, app: App) -> None:
    window = await app.window()
    window.role.set_title("Füße")
    window.role.set_app_id("org.example")
    await stage.step("a window is made and configured", app)
    canvases = [app.canvas((100, 30)), app.canvas((100, 30))]
    for frame in range(4):
        canvas = canvases[frame % 2]
        canvas.draw(frame)
        callback = app.keep(window.surface.frame())
        app.record(callback, "done")
        damage = (0, 0, 100, 30) if frame < 2 else (10, 5, 20, 8)
        await app.show(window.surface, canvas, *damage)
        await stage.step(f"frame {frame + 1} is drawn in buffer {frame % 2 + 1}", app)
    for canvas in canvases:
        canvas.buffer.destroy()
    window.surface.attach(None, 0, 0)
    window.surface.commit()
    await stage.step("the buffers go, and the window is unmapped", app)
    window.role.destroy()
    window.xdg_surface.destroy()
    window.surface.destroy()
    await stage.step("the window is destroyed", app)
    await stage.leave("the app leaves", app)


@scenario()
async def window_whose_pixels_are_copied(stage: Stage, app: App) -> None:
    """Mode C: two buffers in turn, with frame callbacks and partial damage."""
    await _animate(stage, app)


@scenario(device=True)
async def window_in_a_pool_of_pages(stage: Stage, app: App) -> None:
    """Mode A: the same, where the compositor maps a udmabuf as a pool."""
    await _animate(stage, app)


@scenario(device=True, dmabuf=True)
async def window_that_is_imported(stage: Stage, app: App) -> None:
    """Where the compositor imports dma-bufs: two buffers in turn, wide enough for it."""
    window = await app.window()
    canvases = [app.canvas((256, 64)), app.canvas((256, 64))]
    await stage.step("a window is made and configured", app)
    for frame in range(6):
        canvas = canvases[frame % 2]
        canvas.draw(frame)
        await app.show(window.surface, canvas)
        await stage.step(f"frame {frame + 1}", app)


@scenario(device=True)
async def pool_that_grows(stage: Stage, app: App) -> None:
    """A pool is resized; a buffer in the new part is shown, and then the old one."""
    window = await app.window()
    pool = app.pool(1 << 16)
    before = app.canvas((64, 64), pool)
    before.draw(1)
    await app.show(window.surface, before)
    await stage.step("a buffer of a small pool is shown", app)
    app.ram.take(1 << 16)
    pool.resize(1 << 20)
    after = app.canvas((64, 64), pool)
    after.draw(2)
    await app.show(window.surface, after)
    await stage.step("the pool grows, and a buffer beyond its old end is shown", app)
    before.draw(3)
    await app.show(window.surface, before)
    await stage.step("the first buffer is shown again", app)


@scenario(device=True)
async def pool_destroyed_before_its_buffers(stage: Stage, app: App) -> None:
    """A pool's buffers outlive it, whether or not the compositor knows them."""
    window = await app.window()
    pool = app.pool(1 << 20)
    shown, unused = app.canvas((64, 64), pool), app.canvas((16, 16), pool)
    pool.destroy()
    await stage.step("the pool goes", app)
    await app.show(window.surface, shown)
    await app.show(window.surface, unused)
    await stage.step("its buffers are shown", app)
    shown.buffer.destroy()
    unused.buffer.destroy()
    await stage.step("they go", app)


@scenario(device=True)
async def release_comes_late(stage: Stage, app: App) -> None:
    """The compositor holds a buffer, and releases it before and after it is destroyed."""
    stage.compositor.releases_at_once = False
    window = await app.window()
    first, second = app.canvas((64, 64)), app.canvas((64, 64))
    await app.show(window.surface, first)
    await app.show(window.surface, second)
    await stage.step("two buffers are shown, and none is released", app)
    stage.resource("wl_buffer", 0).send("release")
    await stage.step("the first is released", app)
    second.buffer.destroy()
    await stage.step("the second is destroyed while it is shown", app)
    window.surface.attach(None, 0, 0)
    window.surface.commit()
    await stage.step("the window is unmapped", app)


@scenario()
async def offset_stride_and_scale(stage: Stage, app: App) -> None:
    """Buffers that begin in the middle of a page, and damage in surface coordinates."""
    surface = app.surface()
    surface.set_buffer_scale(2)
    canvas = app.canvas((30, 18), stride=30 * 4 + 12)
    await app.show(surface, canvas)
    await stage.step("a buffer with room behind each row is shown", app)
    surface.attach(canvas.buffer, 0, 0)
    surface.damage(0, 0, 5, 5)
    surface.commit()
    await stage.step("damage in surface coordinates", app)
    surface.damage_buffer(-5, -5, 0x7FFFFFFF, 0x7FFFFFFF)
    surface.commit()
    await stage.step("a commit without a new buffer", app)


@scenario(device=True)
async def one_buffer_on_two_surfaces(stage: Stage, app: App) -> None:
    """One buffer is attached to two surfaces, one after the other."""
    one, two, canvas = app.surface(), app.surface(), app.canvas((32, 32))
    await app.show(one, canvas)
    await app.show(two, canvas)
    await app.show(one, canvas, 0, 0, 1, 1)
    await stage.step("a buffer is shown here, there, and here again", app)


@scenario(device=True)
async def everything_in_one_write(stage: Stage, app: App) -> None:
    """A burst: what is shown is what was there at the commit."""
    surface = app.surface()
    formats = app.record(app.bind(WlShm), "format")
    await app.until(lambda: len(formats) == 2)  # the compositor's, before our answers
    unseen, canvas = app.canvas((16, 16)), app.canvas((64, 64))
    surface.attach(unseen.buffer, 0, 0)
    surface.attach(canvas.buffer, 0, 0)
    surface.damage(0, 0, 64, 64)
    surface.commit()
    canvas.buffer.destroy()
    app.bind(WlCompositor).create_region().destroy()
    await stage.step("attached, replaced, committed, destroyed", app)
    other = app.canvas((64, 64))
    surface.attach(other.buffer, 0, 0)
    surface.commit()
    surface.destroy()
    other.buffer.destroy()
    await stage.step("a surface that goes while its buffer is located", app)


@scenario(device=True)
async def ids_are_used_again(stage: Stage, app: App) -> None:
    """Objects come and go, and their ids with them, on both sides."""
    surface = app.surface()
    for frame in range(3):
        canvas = app.canvas((16, 16))
        callback = surface.frame()
        app.record(callback, "done")
        await app.show(surface, canvas)
        canvas.buffer.destroy()
        await stage.step(f"round {frame + 1}", app)


@scenario()
async def buffers_that_are_never_shown(stage: Stage, app: App) -> None:
    """The compositor hears nothing of them."""
    pool = app.keep(app.bind(WlShm).create_pool(app.ram.fd, 1 << 16))
    for number in range(4):
        app.keep(pool.create_buffer(number * 4096, 32, 32, 128, 0))
    await stage.step("four buffers are made", app)


# ---------------------------------------------------------------- other surfaces


@scenario()
async def popup(stage: Stage, app: App) -> None:
    """A popup gets its place."""
    window = await app.window()
    base = app.bind(XdgWmBase)
    await stage.step("a window is made", app)
    positioner = app.keep(base.create_positioner())
    positioner.set_size(50, 60)
    positioner.set_anchor_rect(-1, 2, 3, 4)
    positioner.set_offset(-7, 9)
    surface = app.surface()
    xdg_surface = app.keep(base.get_xdg_surface(surface))
    child = app.keep(xdg_surface.get_popup(window.xdg_surface, positioner))
    positioner.destroy()
    serials = app.record(xdg_surface, "configure")
    surface.commit()
    await app.until(lambda: serials)
    xdg_surface.ack_configure(serials[0][0])
    await app.show(surface, app.canvas((50, 60)))
    await stage.step("a popup is placed and shown", app)
    child.destroy()
    xdg_surface.destroy()
    surface.destroy()
    await stage.step("it goes", app)


@scenario()
async def subsurface(stage: Stage, app: App) -> None:
    """A part of a window, below it."""
    window, child = await app.window(), app.surface()
    part = app.keep(app.bind(WlSubcompositor).get_subsurface(child, window.surface))
    part.set_position(-5, 6)
    part.place_below(window.surface)
    part.set_desync()
    await app.show(child, app.canvas((20, 20)))
    await stage.step("a subsurface is placed and shown", app)


@scenario()
async def window_is_resized(stage: Stage, app: App) -> None:
    """The compositor gives a window another size, and the app draws it."""
    window = await app.window()
    serials = app.record(window.xdg_surface, "configure")
    await app.show(window.surface, app.canvas((64, 64)))
    await stage.step("a window is shown", app)
    surfaces = stage.compositor.apps[-1].all("wl_surface")
    (shown,) = (each for each in surfaces if each.state.role is not None)
    configure(shown, (120, 80))
    await stage.step("the compositor asks for another size", app)
    window.xdg_surface.ack_configure(serials[-1][0])
    window.xdg_surface.set_window_geometry(0, 0, 120, 80)
    await app.show(window.surface, app.canvas((120, 80)))
    await stage.step("the app draws it", app)


@scenario()
async def titles(stage: Stage, app: App) -> None:
    """No title hides whose window it is."""
    window = await app.window()
    await stage.step("a window is made", app)
    for text in ("\u202e[host] x", "a\x1b[2J\nb", "\u05e9\u2069\u05d5", "€" * 1300, ""):
        window.role.set_title(text)
        window.role.set_app_id(text[:40])
    await stage.step("titles of all kinds", app)


@scenario()
async def single_pixel_buffer(stage: Stage, app: App) -> None:
    """A wl_buffer that is none of the proxy's own, among others on one surface."""
    stage.compositor.add_global(WpSinglePixelBufferManagerV1, 1)
    await app.roundtrip()
    surface = app.surface()
    viewport = app.keep(app.bind(WpViewporter).get_viewport(surface))
    viewport.set_destination(300, 200)
    viewport.set_source(0.5, 1.25, 100.75, 3.00390625)
    manager = app.bind(WpSinglePixelBufferManagerV1)
    pixel = app.keep(manager.create_u32_rgba_buffer(1 << 31, 2, (1 << 32) - 1, 4))
    await app.show(surface, app.canvas((32, 32)))
    surface.attach(pixel, 0, 0)
    surface.damage_buffer(0, 0, 1, 1)
    surface.commit()
    await stage.step("pixels, and then one pixel", app)
    pixel.destroy()
    await stage.step("it goes", app)


# ---------------------------------------------------------------- input, time, others


@scenario()
async def keyboard(stage: Stage, app: App) -> None:
    """A keymap's file, and keys for a surface."""
    board = app.keep(app.bind(WlSeat).get_keyboard())
    keymaps = app.record(board, "keymap")
    await app.window()
    await stage.step("a keyboard and a window", app)
    os.close(keymaps[0][1])
    source, focus = stage.resource("wl_keyboard"), stage.resource("wl_surface")
    source.send("enter", 5, focus, b"\1\0\0\0\2\0\0\0")
    source.send("modifiers", 6, 1, 2, 3, 4)
    source.send("key", 7, 123_456, 30, 1)
    source.send("leave", 8, focus)
    await stage.step("keys", app)
    board.release()
    await stage.step("the keyboard goes", app)


@scenario()
async def pointer(stage: Stage, app: App) -> None:
    """Motion over a window, and a cursor that the app draws."""
    mouse = app.keep(app.bind(WlSeat).get_pointer())
    window, cursor = await app.window(), app.surface()
    await stage.step("a pointer and a window", app)
    source, focus = stage.resource("wl_pointer"), stage.resource("wl_surface", 0)
    source.send("enter", 9, focus, 1.5, -2.25)
    source.send("motion", 100, 3.0, 4.0)
    source.send("button", 10, 101, 0x110, 1)
    source.send("axis", 102, 0, -15.0)
    source.send("frame")
    await stage.step("the pointer comes", app)
    mouse.set_cursor(9, cursor, 3, 4)
    await app.show(cursor, app.canvas((24, 24)))
    await stage.step("it gets a picture", app)
    source.send("leave", 11, focus)
    window.surface.destroy()
    await stage.step("an event about a surface that is being destroyed", app)


@scenario()
async def presentation(stage: Stage, app: App) -> None:
    """When a frame was shown, by a clock that guest and host share."""
    surface = app.surface()
    app.keep(app.bind(WpPresentation).feedback(surface))
    await app.show(surface, app.canvas((8, 8)))
    await stage.step("a frame is shown, and its time told", app)


@scenario()
async def what_no_filter_claims(stage: Stage, app: App) -> None:
    """Activation, content types: messages that are only passed on."""
    activation = app.bind(XdgActivationV1)
    window = await app.window()
    await stage.step("a window is made", app)
    token = app.keep(activation.get_activation_token())
    done = app.record(token, "done")
    token.set_serial(3, app.bind(WlSeat))
    token.set_surface(window.surface)
    token.commit()
    await app.until(lambda: done)
    activation.activate(done[0][0], window.surface)
    token.destroy()
    await stage.step("a window is activated", app)
    manager = app.bind(WpContentTypeManagerV1)
    kind = app.keep(manager.get_surface_content_type(window.surface))
    kind.set_content_type(2)
    kind.destroy()
    await stage.step("a content type is set", app)


@scenario()
async def hardware_is_not_told(stage: Stage, app: App) -> None:
    """A tablet's path and serial are the host's own."""
    stage.compositor.add_global(ZwpTabletManagerV2, 1)
    await app.roundtrip()
    seat = app.keep(app.bind(ZwpTabletManagerV2).get_tablet_seat(app.bind(WlSeat)))
    added = app.record(seat, "tablet_added")
    await app.roundtrip()
    tablet = Resource(stage.compositor.apps[-1], ZwpTabletV2, 1)
    stage.resource("zwp_tablet_seat_v2").send("tablet_added", tablet)
    tablet.send("name", "Intuos")
    tablet.send("path", "/dev/input/event7")
    tablet.send("done")
    await stage.step("a tablet introduces itself", app)
    for (each,) in added:
        app.keep(each)


# ---------------------------------------------------------------- selections


def _device(app: App, manager: Any) -> Any:
    bound, seat = app.bind(manager), app.bind(WlSeat)
    get = getattr(bound, "get_data_device", None) or bound.get_device
    return app.keep(get(seat))


async def _paste(stage: Stage, app: App, manager: Any, interface: str) -> None:
    device = _device(app, manager)
    offers = app.record(device, "data_offer")
    await stage.step("a device of selections", app)
    offer = offer_selection(stage.resource(interface), TEXT, "text/html")
    await stage.step("the compositor offers", app)
    app.keep(offers[0][0])
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    offers[0][0].receive(TEXT, theirs)
    os.close(theirs)
    await stage.step("the app asks", app)
    [(_, fd)] = offer.state
    offer.state.clear()
    os.write(fd, b"copied")
    os.close(fd)
    await trio.lowlevel.wait_readable(ours)
    assert os.read(ours, 100) == b"copied"
    os.close(ours)
    offers[0][0].destroy()
    await stage.step("it is answered", app)


@scenario()
async def paste_from_the_clipboard(stage: Stage, app: App) -> None:
    """What is copied on the host is pasted in the guest."""
    await _paste(stage, app, WlDataDeviceManager, "wl_data_device")


@scenario()
async def paste_from_the_primary_selection(stage: Stage, app: App) -> None:
    """The same, by the middle button."""
    manager = ZwpPrimarySelectionDeviceManagerV1
    await _paste(stage, app, manager, "zwp_primary_selection_device_v1")


@scenario()
async def copy_to_the_clipboard(stage: Stage, app: App) -> None:
    """What is copied in the guest is pasted on the host."""
    device = _device(app, WlDataDeviceManager)
    source = app.keep(app.bind(WlDataDeviceManager).create_data_source())
    source.offer(TEXT)
    asked = app.record(source, "send", "cancelled")
    device.set_selection(source, 3)
    await stage.step("the app offers", app)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    stage.resource("wl_data_source").send("send", TEXT, theirs)
    os.close(theirs)
    await app.until(lambda: asked)
    os.write(asked[0][1], b"copied")
    os.close(asked[0][1])
    await trio.lowlevel.wait_readable(ours)
    assert os.read(ours, 100) == b"copied"
    os.close(ours)
    await stage.step("the compositor asks, and is answered", app)
    stage.resource("wl_data_source").send("cancelled")
    await stage.step("somebody else has copied", app)
    source.destroy()
    await stage.step("the app's source goes", app)


@scenario()
async def drag_and_drop(stage: Stage, app: App) -> None:
    """Something is dragged within the app."""
    device = _device(app, WlDataDeviceManager)
    source = app.keep(app.bind(WlDataDeviceManager).create_data_source())
    source.offer(TEXT)
    source.set_actions(1)
    window, icon = await app.window(), app.surface()
    offers = app.record(device, "data_offer")
    device.start_drag(source, window.surface, icon, 5)
    await stage.step("a drag begins", app)
    target = stage.resource("wl_data_device")
    offer = Resource(stage.compositor.apps[-1], WlDataOffer, target.version)
    offer.state = []
    target.send("data_offer", offer)
    offer.send("offer", TEXT)
    offer.send("source_actions", 1)
    target.send("enter", 6, stage.resource("wl_surface", 0), 1.0, 2.0, offer)
    target.send("motion", 7, 3.5, 4.5)
    target.send("drop")
    await stage.step("it is dropped", app)
    theirs = app.keep(offers[0][0])
    theirs.accept(6, TEXT)
    theirs.set_actions(1, 1)
    theirs.finish()
    theirs.destroy()
    await stage.step("the app takes it", app)


# ---------------------------------------------------------------- dma-bufs


@scenario(device=True, dmabuf=True)
async def dmabuf_feedback(stage: Stage, app: App) -> None:
    """The guest's own device and table, and no word with the compositor."""
    dmabuf = app.bind(ZwpLinuxDmabufV1)
    feedback = Feedback(app, dmabuf.get_default_feedback())
    await stage.step("an app asks for feedback", app)
    assert feedback.done
    feedback.proxy.destroy()
    dmabuf.destroy()
    await stage.step("it has seen enough", app)


@scenario(device=True, dmabuf=True)
async def dmabufs_that_are_imported(stage: Stage, app: App) -> None:
    """Mode B: with `create` and with `create_immed`, of one plane and of two."""
    window = await app.window()
    await stage.step("a window is made", app)
    for number, drm_format in enumerate((None, NV12)):
        size = (256, 64)
        canvas = DmabufCanvas(app, size, *([drm_format] if drm_format else []))
        canvas.draw(number)
        await canvas.create()
        canvas.params.destroy()
        await canvas.show(window.surface)
        await stage.step(f"buffer {number + 1} is created and shown", app)
        canvas.buffer.destroy()
        await stage.step("it goes", app)
    canvas = DmabufCanvas(app, (256, 64)).create_immed()
    canvas.params.destroy()
    await canvas.show(window.surface)
    await stage.step("one that is there at once", app)


@scenario(device=True, dmabuf=True)
async def dmabuf_that_is_refused(stage: Stage, app: App) -> None:
    """The compositor does not import after all: what a pool can show is shown by one."""
    stage.compositor.imports = False
    window = await app.window()
    await stage.step("a window is made", app)
    canvas = await DmabufCanvas(app, (256, 64)).create()
    # The compositor may say late which id is free again.
    await trio.testing.wait_all_tasks_blocked()
    await canvas.show(window.surface)
    await stage.step("a picture is shown all the same", app)
    await DmabufCanvas(app, (256, 64), NV12).create()
    await stage.step("a video is not", app)


@scenario(dmabuf=True)
async def dmabuf_whose_pixels_are_copied(stage: Stage, app: App) -> None:
    """Mode C, of a dma-buf: the host has no udmabuf."""
    window = await app.window()
    canvas = await DmabufCanvas(app, (61, 33)).create()
    canvas.draw(1)
    await canvas.show(window.surface)
    await stage.step("a buffer is created and shown", app)
    canvas.draw(2)
    await canvas.show(window.surface)
    await stage.step("it is shown again", app)


@scenario(dmabuf=True)
async def dmabuf_of_an_unknown_format(stage: Stage, app: App) -> None:
    """What is wrong ends the app with the protocol's error."""
    params = app.keep(app.bind(ZwpLinuxDmabufV1).create_params())
    params.add(app.ram.fd, 0, 0, 256, 0, 0)
    params.create(64, 64, 0x31323334, 0)
    await stage.last_step("the app names a format that there is not", app)


# ---------------------------------------------------------------- ends


@scenario(native_shm=True)
async def invalid_stride(stage: Stage, app: App) -> None:
    """An error that the proxy makes, in libwayland's place."""
    app.keep(app.pool(1 << 16).create_buffer(0, 100, 10, 99, 1))
    await stage.last_step("rows are longer than their stride", app)


@scenario(native_shm=True)
async def pool_of_a_pipe(stage: Stage, app: App) -> None:
    """An fd that is no memory."""
    ours, theirs = os.pipe()
    app.keep(app.bind(WlShm).create_pool(ours, 4096))
    os.close(ours)
    os.close(theirs)
    await stage.last_step("a pipe is given as a pool", app)


@scenario()
async def pool_longer_than_its_file(stage: Stage, app: App) -> None:
    """Whoever drew there would get a SIGBUS: the app hears of it."""
    fd = os.memfd_create("short", os.MFD_CLOEXEC)
    os.ftruncate(fd, 4096)
    shm = app.bind(WlShm)
    formats = app.record(shm, "format")
    pool = app.keep(shm.create_pool(fd, 1 << 20))
    os.close(fd)
    buffer = app.keep(pool.create_buffer(0, 64, 64, 256, 1))
    surface = app.surface()
    await app.until(lambda: len(formats) == 2)  # the compositor's, before our error
    surface.attach(buffer, 0, 0)
    surface.commit()
    await stage.last_step("a buffer beyond the end of its file is shown", app)


@scenario()
async def error_of_the_compositor(stage: Stage, app: App) -> None:
    """It names the app's own object, whatever its id is on the other side."""
    for _ in range(3):  # so that ids differ here and there
        app.keep(app.canvas((8, 8)))
    app.keep(app.bind(WpViewporter).get_viewport(app.surface()))
    await stage.step("a viewport is made", app)
    stage.resource("wp_viewport").post_error(2, "out of buffer")
    await stage.last_step("the compositor does not like it", app)


@scenario()
async def compositor_closes(stage: Stage, app: App) -> None:
    """The compositor disconnects an app without a word."""
    await app.window()
    await stage.step("a window is made", app)
    stage.compositor.apps[-1].disconnect()
    await stage.last_step("the compositor hangs up", app)


@scenario()
async def proxy_stops(stage: Stage, app: App) -> None:
    """The proxy is told to stop, and apps hear why."""
    await app.window()
    await stage.step("a window is made", app)
    stage.loopback.host.stop()
    await stage.last_step("the proxy stops", app)


@scenario()
async def two_apps(stage: Stage, app: App) -> None:
    """Apps have their own ids, and one's error is not the other's."""
    other = await stage.connect()
    await stage.step("a second app comes", app, other)
    window, canvas = await app.window(), app.canvas((8, 8))
    await app.show(window.surface, canvas)
    await stage.step("the first shows a window", app, other)
    other.pool(0)
    await stage.last_step("the second makes an empty pool", other)
    await app.show(window.surface, canvas)
    await stage.step("the first goes on", app)
