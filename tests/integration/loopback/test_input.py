"""Seats, outputs, timing, and protocols that no filter claims."""

import os

from pywayland.protocol.content_type_v1 import WpContentTypeManagerV1
from pywayland.protocol.presentation_time import WpPresentation
from pywayland.protocol.tablet_v2 import ZwpTabletManagerV2, ZwpTabletV2
from pywayland.protocol.viewporter import WpViewporter
from pywayland.protocol.wayland import WlKeyboard, WlOutput, WlSeat
from pywayland.protocol.xdg_activation_v1 import XdgActivationV1
from pywayland.protocol.xdg_output_unstable_v1 import ZxdgOutputManagerV1

from tests.peers.app import App
from tests.peers.compositor import CLOCK, KEYMAP, SECOND, TOKEN, Compositor
from tests.peers.libwayland import Resource
from tests.peers.loopback import Loopback


def resource(compositor: Compositor, interface: str) -> Resource:
    return compositor.clients[-1].find(interface)


async def test_seat_and_output_introduce_themselves(app: App) -> None:
    seat, output = app.bind(WlSeat), app.bind(WlOutput)
    abilities, names = app.record(seat, "capabilities"), app.record(seat, "name")
    geometry, modes = app.record(output, "geometry"), app.record(output, "mode")
    await app.roundtrip()

    assert (abilities, names) == ([(3,)], [("seat0",)])
    assert geometry == [(0, 0, 300, 200, 0, "wlproxy", "loopback", 0)]
    assert modes == [(1, 640, 480, 60000)]


async def test_keymap_arrives_byte_for_byte(app: App) -> None:
    keyboard = app.keep(app.bind(WlSeat).get_keyboard())
    keymaps = app.record(keyboard, "keymap")
    repeats = app.record(keyboard, "repeat_info")
    await app.until(lambda: keymaps and repeats)

    [(kind, fd, size)] = keymaps
    try:
        assert kind == WlKeyboard.keymap_format.xkb_v1.value
        assert size == len(KEYMAP)
        assert os.pread(fd, size + 1, 0) == KEYMAP
    finally:
        os.close(fd)
    assert repeats == [(25, 600)]


async def test_keymaps_of_many_keyboards_come_in_order(
    app: App, compositor: Compositor
) -> None:
    seat = app.bind(WlSeat)
    keyboards = [app.keep(seat.get_keyboard()) for _ in range(40)]
    keymaps = [app.record(keyboard, "keymap") for keyboard in keyboards]
    await app.until(lambda: all(keymaps))

    for [(_, fd, size)] in keymaps:
        assert os.pread(fd, size + 1, 0) == KEYMAP
        os.close(fd)


async def test_keys_reach_the_surface_they_are_for(
    app: App, compositor: Compositor
) -> None:
    keyboard = app.keep(app.bind(WlSeat).get_keyboard())
    keymaps = app.record(keyboard, "keymap")
    events = app.record(keyboard, "enter", "key", "modifiers", "leave")
    app.surface()
    window = await app.window()
    os.close(keymaps[0][1])
    source = resource(compositor, "wl_keyboard")
    focus = resource(compositor, "wl_surface")

    source.send("enter", 5, focus, b"\1\0\0\0\2\0\0\0")
    source.send("modifiers", 6, 1, 2, 3, 4)
    source.send("key", 7, 0xFFFFFFFF, 30, 1)
    source.send("leave", 8, focus)
    await app.until(lambda: len(events) == 4)

    assert events == [
        (5, window.surface, b"\1\0\0\0\2\0\0\0"),
        (6, 1, 2, 3, 4),
        (7, 0xFFFFFFFF, 30, 1),
        (8, window.surface),
    ]


async def test_pointer_events(app: App, compositor: Compositor) -> None:
    pointer = app.keep(app.bind(WlSeat).get_pointer())
    events = app.record(pointer, "enter", "motion", "button", "axis", "frame")
    window = await app.window()
    pointer.set_cursor(9, None, 1, 2)
    await app.roundtrip()
    source = resource(compositor, "wl_pointer")

    source.send("enter", 9, resource(compositor, "wl_surface"), 1.5, -2.25)
    source.send("motion", 100, 3.0, 4.0)
    source.send("button", 10, 101, 0x110, 1)
    source.send("axis", 102, 0, -15.0)
    source.send("frame")
    await app.until(lambda: len(events) == 5)

    assert events == [
        (9, window.surface, 1.5, -2.25),
        (100, 3.0, 4.0),
        (10, 101, 0x110, 1),
        (102, 0, -15.0),
        (),
    ]
    [cursor] = compositor.called("wl_pointer.set_cursor")
    assert cursor.args == (9, None, 1, 2)


async def test_cursor_surface_has_its_pixels(app: App, compositor: Compositor) -> None:
    pointer = app.keep(app.bind(WlSeat).get_pointer())
    cursor = app.surface()
    canvas = app.canvas((24, 24))
    pixels = canvas.draw(9)

    pointer.set_cursor(1, cursor, 3, 4)
    await app.show(cursor, canvas)

    assert compositor.surfaces()[0].frames == [pixels]


async def test_event_about_a_surface_the_app_has_just_destroyed(
    app: App, compositor: Compositor
) -> None:
    pointer = app.keep(app.bind(WlSeat).get_pointer())
    events = app.record(pointer, "frame")  # pywayland cannot say what is null
    surface = app.surface()
    await app.roundtrip()
    source, focus = (
        resource(compositor, "wl_pointer"),
        resource(compositor, "wl_surface"),
    )

    source.send("enter", 1, focus, 0, 0)
    source.send("leave", 2, focus)
    surface.destroy()
    source.send("frame")
    await app.until(lambda: events)
    await app.roundtrip()


async def test_presentation_feedback(app: App, compositor: Compositor) -> None:
    presentation = app.bind(WpPresentation)
    clocks = app.record(presentation, "clock_id")
    surface, canvas = app.surface(), app.canvas((8, 8))
    canvas.draw(1)
    feedback = app.keep(presentation.feedback(surface))
    presented = app.record(feedback, "presented", "discarded")

    await app.show(surface, canvas)
    await app.until(lambda: presented)

    assert clocks == [(CLOCK,)]
    expected = (SECOND >> 32, SECOND & 0xFFFFFFFF, 7, 16_666_666, 0, 42, 1)
    assert presented == [expected]


async def test_activation_which_no_filter_claims(
    app: App, compositor: Compositor
) -> None:
    activation = app.bind(XdgActivationV1)
    window = await app.window()
    token = app.keep(activation.get_activation_token())
    done = app.record(token, "done")
    token.set_serial(3, app.bind(WlSeat))
    token.set_surface(window.surface)
    token.commit()
    await app.until(lambda: done)
    activation.activate(done[0][0], window.surface)
    token.destroy()
    await app.roundtrip()

    assert done == [(TOKEN,)]
    [activated] = compositor.called("xdg_activation_v1.activate")
    assert activated.args == (TOKEN, resource(compositor, "wl_surface"))
    assert len(compositor.called("xdg_activation_token_v1.destroy")) == 1


async def test_content_type_which_no_filter_claims(
    app: App, compositor: Compositor
) -> None:
    manager = app.bind(WpContentTypeManagerV1)
    kind = app.keep(manager.get_surface_content_type(app.surface()))
    kind.set_content_type(2)
    kind.destroy()
    await app.roundtrip()

    [got] = compositor.called("wp_content_type_manager_v1.get_surface_content_type")
    assert got.args[1] is resource(compositor, "wl_surface")
    [said] = compositor.called("wp_content_type_v1.set_content_type")
    assert said.args == (2,)


async def test_viewport_numbers_are_exact(app: App, compositor: Compositor) -> None:
    viewport = app.keep(app.bind(WpViewporter).get_viewport(app.surface()))
    viewport.set_source(0.5, 1.25, 100.75, 3.00390625)
    viewport.set_destination(640, 480)
    await app.roundtrip()

    [source] = compositor.called("wp_viewport.set_source")
    assert source.args == (0.5, 1.25, 100.75, 3.00390625)


async def test_nothing_tells_the_host_by_its_hardware(loopback: Loopback) -> None:
    compositor = loopback.compositor

    def introduce(output: Resource) -> None:
        output.send("geometry", 0, 0, 600, 340, 0, "Acme", "One", 0)
        output.send("description", "Acme One SN-4711 (DP-1)")

    compositor.remove_global(compositor.output)
    compositor.add_global(WlOutput, 4, introduce)
    compositor.add_global(ZwpTabletManagerV2, 1)
    compositor.add_global(ZxdgOutputManagerV1, 3)
    app = await loopback.app()
    output = app.bind(WlOutput)
    described = app.record(output, "geometry", "description")
    xdg_output = app.keep(app.bind(ZxdgOutputManagerV1).get_xdg_output(output))
    described_again = app.record(xdg_output, "description")
    tablets = app.keep(app.bind(ZwpTabletManagerV2).get_tablet_seat(app.bind(WlSeat)))
    added = app.record(tablets, "tablet_added")
    await app.roundtrip()
    tablet = Resource(compositor.apps[-1], ZwpTabletV2, 1)
    resource(compositor, "zwp_tablet_seat_v2").send("tablet_added", tablet)
    resource(compositor, "zxdg_output_v1").send("description", "One SN-4711")
    await app.until(lambda: added and described_again)
    heard = app.record(app.keep(added[0][0]), "name", "path", "done")

    tablet.send("name", "Intuos")
    tablet.send("path", "/dev/input/event7")
    tablet.send("done")
    await app.until(lambda: heard[-1:] == [()])

    assert described == [(0, 0, 600, 340, 0, "Acme", "One", 0), ("Acme One",)]
    assert described_again == [("Acme One",)]
    assert heard == [("Intuos",), ()]
