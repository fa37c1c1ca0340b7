"""Windows and their pixels, from an app through agent and proxy to a compositor."""

import os

from pywayland.protocol.wayland import WlSeat, WlShm, WlSubcompositor
from pywayland.protocol.xdg_shell import XdgWmBase

from tests.peers.app import App, Canvas, ProtocolError, object_id
from tests.peers.compositor import Compositor, Surface
from tests.peers.loopback import VM, Loopback


def only_surface(compositor: Compositor) -> Surface:
    [surface] = compositor.surfaces()
    return surface


async def test_window_appears(app: App, compositor: Compositor) -> None:
    window = await app.window()
    window.role.set_title("Füße")
    window.role.set_app_id("org.example")
    canvas = app.canvas((333, 71))
    pixels = canvas.draw(1)

    await app.show(window.surface, canvas)

    assert only_surface(compositor).frames == [pixels]
    assert canvas.released == 1
    titles = [call.args[0] for call in compositor.called("xdg_toplevel.set_title")]
    assert titles == [f"[{VM}]", f"[{VM}] Füße"]
    ids = [call.args[0] for call in compositor.called("xdg_toplevel.set_app_id")]
    assert ids == [f"wlproxy.{VM}", f"wlproxy.{VM}.org.example"]


async def test_a_title_cannot_hide_whose_window_it_is(
    app: App, compositor: Compositor
) -> None:
    window = await app.window()
    said = (
        "\u202e[host] x",
        "a\x1b[2J\nb",
        "\u05e9\u05dc\u2069\u05d5\u202d",
        "x\u2028y",
    )
    for text in said:
        window.role.set_title(text)
    await app.roundtrip()

    titles = [call.args[0] for call in compositor.called("xdg_toplevel.set_title")]
    shown = ("[host] x", "a[2J b", "\u2068\u05e9\u05dc\u05d5\u2069", "x y")
    assert titles[-4:] == [f"[{VM}] {text}" for text in shown]


async def test_second_frame_in_the_same_buffer(
    app: App, compositor: Compositor
) -> None:
    window = await app.window()
    canvas = app.canvas((64, 64))
    first = canvas.draw(1)
    await app.show(window.surface, canvas)
    second = canvas.draw(2)

    await app.show(window.surface, canvas)

    assert only_surface(compositor).frames == [first, second]
    assert canvas.released == 2


async def test_damage_is_copied_and_passed_on(app: App, compositor: Compositor) -> None:
    """More may be copied than is damaged, but nothing that was never drawn is shown."""
    window = await app.window()
    canvas = app.canvas((50, 40))
    first = canvas.draw(1)
    await app.show(window.surface, canvas)
    second = canvas.draw(2)

    await app.show(window.surface, canvas, 10, 5, 20, 8)

    surface = only_surface(compositor)
    assert surface.damage[-1] == (10, 5, 20, 8)
    seen, stride = surface.frames[-1], canvas.stride
    for row in range(40):
        for begin, end in ((0, 40), (40, 120), (120, 200)):
            here = slice(row * stride + begin, row * stride + end)
            if 5 <= row < 13 and begin == 40:
                assert seen[here] == second[here]
            else:
                assert seen[here] in (first[here], second[here])


async def test_damage_in_surface_coordinates_counts_too(
    app: App, compositor: Compositor
) -> None:
    window = await app.window()
    canvas = app.canvas((40, 40))
    canvas.draw(1)
    window.surface.set_buffer_scale(2)
    await app.show(window.surface, canvas)
    second = canvas.draw(2)

    window.surface.attach(canvas.buffer, 0, 0)
    window.surface.damage(0, 0, 20, 20)
    window.surface.commit()
    await app.roundtrip()

    assert only_surface(compositor).frames[-1] == second


async def test_two_buffers_in_turn(app: App, compositor: Compositor) -> None:
    window = await app.window()
    pool = app.pool(1 << 20)
    canvases = [app.canvas((100, 30), pool), app.canvas((100, 30), pool)]
    drawn = []

    for frame in range(6):
        canvas = canvases[frame % 2]
        drawn.append(canvas.draw(frame))
        await app.show(window.surface, canvas)

    assert only_surface(compositor).frames == drawn
    assert [canvas.released for canvas in canvases] == [3, 3]


async def test_partial_damage_of_two_buffers_in_turn(
    app: App, compositor: Compositor
) -> None:
    """Each frame's damage is to the frame before, not to the buffer's own last one.

    The whole buffer must be right: a compositor may draw all of it anew at any time.
    """
    window = await app.window()
    canvases = [app.canvas((32, 32)), app.canvas((32, 32))]
    picture = bytearray(32 * 128)
    drawn = []

    for frame in range(8):
        canvas = canvases[frame % 2]
        row = 4 * frame
        picture[row * 128 : (row + 4) * 128] = bytes([frame + 1]) * 512
        drawn.append(bytes(picture))
        canvas.ram.write(canvas.offset, drawn[-1])
        await app.show(window.surface, canvas, *((0, row, 32, 4) if frame > 1 else ()))

    assert only_surface(compositor).frames == drawn


async def test_offset_and_stride_are_kept(app: App, compositor: Compositor) -> None:
    surface = app.surface()
    app.ram.take(1)
    pool = app.pool(1 << 16)
    canvas = Canvas(app, pool, 4096 + 20, (30, 17), 30 * 4 + 12)
    pixels = canvas.draw(3)

    await app.show(surface, canvas)

    assert only_surface(compositor).frames == [pixels]


async def test_pool_grows(app: App, compositor: Compositor) -> None:
    window = await app.window()
    pool = app.pool(1 << 16)
    before = app.canvas((64, 64), pool)
    app.ram.take(1 << 16)
    first = before.draw(1)
    await app.show(window.surface, before)

    pool.resize(1 << 20)
    after = app.canvas((64, 64), pool)
    second = after.draw(2)
    await app.show(window.surface, after)
    third = before.draw(3)
    await app.show(window.surface, before)

    assert after.offset >= 1 << 16
    assert only_surface(compositor).frames == [first, second, third]


async def test_pool_destroyed_before_its_buffers(
    app: App, compositor: Compositor
) -> None:
    window = await app.window()
    pool = app.pool(1 << 20)
    shown, unused = app.canvas((64, 64), pool), app.canvas((16, 16), pool)
    pool.destroy()
    await app.roundtrip()
    first = shown.draw(1)

    await app.show(window.surface, shown)
    second = unused.draw(2)
    await app.show(window.surface, unused)

    assert only_surface(compositor).frames == [first, second]


async def test_buffer_destroyed_while_the_compositor_holds_it(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    compositor.releases_at_once = False
    window = await app.window()
    canvas = app.canvas((64, 64))
    pixels = canvas.draw(1)
    await app.show(window.surface, canvas)
    held = only_surface(compositor).shown
    assert held is not None

    canvas.buffer.destroy()
    await app.roundtrip()
    other = app.canvas((64, 64))
    other.draw(2)
    await app.show(window.surface, other)

    assert only_surface(compositor).frames[0] == pixels
    assert not canvas.released
    second = only_surface(compositor).shown
    assert second is not None
    window.surface.attach(None, 0, 0)
    window.surface.commit()
    other.buffer.destroy()
    await app.roundtrip()
    assert loopback.pins() == 2

    held.send("release")
    second.send("release")
    await app.roundtrip()
    await loopback.until(lambda: not loopback.pins())


async def test_release_comes_when_the_compositor_says_so(
    app: App, compositor: Compositor
) -> None:
    compositor.releases_at_once = False
    window = await app.window()
    canvas = app.canvas((64, 64))
    canvas.draw(1)
    await app.show(window.surface, canvas)
    assert canvas.released == 0

    shown = only_surface(compositor).shown
    assert shown is not None
    shown.send("release")

    await app.until(lambda: canvas.released)


async def test_frame_callbacks(app: App) -> None:
    window = await app.window()
    canvas = app.canvas((8, 8))
    for frame in range(5):
        canvas.draw(frame)
        callback = app.keep(window.surface.frame())
        done = app.record(callback, "done")
        window.surface.attach(canvas.buffer, 0, 0)
        window.surface.damage(0, 0, 8, 8)
        window.surface.commit()
        await app.until(lambda: done)  # noqa: B023 - awaited here
        assert done == [(1234,)]


async def test_popup_gets_its_place(app: App, compositor: Compositor) -> None:
    window = await app.window()
    base = app.bind(XdgWmBase)
    positioner = app.keep(base.create_positioner())
    positioner.set_size(50, 60)
    positioner.set_anchor_rect(-1, 2, 3, 4)
    positioner.set_offset(-7, 9)
    surface = app.surface()
    xdg_surface = app.keep(base.get_xdg_surface(surface))
    popup = app.keep(xdg_surface.get_popup(window.xdg_surface, positioner))
    positioner.destroy()
    places = app.record(popup, "configure")
    serials = app.record(xdg_surface, "configure")
    surface.commit()
    await app.until(lambda: serials)
    xdg_surface.ack_configure(serials[0][0])
    canvas = app.canvas((50, 60))
    pixels = canvas.draw(4)

    await app.show(surface, canvas)

    assert places == [(3, 4, 50, 60)]
    assert compositor.surfaces()[1].frames == [pixels]
    [rectangle] = compositor.called("xdg_positioner.set_anchor_rect")
    assert rectangle.args == (-1, 2, 3, 4)
    [got] = compositor.called("xdg_surface.get_popup")
    assert got.args[1].interface.name == "xdg_surface"
    assert got.args[1].state.state is compositor.surfaces()[0]


async def test_subsurface(app: App, compositor: Compositor) -> None:
    window = await app.window()
    child = app.surface()
    subsurface = app.keep(
        app.bind(WlSubcompositor).get_subsurface(child, window.surface)
    )
    subsurface.set_position(-5, 6)
    subsurface.place_below(window.surface)
    subsurface.set_desync()
    canvas = app.canvas((20, 20))
    pixels = canvas.draw(5)

    await app.show(child, canvas)

    assert compositor.surfaces()[1].frames == [pixels]
    client = compositor.clients[-1]
    parent_resource, child_resource = client.all("wl_surface")
    [got] = compositor.called("wl_subcompositor.get_subsurface")
    assert got.args[1:] == (child_resource, parent_resource)
    [place] = compositor.called("wl_subsurface.set_position")
    assert place.args == (-5, 6)
    [below] = compositor.called("wl_subsurface.place_below")
    assert below.args == (parent_resource,)


async def test_many_buffers_that_are_never_shown_cost_nothing(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    pool = app.keep(app.bind(WlShm).create_pool(app.ram.fd, 1 << 20))
    for number in range(60):
        app.keep(pool.create_buffer(number * 4096, 32, 32, 128, 0))
    await app.roundtrip()

    assert loopback.pins() == 0
    assert not compositor.called("wl_shm_pool.create_buffer")
    status = loopback.status()
    assert status["metrics"]["pixel_bytes_copied"] == 0
    [client] = status["clients"]
    assert (client["buffers"], client["locations"]) == (60, 0)
    assert not client["waits"]


async def test_pages_may_be_anywhere(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    loopback.locator.scattered = True
    window = await app.window()
    canvas = app.canvas((500, 400))
    pixels = canvas.draw(6)

    await app.show(window.surface, canvas)

    assert only_surface(compositor).frames == [pixels]


async def test_pool_that_is_longer_than_its_file(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    """Drawing there would be a SIGBUS: the app hears of it, and nobody else."""
    fd = os.memfd_create("short", os.MFD_CLOEXEC)
    os.ftruncate(fd, 4096)
    pool = app.keep(app.bind(WlShm).create_pool(fd, 1 << 20))
    os.close(fd)
    buffer = app.keep(pool.create_buffer(0, 64, 64, 256, 1))
    surface = app.surface()
    surface.attach(buffer, 0, 0)
    surface.commit()

    # Just what libwayland says of a pool that was truncated.
    expected = ProtocolError("wl_buffer", object_id(buffer), 2)
    assert await app.disconnected() == expected
    await loopback.quiet()


async def test_animated_window_is_pinned_once(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    """Locations live as long as their buffers: a frame needs no word with the agent."""
    window = await app.window()
    canvases = [app.canvas((64, 64)), app.canvas((64, 64))]
    for frame in range(10):
        canvas = canvases[frame % 2]
        canvas.draw(frame)
        await app.show(window.surface, canvas)
        if frame == 1:
            pins = loopback.pins()

    assert loopback.pins() == pins == 2
    for canvas in canvases:
        canvas.buffer.destroy()
    window.surface.attach(None, 0, 0)
    window.surface.commit()
    await app.roundtrip()
    await loopback.until(lambda: not loopback.pins())


async def test_the_status_tells_windows_from_their_parts(
    loopback: Loopback, app: App
) -> None:
    window, child, cursor = await app.window(), app.surface(), app.surface()
    app.keep(app.bind(WlSubcompositor).get_subsurface(child, window.surface))
    pointer = app.keep(app.bind(WlSeat).get_pointer())
    pointer.set_cursor(9, cursor, 1, 2)
    for surface in (window.surface, child, cursor):
        await app.show(surface, app.canvas((16, 16)))

    kinds = [surface["kind"] for surface in loopback.status()["surfaces"]]
    assert kinds == ["window", "part", "cursor"]
