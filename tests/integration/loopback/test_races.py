"""Bursts without a pause, and ends in the middle of something."""

import os

import pytest
import trio
import trio.testing
from pywayland.protocol.wayland import (
    WlCompositor,
    WlDataDeviceManager,
    WlOutput,
    WlSeat,
)

from tests.peers.app import App, object_id
from tests.peers.compositor import Compositor, offer_selection
from tests.peers.loopback import VM, Loopback


async def test_everything_in_one_burst(app: App, compositor: Compositor) -> None:
    """What is shown is what was there at the commit, whatever is destroyed after it."""
    surface, canvas = app.surface(), app.canvas((64, 64))
    pixels = canvas.draw(1)
    surface.attach(canvas.buffer, 0, 0)
    surface.damage(0, 0, 64, 64)
    surface.commit()
    canvas.buffer.destroy()
    region = app.bind(WlCompositor).create_region()
    region.destroy()
    await app.roundtrip()

    assert compositor.surfaces()[0].frames == [pixels]


async def test_surface_that_is_destroyed_while_its_buffer_is_located(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    surface, canvas = app.surface(), app.canvas((64, 64))
    canvas.draw(1)
    surface.attach(canvas.buffer, 0, 0)
    surface.commit()
    surface.destroy()
    canvas.buffer.destroy()
    await app.roundtrip()

    assert not compositor.surfaces()
    await app.roundtrip()
    await loopback.until(lambda: not loopback.pins())


async def test_one_buffer_on_two_surfaces(app: App, compositor: Compositor) -> None:
    one, two = app.surface(), app.surface()
    canvas = app.canvas((32, 32))
    first = canvas.draw(1)
    await app.show(one, canvas)
    second = canvas.draw(2)
    await app.show(two, canvas)
    await app.show(one, canvas, 0, 0, 1, 1)

    left, right = compositor.surfaces()
    assert left.frames[0] == first
    assert right.frames == [second]
    assert left.frames[1] == second


async def test_attached_and_replaced_before_the_commit(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    surface = app.surface()
    unseen, seen = app.canvas((32, 32)), app.canvas((16, 16))
    unseen.draw(1)
    pixels = seen.draw(2)
    surface.attach(unseen.buffer, 0, 0)
    surface.attach(seen.buffer, 0, 0)
    surface.damage(0, 0, 16, 16)
    surface.commit()
    await app.roundtrip()

    assert compositor.surfaces()[0].frames == [pixels]


async def test_pipes_stay_with_their_messages(app: App, compositor: Compositor) -> None:
    """More of them in a burst than one sendmsg of libwayland's carries."""
    device = app.keep(app.bind(WlDataDeviceManager).get_data_device(app.bind(WlSeat)))
    offers = app.record(device, "data_offer")
    await app.roundtrip()
    resource = offer_selection(compositor.apps[-1].find("wl_data_device"), "a/b")
    await app.until(lambda: offers)
    [(offer,)] = offers
    reading = {}
    for number in range(40):
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        reading[f"text/{number}"] = ours
        offer.receive(f"text/{number}", theirs)
        os.close(theirs)
        if number % 20 == 19:
            app.display.flush()
    await app.roundtrip()

    assert [mime for mime, _ in resource.state] == list(reading)
    for mime, fd in resource.state:
        os.write(fd, mime.encode())
        os.close(fd)
    resource.state.clear()
    for mime, fd in reading.items():
        await trio.lowlevel.wait_readable(fd)
        assert os.read(fd, 100).decode() == mime
        await trio.lowlevel.wait_readable(fd)
        assert os.read(fd, 100) == b""
        os.close(fd)


async def test_app_whose_pages_are_being_located_stops_nobody_else(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    other = await loopback.app()
    surface, canvas = app.surface(), app.canvas((64, 64))
    pixels = canvas.draw(1)
    loopback.locator.going.clear()
    surface.attach(canvas.buffer, 0, 0)
    surface.commit()
    app.display.flush()
    await trio.testing.wait_all_tasks_blocked()

    await other.roundtrip()
    pointer = app.keep(app.bind(WlSeat).get_pointer())
    assert pointer
    assert not compositor.surfaces()[0].frames

    loopback.locator.going.set()
    await app.roundtrip()
    assert compositor.surfaces()[0].frames == [pixels]


@pytest.mark.parametrize("end", ["app", "host", "agent", "compositor"])
async def test_end_while_pages_are_being_located(
    loopback: Loopback, app: App, end: str
) -> None:
    surface, canvas = app.surface(), app.canvas((64, 64))
    loopback.locator.going.clear()
    surface.attach(canvas.buffer, 0, 0)
    surface.commit()
    app.display.flush()
    await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        if end == "app":
            app.close()
        else:
            nursery.start_soon(loopback.stop, end)
        await trio.testing.wait_all_tasks_blocked()
        loopback.locator.going.set()
    if end == "app":
        await loopback.quiet()
    await loopback.until(lambda: loopback.locator.pinned <= 1)


@pytest.mark.parametrize("title", ["x" * 4000, "ü" * 2000, "€" * 1300, "", "\t"])
async def test_titles_of_any_length(
    app: App, compositor: Compositor, title: str
) -> None:
    window = await app.window()
    window.role.set_title(title)
    window.role.set_app_id(title)
    await app.roundtrip()

    shown = compositor.called("xdg_toplevel.set_title")[-1].args[0]
    assert f"[{VM}] {title}".startswith(shown)
    called = compositor.called("xdg_toplevel.set_app_id")[-1].args[0]
    assert f"wlproxy.{VM}.{title}".startswith(called)


async def test_events_of_an_offer_that_the_app_has_just_destroyed(
    app: App, compositor: Compositor
) -> None:
    device = app.keep(app.bind(WlDataDeviceManager).get_data_device(app.bind(WlSeat)))
    offers = app.record(device, "data_offer")
    await app.roundtrip()
    source = compositor.apps[-1].find("wl_data_device")

    for number in range(5):
        resource = offer_selection(source, "a/b")
        count = number + 1
        await app.until(lambda: len(offers) == count)  # noqa: B023 - awaited here
        compositor.pause()
        offers[-1][0].destroy()
        app.display.flush()
        await trio.testing.wait_all_tasks_blocked()
        resource.send("offer", "too/late")  # the compositor does not know yet
        resource.send("action", 1)
        source.send("selection", resource)
        compositor.going.set()
        await app.roundtrip()
        await app.roundtrip()

    ids = {object_id(offer) for (offer,) in offers if not offer.destroyed}
    assert not ids
    assert len(compositor.called("wl_data_offer.destroy")) == 5


async def test_every_registry_hears_of_globals(
    app: App, compositor: Compositor
) -> None:
    second = app.keep(app.display.get_registry())
    added, removed = app.record(second, "global"), app.record(second, "global_remove")
    await app.roundtrip()
    assert {name: (kind, version) for name, kind, version in added} == app.globals

    compositor.remove_global(compositor.output)
    compositor.add_global(WlOutput, 3)
    await app.until(lambda: removed and app.removed and added[-1][1] == "wl_output")

    assert removed == [(name,) for name in app.removed]
    assert added[-1][1:] == ("wl_output", 3)
    surface = second.bind(app.find("wl_compositor")[0], WlCompositor, 4)
    app.keep(surface).create_region().destroy()
    await app.roundtrip()


async def test_ids_that_libwayland_uses_again_at_once(
    app: App, compositor: Compositor
) -> None:
    """Callbacks take the id that was just freed; nothing is confused by it."""
    surface, canvas = app.surface(), app.canvas((16, 16))
    drawn = []
    for frame in range(100):
        drawn.append(canvas.draw(frame))
        callback = surface.frame()
        done = app.record(callback, "done")
        await app.show(surface, canvas)
        assert done == [(1234,)]
        other = app.canvas((4, 4))
        other.buffer.destroy()

    assert compositor.surfaces()[0].frames == drawn
