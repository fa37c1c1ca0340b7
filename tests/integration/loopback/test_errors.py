"""Protocol errors, whoever makes them: the app sees what it would see directly."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from pywayland.protocol.viewporter import WpViewporter
from pywayland.protocol.wayland import (
    WlCompositor,
    WlOutput,
    WlSeat,
    WlShm,
    WlSubcompositor,
)
from pywayland.protocol.xdg_shell import XdgWmBase

from tests.peers.app import App, Disconnected, ProtocolError, object_id
from tests.peers.compositor import HIDDEN, Compositor, introduce_output
from tests.peers.loopback import Loopback

Wrong = Callable[[App], Awaitable[None]]


async def invalid_stride(app: App) -> None:
    app.keep(app.pool(1 << 16).create_buffer(0, 100, 10, 99, 1))


async def stride_of_nothing(app: App) -> None:
    app.keep(app.pool(1 << 16).create_buffer(0, 0, 10, 0, 1))


async def outside_the_pool(app: App) -> None:
    app.keep(app.pool(1 << 16).create_buffer(4096, 128, 128, 512, 1))


async def negative_offset(app: App) -> None:
    app.keep(app.pool(1 << 16).create_buffer(-4, 8, 8, 32, 1))


async def empty_pool(app: App) -> None:
    app.pool(0)


async def shrunken_pool(app: App) -> None:
    app.pool(8192).resize(4096)


async def pool_of_a_pipe(app: App) -> None:
    ours, theirs = os.pipe()
    app.keep(app.bind(WlShm).create_pool(ours, 4096))
    os.close(ours)
    os.close(theirs)


async def version_too_high(app: App) -> None:
    name, version = app.find("wl_compositor")
    app.keep(app.registry.bind(name, WlCompositor, version + 1))


async def global_that_never_was(app: App) -> None:
    app.keep(app.registry.bind(4711, WlCompositor, 1))


async def global_of_another_interface(app: App) -> None:
    name, _ = app.find("wl_seat")
    app.keep(app.registry.bind(name, WlCompositor, 1))


async def buffer_before_configure(app: App) -> None:
    surface, canvas = app.surface(), app.canvas((8, 8))
    xdg_surface = app.keep(app.bind(XdgWmBase).get_xdg_surface(surface))
    app.keep(xdg_surface.get_toplevel())
    surface.attach(canvas.buffer, 0, 0)
    surface.commit()


async def wrong_serial(app: App) -> None:
    window = await app.window()
    window.xdg_surface.ack_configure(12345)


SHELL_WRONG: list[Wrong] = [buffer_before_configure, wrong_serial]
WRONG: list[Wrong] = [
    invalid_stride,
    stride_of_nothing,
    outside_the_pool,
    negative_offset,
    empty_pool,
    shrunken_pool,
    pool_of_a_pipe,
    version_too_high,
    global_that_never_was,
    global_of_another_interface,
    *SHELL_WRONG,
]


async def error_of(app: App, wrong: Wrong) -> tuple[str, int, int] | None:
    """Do it; returns interface and code of the error, and which object of ours it was.

    Ids are not compared: they depend on when libwayland hears that one is free.
    """
    error = None
    with trio.fail_after(10):
        try:
            await wrong(app)
            await app.roundtrip()
        except Disconnected as exc:
            error = exc.error
    if error is None:
        return None
    return error.interface, error.code, app.ids.index(error.object_id)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
async def test_error_is_the_one_that_libwayland_makes(
    bare: Loopback, wrong: Wrong
) -> None:
    await bare.start_compositor(native_shm=wrong not in SHELL_WRONG)
    await bare.start_agent()
    await bare.start_host()
    direct, proxied = await bare.direct_app(), await bare.app()

    expected = await error_of(direct, wrong)

    assert expected is not None
    assert await error_of(proxied, wrong) == expected
    proxied.close()
    await bare.quiet()


async def test_unknown_format_is_refused_when_it_is_shown(bare: Loopback) -> None:
    """Which is late: the compositor is not told of buffers that nobody shows."""
    await bare.start_compositor(native_shm=True)
    await bare.start_agent()
    await bare.start_host()
    app = await bare.app()
    surface = app.surface()
    buffer = app.keep(app.pool(4096).create_buffer(0, 8, 8, 32, 0x12345678))
    await app.roundtrip()

    surface.attach(buffer, 0, 0)
    surface.commit()

    error = await app.disconnected()
    assert error == ProtocolError("wl_buffer", object_id(buffer), 0)


async def test_error_of_the_compositor_names_the_app_s_own_object(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    for _ in range(20):  # so that ids differ here and there
        app.keep(app.bind(WlCompositor).create_region())
    viewport = app.keep(app.bind(WpViewporter).get_viewport(app.surface()))
    await app.roundtrip()
    resource = compositor.clients[-1].find("wp_viewport")

    resource.post_error(2, "out of buffer")

    expected = ProtocolError("wp_viewport", object_id(viewport), 2)
    assert await app.disconnected() == expected
    app.close()
    with trio.fail_after(10):
        await resource.client.gone.wait()
    await loopback.quiet()


async def test_error_leaves_other_apps_alone(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    other = await loopback.app()
    window = await other.window()

    assert await error_of(app, invalid_stride) is not None

    canvas = other.canvas((8, 8))
    pixels = canvas.draw(1)
    await other.show(window.surface, canvas)
    assert compositor.surfaces()[-1].frames == [pixels]
    assert loopback.clients() == 1


async def test_globals_that_policy_hides_are_not_there(
    loopback: Loopback, app: App
) -> None:
    direct = await loopback.direct_app()
    hidden = {interface.name for interface, _ in HIDDEN}

    assert hidden <= direct.interfaces.keys()
    assert app.interfaces == {
        name: version
        for name, version in direct.interfaces.items()
        if name not in hidden
    }


@pytest.mark.parametrize(("hidden", "version"), HIDDEN)
async def test_hidden_global_cannot_be_bound_by_its_name(
    loopback: Loopback, app: App, hidden: Any, version: int
) -> None:
    direct = await loopback.direct_app()
    name, _ = direct.find(hidden.name)

    app.keep(app.registry.bind(name, hidden, version))

    error = await app.disconnected()
    assert error == ProtocolError("wl_registry", object_id(app.registry), 0)
    await loopback.quiet()


async def test_version_is_capped_to_what_the_tables_know(bare: Loopback) -> None:
    await bare.start_compositor()
    await bare.start_agent()
    await bare.start_host()
    known = WlSubcompositor.version
    app = await bare.app()

    assert app.find("wl_subcompositor")[1] <= known
    assert app.find("xdg_wm_base")[1] == 5  # the compositor's, as it is lower
    app.bind(XdgWmBase, 2)
    await app.roundtrip()
    [bound] = bare.compositor.clients[-1].all("xdg_wm_base")
    assert bound.version == 2


async def test_output_that_is_plugged_in_later(
    app: App, compositor: Compositor
) -> None:
    before = len(app.globals)

    compositor.add_global(WlOutput, 4, introduce_output)
    await app.until(lambda: len(app.globals) > before)

    name = max(app.globals)
    assert app.globals[name] == ("wl_output", 4)
    output = app.keep(app.registry.bind(name, WlOutput, 4))
    names = app.record(output, "name")
    await app.until(lambda: names)
    assert names == [("TEST-1",)]


async def test_output_that_is_unplugged(app: App, compositor: Compositor) -> None:
    name, _ = app.find("wl_output")
    output = app.bind(WlOutput)
    await app.roundtrip()

    compositor.remove_global(compositor.output)
    await app.until(lambda: app.removed)

    assert app.removed == [name]
    output.release()
    await app.roundtrip()
    app.keep(app.registry.bind(name, WlOutput, 1))  # a race, which is no error
    await app.roundtrip()


async def test_hidden_global_comes_and_goes_unseen(
    app: App, compositor: Compositor
) -> None:
    hidden = HIDDEN[0][0]
    compositor.remove_global(compositor.add_global(hidden, 1))
    compositor.remove_global(compositor.seat)
    await app.until(lambda: app.removed)

    assert len(app.removed) == 1
    assert hidden.name not in app.interfaces
    assert WlSeat.name not in app.interfaces
