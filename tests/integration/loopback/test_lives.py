"""Apps, agent, proxy and compositor come and go, in every order."""

import socket

import pytest
import trio
import trio.testing
from pywayland.protocol.linux_dmabuf_v1 import ZwpLinuxDmabufV1
from pywayland.protocol.wayland import WlSeat

from tests.open_fds import open_fds
from tests.peers.app import App, Canvas, Disconnected, ProtocolError, Window
from tests.peers.compositor import Compositor
from tests.peers.dmabuf import DEVICE, XRGB, CopyingDevice, Feedback
from tests.peers.loopback import Loopback
from wlproxy.host.report.progress import State
from wlproxy.protocol.channel.frames import Feature
from wlproxy.relay.formats import DRM_ARGB8888
from wlproxy_guest import session
from wlproxy_guest.quotas import Limits

TOLD = ProtocolError("wl_display", 1, 3)
"""By an error of wl_display, for lack of another way: the sentence is on its stderr."""


async def shown(app: App, seed: int = 1) -> tuple[Window, Canvas]:
    """Show a window; the compositor holds its buffer."""
    window, canvas = await app.window(), app.canvas((64, 64))
    canvas.draw(seed)
    await app.show(window.surface, canvas)
    return window, canvas


async def works(loopback: Loopback) -> None:
    """Show a window in a new app."""
    app = await loopback.app()
    _, canvas = await shown(app, 77)
    pixels = canvas.draw(77)
    assert loopback.compositor.surfaces()[-1].frames == [pixels]
    app.close()


async def fds_at_rest(loopback: Loopback) -> int:
    """Count the fds that are open once no app is left anywhere."""
    await loopback.quiet()
    await loopback.until(lambda: not loopback.compositor.apps)
    await trio.testing.wait_all_tasks_blocked()
    return len(open_fds())


async def test_app_that_leaves_leaves_nothing(
    loopback: Loopback, compositor: Compositor
) -> None:
    await works(loopback)
    before = await fds_at_rest(loopback)

    app = await loopback.app()
    compositor.releases_at_once = False
    await shown(app)
    client = compositor.clients[-1]
    assert loopback.pins() > 0
    app.close()

    with trio.fail_after(10):
        await client.gone.wait()
    await loopback.quiet()
    # Its memory is given back in a thread.
    await loopback.until(lambda: len(open_fds()) <= before)
    assert loopback.status()["metrics"]["open_fds"] == 0


async def test_app_killed_in_the_middle_of_everything(
    loopback: Loopback, compositor: Compositor
) -> None:
    await works(loopback)
    before = await fds_at_rest(loopback)

    for round_ in range(10):
        app = await loopback.app()
        window, canvas = await shown(app)
        keyboard = app.keep(app.bind(WlSeat).get_keyboard())
        assert keyboard
        for frame in range(5 + round_):
            canvas.draw(frame)
            window.surface.attach(canvas.buffer, 0, 0)
            window.surface.damage(0, 0, 64, 64)
            window.surface.commit()
        app.pool(1 << 20)
        app.display.flush()
        app.close()  # events, a keymap and a pool under way

    await loopback.quiet()
    with trio.fail_after(10):
        while compositor.apps:
            await compositor.apps[0].gone.wait()
    # Its memory is given back in a thread.
    await loopback.until(lambda: len(open_fds()) <= before)


async def test_app_that_sends_half_a_message_and_dies(
    loopback: Loopback, compositor: Compositor
) -> None:
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(str(loopback.display))
        connected.send(b"\1\0\0\0\1\0")
        await loopback.until(loopback.clients)

    await loopback.quiet()
    await works(loopback)


async def test_app_that_sends_garbage_ends_alone(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    await shown(app)
    with trio.socket.socket(socket.AF_UNIX) as garbled:
        await garbled.connect(str(loopback.display))
        await garbled.send(b"\xff" * 4096)
        with trio.fail_after(10):
            while await garbled.recv(4096):
                pass

    await app.roundtrip()
    await loopback.until(lambda: loopback.clients() == 1)


async def test_compositor_closes_one_client(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    other = await loopback.app()
    await shown(app)
    await shown(other)

    compositor.apps[0].disconnect()

    assert await app.disconnected() == TOLD
    canvas = other.canvas((8, 8))
    pixels = canvas.draw(3)
    await other.show(other.surface(), canvas)
    assert compositor.surfaces()[-1].frames == [pixels]
    other.close()
    await loopback.quiet()


async def test_agent_restarts(loopback: Loopback, app: App) -> None:
    await shown(app)

    await loopback.stop("agent")
    assert await app.disconnected() == TOLD
    app.close()
    await loopback.start_agent()

    await works(loopback)
    await loopback.quiet()
    assert not loopback.compositor.apps


async def test_agent_restarts_in_the_middle_of_a_burst(loopback: Loopback) -> None:
    for _ in range(3):
        app = await loopback.app()
        window, canvas = await shown(app)
        for frame in range(50):
            canvas.draw(frame)
            window.surface.attach(canvas.buffer, 0, 0)
            window.surface.damage(0, 0, 64, 64)
            window.surface.commit()
        app.display.flush()
        await trio.lowlevel.checkpoint()
        await loopback.stop("agent")
        app.close()
        await loopback.start_agent()

    await works(loopback)
    await loopback.quiet()


async def test_agent_stops_politely(loopback: Loopback, app: App) -> None:
    await shown(app)

    await loopback.agent.stop()
    assert await app.disconnected() == TOLD
    await loopback.stop("agent")
    await loopback.start_agent()

    await works(loopback)


async def test_host_restarts(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    await shown(app)

    await loopback.stop("host")
    assert await app.disconnected() == TOLD
    await loopback.start_host()

    await works(loopback)
    await loopback.quiet()


async def test_host_stops_politely(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    await shown(app)

    loopback.host.stop()
    assert await app.disconnected() == TOLD
    await loopback.stop("host")
    await loopback.until(lambda: not loopback.locator.pinned)
    await loopback.start_host()

    await works(loopback)


async def test_app_that_comes_while_the_host_is_away_waits_for_it(
    loopback: Loopback,
) -> None:
    await works(loopback)
    await loopback.stop("host")
    # Else the agent may give the app to the session that ends just now.
    await loopback.until(lambda: not loopback.locator.pinned)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(works, loopback)
        await trio.testing.wait_all_tasks_blocked()
        await loopback.start_host()


async def test_apps_that_come_back_while_the_compositor_restarts_stay(
    loopback: Loopback, app: App
) -> None:
    """However often: only the connections of the old one end."""
    for _ in range(4):
        await shown(app)
        await loopback.stop("compositor")
        assert await app.disconnected() == TOLD

        async with trio.open_nursery() as nursery:
            back: list[App] = []

            async def come_back() -> None:
                back.append(await loopback.app())  # noqa: B023 - in this round

            for _ in range(3):
                nursery.start_soon(come_back)
            await loopback.until(lambda: loopback.clients() == 3)
            await loopback.until(
                lambda: loopback.host.state is State.WAITING_FOR_COMPOSITOR
            )
            await loopback.start_compositor()
        await loopback.until(lambda: loopback.host.state is State.SERVING)
        for each in back:
            await shown(each)
        app = back.pop()
        for each in back:
            each.close()

    assert loopback.status()["metrics"]["sessions"] == 1


async def test_apps_that_wait_go_by_what_the_new_compositor_can_do(
    bare: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "find_main_device", lambda: DEVICE)
    bare.locator.features |= Feature.LOCATE_DMABUF
    await bare.start_compositor(dmabuf=True)
    await bare.start_agent()
    await bare.start_host(device=CopyingDevice())
    assert bare.status()["capabilities"]["dmabuf_stride_alignment"]
    await bare.stop("compositor")
    await bare.until(lambda: bare.host.state is State.WAITING_FOR_COMPOSITOR)

    async with trio.open_nursery() as nursery:
        back: list[App] = []

        async def come() -> None:
            back.append(await bare.app())

        nursery.start_soon(come)
        await bare.until(bare.clients)
        await bare.start_compositor()
    [app] = back
    feedback = Feedback(app, app.bind(ZwpLinuxDmabufV1).get_default_feedback())
    await app.until(lambda: feedback.done)

    assert not bare.status()["capabilities"]["dmabuf_stride_alignment"]
    # What its renderer imported is not offered any more; what its wl_shm takes is.
    assert {drm for drm, _ in feedback.table} == {XRGB, DRM_ARGB8888}


async def test_app_without_a_compositor_is_disconnected(
    loopback: Loopback, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.host.desktop.desktop.CONNECT_PATIENCE", 0.1)
    await loopback.stop("compositor")

    assert await app.disconnected() == TOLD
    with pytest.raises(Disconnected) as caught:
        await loopback.app()
    assert caught.value.error == TOLD


async def test_more_apps_than_the_host_serves_at_once(bare: Loopback) -> None:
    await bare.start_compositor()
    await bare.start_agent(Limits(clients=2))
    await bare.start_host()
    first, _second = await bare.app(), await bare.app()

    with pytest.raises(Disconnected):
        await bare.app()

    first.close()
    await bare.until(lambda: bare.clients() == 1)
    with trio.fail_after(10):
        while True:  # the agent counts an app until its task has ended
            try:
                await works(bare)
            except Disconnected:
                continue
            break
