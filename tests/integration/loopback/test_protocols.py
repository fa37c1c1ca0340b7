"""Every message of the protocols that the proxy only passes on, both ways.

From pywayland's tables: the app makes every object that a global can make and sends
every request, the compositor sends every event, with arguments that are all different;
each end compares what it gets with what the other one said.  What they mean is nobody's
business here: to the proxy they mean nothing.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from pywayland.protocol.alpha_modifier_v1 import WpAlphaModifierV1
from pywayland.protocol.color_representation_v1 import WpColorRepresentationManagerV1
from pywayland.protocol.commit_timing_v1 import WpCommitTimingManagerV1
from pywayland.protocol.content_type_v1 import WpContentTypeManagerV1
from pywayland.protocol.cursor_shape_v1 import WpCursorShapeManagerV1
from pywayland.protocol.fifo_v1 import WpFifoManagerV1
from pywayland.protocol.fractional_scale_v1 import WpFractionalScaleManagerV1
from pywayland.protocol.idle_inhibit_unstable_v1 import ZwpIdleInhibitManagerV1
from pywayland.protocol.input_timestamps_unstable_v1 import (
    ZwpInputTimestampsManagerV1,
)
from pywayland.protocol.pointer_constraints_unstable_v1 import ZwpPointerConstraintsV1
from pywayland.protocol.pointer_gestures_unstable_v1 import ZwpPointerGesturesV1
from pywayland.protocol.pointer_warp_v1 import WpPointerWarpV1
from pywayland.protocol.relative_pointer_unstable_v1 import (
    ZwpRelativePointerManagerV1,
)
from pywayland.protocol.single_pixel_buffer_v1 import WpSinglePixelBufferManagerV1
from pywayland.protocol.tablet_v2 import ZwpTabletManagerV2
from pywayland.protocol.tearing_control_v1 import WpTearingControlManagerV1
from pywayland.protocol.text_input_unstable_v1 import ZwpTextInputManagerV1
from pywayland.protocol.text_input_unstable_v3 import ZwpTextInputManagerV3
from pywayland.protocol.viewporter import WpViewporter
from pywayland.protocol.wayland import (
    WlCompositor,
    WlDataDeviceManager,
    WlOutput,
    WlSeat,
)
from pywayland.protocol.xdg_activation_v1 import XdgActivationV1
from pywayland.protocol.xdg_decoration_unstable_v1 import ZxdgDecorationManagerV1
from pywayland.protocol.xdg_dialog_v1 import XdgWmDialogV1
from pywayland.protocol.xdg_output_unstable_v1 import ZxdgOutputManagerV1
from pywayland.protocol.xdg_system_bell_v1 import XdgSystemBellV1
from pywayland.protocol.xdg_toplevel_drag_v1 import XdgToplevelDragManagerV1
from pywayland.protocol.xdg_toplevel_icon_v1 import XdgToplevelIconManagerV1
from pywayland.protocol_core.argument import (  # type: ignore[attr-defined]
    ArgumentType,
)
from pywayland.protocol_core.interface import Interface

from tests.peers.app import App
from tests.peers.compositor import Compositor
from tests.peers.kde import KdeDecorationManager
from tests.peers.libwayland import Resource
from tests.peers.loopback import VM, Loopback
from wlproxy.relay.policy import ALLOWED_BY_DEFAULT

PROTOCOLS: list[tuple[type[Interface], ...]] = [
    (WlSeat,),  # wl_pointer, wl_keyboard, wl_touch
    (ZwpTabletManagerV2, WpCursorShapeManagerV1),  # which has shapes for tools, too
    (KdeDecorationManager,),
    (WpAlphaModifierV1,),
    (WpColorRepresentationManagerV1,),
    (WpCommitTimingManagerV1,),
    (WpContentTypeManagerV1,),
    (WpFifoManagerV1,),
    (WpFractionalScaleManagerV1,),
    (WpPointerWarpV1,),
    (WpSinglePixelBufferManagerV1, XdgToplevelIconManagerV1),  # which takes buffers
    (WpTearingControlManagerV1,),
    (WpViewporter,),
    (XdgActivationV1,),
    (XdgSystemBellV1,),
    (XdgToplevelDragManagerV1,),
    (XdgWmDialogV1,),
    (ZwpIdleInhibitManagerV1,),
    (ZwpInputTimestampsManagerV1,),
    (ZwpPointerConstraintsV1,),
    (ZwpPointerGesturesV1,),
    (ZwpRelativePointerManagerV1,),
    (ZwpTextInputManagerV1,),
    (ZwpTextInputManagerV3,),
    (ZxdgDecorationManagerV1,),
    (ZxdgOutputManagerV1,),
]
ELSEWHERE = {
    *("wl_compositor", "wl_shm", "wl_subcompositor", "xdg_wm_base"),  # test_windows
    *("wl_output", "wp_presentation"),  # test_input
    *("wl_data_device_manager", "zwp_primary_selection_device_manager_v1"),
    "wl_fixes",  # test_registry
    "wp_color_manager_v1",  # test_colours
    "zwp_linux_dmabuf_v1",  # test_dmabufs
    *("zxdg_exporter_v1", "zxdg_importer_v1"),  # tests/relay/filters/test_foreign
    *("zxdg_exporter_v2", "zxdg_importer_v2"),  # test_foreign
}
UNSPEAKABLE = {
    "set_available_actions": "pywayland's client fails to send an array",
}
HIDDEN = ("path", "hardware_serial", "description")
"""Events that are dropped or changed: tests/relay/filters/test_devices."""
DESTRUCTORS = ("destroy", "release")


class Pair:
    """An object, as the app has it and as the compositor has it."""

    def __init__(self, app: App, proxy: Any, resource: Resource) -> None:
        self.proxy = proxy
        self.resource = resource
        self.requests: list[tuple[str, tuple[Any, ...]]] = []
        """What the app has sent, in the compositor's terms."""
        self.events: list[tuple[str, tuple[Any, ...]]] = []
        """What the compositor has sent, in the app's terms."""
        self.heard: list[tuple[str, tuple[Any, ...]]] = []
        self._app = app
        for event in resource.interface.events:
            proxy.dispatcher[event.name] = self._hear(event.name)

    def _hear(self, name: str) -> Callable[..., None]:
        def heard(_proxy: object, *args: Any) -> None:
            for arg in args:
                if hasattr(arg, "dispatcher"):
                    self._app.keep(arg)
            self.heard.append((name, args))

        return heard


class Everything:
    """Says everything that can be said about an object and all that it makes."""

    def __init__(self, app: App, compositor: Compositor) -> None:
        self.app = app
        self.compositor = compositor
        self.client = compositor.apps[-1]
        self.known: dict[str, tuple[Any, Resource]] = {}
        self.pairs: list[Pair] = []
        self._numbers: Iterator[int] = count(1)

    def know(self, proxy: Any) -> Resource:
        """Note what may be named in arguments: the newest object of its interface."""
        resource = self.client.find(proxy.interface.name)
        self.known[proxy.interface.name] = proxy, resource
        return resource

    async def say(self, proxy: Any, resource: Resource) -> None:
        """Go through the requests, then the events, and into what they make."""
        pair = Pair(self.app, proxy, resource)
        self.pairs.append(pair)
        for message in resource.interface.requests:
            if message.name not in DESTRUCTORS and _exists(message, resource):
                await self._request(pair, message, null=False)
                if any(argument.nullable for argument in message.arguments):
                    await self._request(pair, message, null=True)
        for message in resource.interface.events:
            if _exists(message, resource) and message.name not in HIDDEN:
                await self._event(pair, message)

    async def _request(self, pair: Pair, message: Any, *, null: bool) -> None:
        values = [self._value(argument) for argument in message.arguments]
        if null:
            values = [
                (None, None) if argument.nullable else value
                for argument, value in zip(message.arguments, values, strict=True)
            ]
        ours = [value[0] for value in values if value is not None]
        made = getattr(pair.proxy, message.name)(*ours)
        await self.app.roundtrip()
        theirs = [value[1] if value is not None else None for value in values]
        # Nothing else is changed.
        if message.name == "set_app_id":
            theirs = [f"wlproxy.{VM}.{app_id}" for app_id in theirs]
        elif message.name == "set_feedback":
            theirs = [f"[{VM}] {v}" if isinstance(v, str) else v for v in theirs]
        if made is not None:
            self.app.keep(made)
            theirs[values.index(None)] = self.know(made)
        pair.requests.append((message.name, tuple(theirs)))
        if made is not None:
            await self.say(made, self.known[made.interface.name][1])

    async def _event(self, pair: Pair, message: Any) -> None:
        values = [self._value(argument) for argument in message.arguments]
        new = None
        if None in values:
            kind = message.arguments[values.index(None)].interface
            new = Resource(self.client, kind, pair.resource.version)
        pair.resource.send(
            message.name, *(new if value is None else value[1] for value in values)
        )
        await self.app.until(lambda: len(pair.heard) > len(pair.events))
        made = pair.heard[-1][1][values.index(None)] if new is not None else None
        pair.events.append(
            (message.name, tuple(made if v is None else v[0] for v in values))
        )
        if new is not None:
            self.known[new.interface.name] = made, new
            await self.say(made, new)

    def _value(self, argument: Any) -> tuple[Any, Any] | None:
        """Make an argument for the app and for the compositor; None: a new object."""
        number = next(self._numbers)
        value: Any
        match argument.argument_type:
            case ArgumentType.NewId:
                return None
            case ArgumentType.Object:
                return self.known[argument.interface.name]
            case ArgumentType.Int:
                value = -number
            case ArgumentType.Uint:
                value = (1 << 31) + number
            case ArgumentType.Fixed:
                value = number / 256 - 1000
            case ArgumentType.String:
                value = f"Füße {number}"
            case ArgumentType.Array:
                value = bytes(range(number))
            case kind:
                raise NotImplementedError(kind)
        return value, value


def _exists(message: Any, resource: Resource) -> bool:
    """Say whether there is such a message; those with an fd have their own tests."""
    if (message.version or 1) > resource.version or message.name in UNSPEAKABLE:
        return False
    kinds = [argument.argument_type for argument in message.arguments]
    return ArgumentType.FileDescriptor not in kinds


@pytest.fixture
async def everything(
    loopback: Loopback, kinds: tuple[type[Interface], ...]
) -> Everything:
    """An app with a window, at a compositor that only listens."""
    compositor = loopback.compositor
    for answering in (
        ("wl_seat", "get_keyboard"),
        ("xdg_activation_token_v1", "commit"),
    ):
        del compositor.handlers[answering]
    app = await loopback.app()
    for kind in kinds:
        if kind.name not in app.interfaces:
            compositor.add_global(kind, kind.version)
    await app.until(lambda: all(kind.name in app.interfaces for kind in kinds))
    app.surface()  # not the one that is meant
    window = await app.window()
    manager = app.bind(WlCompositor)
    region = app.keep(manager.create_region())
    seat, output = app.bind(WlSeat), app.bind(WlOutput)
    pointer, touch = app.keep(seat.get_pointer()), app.keep(seat.get_touch())
    keyboard = app.keep(seat.get_keyboard())
    source = app.keep(app.bind(WlDataDeviceManager).create_data_source())
    await app.roundtrip()
    everything = Everything(app, compositor)
    for proxy in (
        *(window.surface, window.role, region, seat, output, pointer, touch, keyboard),
        source,
    ):
        everything.know(proxy)
    return everything


def test_every_global_that_a_guest_may_see_is_tried() -> None:
    here = {kind.name for kinds in PROTOCOLS for kind in kinds}

    assert here | ELSEWHERE == set(ALLOWED_BY_DEFAULT)
    assert not here & ELSEWHERE


@pytest.mark.parametrize(
    "kinds", PROTOCOLS, ids=lambda kinds: "+".join(kind.name for kind in kinds)
)
async def test_every_message_arrives_as_it_was_sent(
    everything: Everything, kinds: tuple[type[Interface], ...]
) -> None:
    app, compositor = everything.app, everything.compositor
    compositor.calls.clear()
    for kind in kinds:
        manager = app.bind(kind)
        await app.roundtrip()
        await everything.say(manager, everything.know(manager))
        await app.roundtrip()

    for pair in everything.pairs:
        said = [
            (call.name, call.args)
            for call in compositor.calls
            if call.resource is pair.resource
        ]
        assert said == pair.requests
        assert pair.heard == pair.events
    for pair in reversed(everything.pairs):
        for message in pair.resource.interface.requests:
            if message.name in DESTRUCTORS:
                getattr(pair.proxy, message.name)()
                await app.roundtrip()
                assert not pair.resource.alive


async def test_single_pixel_buffer_is_shown(loopback: Loopback) -> None:
    """Among others on one surface: it is a wl_buffer that is none of the proxy's own."""
    compositor = loopback.compositor
    manager = WpSinglePixelBufferManagerV1
    compositor.add_global(manager, 1)
    app = await loopback.app()
    window = await app.window()
    viewport = app.keep(app.bind(WpViewporter).get_viewport(window.surface))
    viewport.set_destination(300, 200)
    canvas = app.canvas((32, 32))
    drawn = canvas.draw(1)
    rgba = (1 << 31, 2, (1 << 32) - 1, 4)
    pixel = app.keep(app.bind(manager).create_u32_rgba_buffer(*rgba))
    released = app.record(pixel, "release")

    await app.show(window.surface, canvas)
    for _ in range(2):
        window.surface.attach(pixel, 0, 0)
        window.surface.damage_buffer(0, 0, 1, 1)
        window.surface.commit()
    await app.roundtrip()
    await app.show(window.surface, canvas)

    [surface] = compositor.surfaces()
    solid = struct.pack("=4I", *rgba)
    assert surface.frames == [drawn, solid, solid, drawn]
    assert (released, canvas.released) == ([(), ()], 2)
    pixel.destroy()
    await app.roundtrip()
    assert len(compositor.called("wl_buffer.destroy")) == 1
