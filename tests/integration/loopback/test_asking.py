"""`ask`, to its end: an app that pastes unasked, the proxy, a session bus, and a desktop with two buttons."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from pywayland.protocol.wayland import WlDataDeviceManager, WlSeat

from tests.integration.loopback.test_selections import (
    TEXT,
    Offers,
    device_of,
    device_resource,
    nothing,
    read_all,
    source_of,
    write_all,
)
from tests.peers.app import App
from tests.peers.compositor import offer_selection
from tests.peers.libwayland import Resource
from tests.peers.loopback import Loopback
from tests.peers.notifying import NotifyingDesktop, notifying_desktop
from wlproxy.relay.policy_tree import Clipboard, Direction, Policy

ASK = Policy(clipboard=Clipboard(Direction.ASK))


@pytest.fixture
async def desktop(
    bare: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[NotifyingDesktop]:
    """Everything runs, and the policy is to ask."""
    async with notifying_desktop(tmp_path) as desktop:
        for name, value in desktop.environ.items():
            monkeypatch.setenv(name, value)
        await bare.start_compositor()
        await bare.start_agent()
        await bare.start_host(policy=ASK)
        yield desktop


async def app_in_use(loopback: Loopback) -> App:
    """Connect an app, whose window has the keyboard."""
    app = await loopback.app()
    keymaps = app.record(app.keep(app.bind(WlSeat).get_keyboard()), "keymap")
    await app.window()
    found = loopback.compositor.apps[-1]
    found.find("wl_keyboard").send("enter", 1, found.find("wl_surface"), b"")
    await app.until(lambda: keymaps)
    os.close(keymaps[0][1])
    await app.roundtrip()
    return app


async def offered(app: App, loopback: Loopback) -> tuple[Any, Resource]:
    """Have something offered; the app's end of the offer, and the compositor's."""
    offers = Offers(app, device_of(app, WlDataDeviceManager))
    await app.roundtrip()
    offer = offer_selection(device_resource(loopback.compositor), TEXT)
    await app.until(lambda: offers.selected)
    return offers.selected[-1], offer


async def receive(app: App, offer: Any) -> int:
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    offer.receive(TEXT, theirs)
    os.close(theirs)
    await app.roundtrip()
    return ours


async def pasted(loopback: Loopback, offer: Resource, reading: int) -> str:
    """Have the compositor's end send what is asked of it; the type that was asked for."""
    await loopback.until(lambda: offer.state)
    [(mime, fd)] = offer.state
    offer.state.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_all, fd, b"copied", nothing)
        assert await read_all(reading) == b"copied"
    assert isinstance(mime, str)
    return mime


@pytest.mark.parametrize("user", ["allow", "refuse", "close", "error"])
async def test_a_paste_that_is_asked_for(
    desktop: NotifyingDesktop, bare: Loopback, user: str
) -> None:
    desktop.user = user
    app = await app_in_use(bare)
    theirs, offer = await offered(app, bare)
    reading = await receive(app, theirs)
    if user == "allow":
        assert await pasted(bare, offer, reading) == TEXT
    else:
        assert await read_all(reading) == b""
        assert not offer.state
    if user != "error":
        [shown] = desktop.shown
        assert shown.summary == "testvm: paste from the host?"
        assert "text/plain?charset" not in shown.body
        assert f'as "{TEXT}"' in shown.body


@pytest.mark.parametrize("user", ["allow", "refuse"])
async def test_a_copy_that_is_asked_for(
    desktop: NotifyingDesktop,
    bare: Loopback,
    user: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "wlproxy")
    desktop.user = user
    app = await app_in_use(bare)
    asked = source_of(app, TEXT)
    await app.roundtrip()
    await bare.until(lambda: desktop.shown)
    assert desktop.shown[0].summary == "testvm: copy to the host?"
    called = bare.compositor.called
    if user == "refuse":
        await bare.until(lambda: "the user keeps" in caplog.text)
        await app.roundtrip()
        assert not called("wl_data_device.set_selection")
        return
    await bare.until(lambda: called("wl_data_device.set_selection"))
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    bare.compositor.apps[-1].find("wl_data_source").send("send", TEXT, theirs)
    os.close(theirs)
    await app.until(lambda: asked)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_all, asked[0][1], b"copied", nothing)
        assert await read_all(ours) == b"copied"


@pytest.mark.parametrize("user", ["nothing", "hang"])
async def test_nobody_waits_for_who_does_not_answer(
    desktop: NotifyingDesktop, bare: Loopback, user: str
) -> None:
    """But the paste itself: the app goes on, and so do others; nobody else is asked about."""
    desktop.user = user
    other = await app_in_use(bare)
    theirs, offer = await offered(other, bare)
    reading = await receive(other, theirs)
    await bare.until(lambda: desktop.shown)
    await other.roundtrip()
    app = await app_in_use(bare)
    theirs, _ = await offered(app, bare)
    assert await read_all(await receive(app, theirs)) == b""
    assert len(desktop.shown) == 1

    other.close()  # then it ends for who waited, and the question goes

    assert await read_all(reading) == b""
    assert not offer.state
    if user == "nothing":
        await bare.until(lambda: desktop.withdrawn)
    await app.roundtrip()


async def test_a_pipe_that_is_held_holds_nothing_else(
    desktop: NotifyingDesktop, bare: Loopback
) -> None:
    """The reader goes before the user has said anything."""
    desktop.user = "nothing"
    app = await app_in_use(bare)
    theirs, offer = await offered(app, bare)
    os.close(await receive(app, theirs))
    await bare.until(lambda: desktop.shown)
    theirs.destroy()
    await app.roundtrip()
    await bare.until(lambda: desktop.withdrawn)
    assert not offer.state
    await app.roundtrip()
