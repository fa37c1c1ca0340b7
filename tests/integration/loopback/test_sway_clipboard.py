"""`ask` at a real sway: its focus, its keys, its clipboard, and an app of the host's that copies and pastes."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from pywayland.protocol.wayland import WlDataDeviceManager, WlSeat

from tests.clients.keyboard import Keyboard
from tests.host.conftest import running_sway
from tests.integration.loopback.test_selections import (
    TEXT,
    Offers,
    device_of,
    nothing,
    read_all,
    write_all,
)
from tests.peers.app import App
from tests.peers.loopback import Loopback
from wlproxy.relay.policy_tree import Clipboard, Direction, Policy


@pytest.fixture(scope="module")
def sway() -> Iterator[Path]:
    with running_sway() as sway:
        yield sway


@pytest.fixture
def keyboard(sway: Path) -> Iterator[Keyboard]:
    keyboard = Keyboard(str(sway))
    yield keyboard
    keyboard.close()


class Copier:
    """An app, of the host's or the guest's, that copies and pastes."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.device = device_of(app, WlDataDeviceManager)
        self.offers = Offers(app, self.device)
        self._keyboard = app.keep(app.bind(WlSeat).get_keyboard())
        self._keymaps = app.record(self._keyboard, "keymap")
        self._enters = app.record(self._keyboard, "enter")
        self._keys = app.record(self._keyboard, "key")
        self._asked: list[tuple[Any, ...]] = []

    async def show(self) -> Any:
        """Show a window, and wait until it has the keyboard, as a new one has."""
        window, count = await self.app.window(), len(self._enters)
        await self.app.show(window.surface, self.app.canvas((64, 64)))
        await self.app.until(lambda: len(self._enters) > count)
        await self.app.roundtrip()
        while self._keymaps:
            os.close(self._keymaps.pop()[1])
        return window

    async def press(self, keyboard: Keyboard) -> None:
        """Have a key pressed in its window."""
        count = len(self._keys) + 2
        keyboard.type("v")
        await self.app.until(lambda: len(self._keys) >= count)

    async def copy(self) -> None:
        source = self.app.keep(self.app.bind(WlDataDeviceManager).create_data_source())
        source.offer(TEXT)
        self._asked = self.app.record(source, "send")
        serial = self._keys[-1][0] if self._keys else self._enters[-1][0]
        self.device.set_selection(source, serial)
        await self.app.roundtrip()

    async def give(self, data: bytes) -> None:
        """Give what was copied to who asks for it."""
        await self.app.until(lambda: self._asked)
        await write_all(self._asked.pop()[1], data, nothing)

    async def paste(self) -> int:
        """Ask for what was copied; returns where to read it."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        self.offers.selected[-1].receive(TEXT, theirs)
        os.close(theirs)
        await self.app.roundtrip()
        return ours


async def start(
    bare: Loopback, sway: Path, keyboard: Keyboard, policy: Direction
) -> tuple[Copier, Copier]:
    """Have an app of the host's that has copied, and one of the guest's with the focus."""
    await bare.start_agent()
    await bare.start_host(sway, policy=Policy(clipboard=Clipboard(policy)))
    native = await App.connect(sway, bare.ram)
    bare.apps.append(native)
    host, guest = Copier(native), Copier(await bare.app())
    await host.show()
    await host.press(keyboard)
    await host.copy()
    await guest.show()
    return host, guest


async def pasted(taker: Copier, *givers: Copier) -> Copier | None:
    """Paste: whose it is, all of it, or nobody's and nothing at once."""
    reading = await taker.paste()
    async with trio.open_nursery() as nursery:
        for number, giver in enumerate(givers):
            nursery.start_soon(giver.give, b"copied by %d" % number)
        data = await read_all(reading)
        nursery.cancel_scope.cancel()
    if not data:
        return None
    return givers[int(data.removeprefix(b"copied by "))]


@pytest.mark.parametrize("policy", list(Direction))
async def test_the_host_copies_and_the_guest_pastes(
    bare: Loopback, sway: Path, keyboard: Keyboard, policy: Direction
) -> None:
    native, guest = await start(bare, sway, keyboard, policy)
    if not policy.to_guest:
        assert not any(guest.offers.selected)
        return
    first = None if policy is Direction.ASK else native
    assert await pasted(guest, native) is first
    await guest.press(keyboard)
    assert await pasted(guest, native) is native
    if policy is Direction.ASK:
        await native.show()  # a new window has the keyboard
        await guest.app.roundtrip()
        assert await pasted(guest, native) is None


@pytest.mark.parametrize("policy", list(Direction))
async def test_the_guest_copies_and_the_host_pastes(
    bare: Loopback, sway: Path, keyboard: Keyboard, policy: Direction
) -> None:
    native, guest = await start(bare, sway, keyboard, policy)
    if policy is Direction.ASK:
        await guest.copy()  # unasked: the host's own stays
        before = len(native.offers.selected)
        await native.show()
        assert len(native.offers.selected) > before
        assert await pasted(native, guest, native) is native
        await guest.show()
    await guest.press(keyboard)
    await guest.copy()
    await native.show()
    last = guest if policy.to_host else native
    assert await pasted(native, guest, native) is last
