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
from tests.integration.loopback.test_managers import Manager
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
from tests.peers.wlr_data_control import WlrDataControlManager
from wlproxy.relay.policy_tree import Clipboard, Direction, Globals, Policy


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
    bare: Loopback, sway: Path, keyboard: Keyboard, policy: Direction | Policy
) -> tuple[Copier, Copier]:
    """Have an app of the host's that has copied, and one of the guest's with the focus."""
    if isinstance(policy, Direction):
        policy = Policy(clipboard=Clipboard(policy))
    await bare.start_agent()
    # From clients of a context newer ones keep data control.
    isolate = not policy.globals.allow
    await bare.start_host(sway, policy=policy, isolate=isolate)
    native = await App.connect(sway, bare.ram)
    bare.apps.append(native)
    host, guest = Copier(native), Copier(await bare.app())
    await host.show()
    await host.press(keyboard)
    await host.copy()
    await guest.show()
    return host, guest


async def pasted(taker: Copier, *givers: "Copier | Keeper") -> "Copier | Keeper | None":
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


# ---------------------------------------------------------------- clipboard managers


MANAGED = Policy(Globals(allow=(WlrDataControlManager.name,)))


class Keeper(Manager):
    """A clipboard manager of the guest's, which gives as apps do."""

    mime = TEXT

    def __init__(self, app: App) -> None:
        super().__init__(app, WlrDataControlManager)

    async def give(self, data: bytes) -> None:
        """Give what it has set to who asks for it."""
        await self.app.until(lambda: self.asked)
        await write_all(self.asked.pop()[1], data, nothing)


async def test_a_manager_replaces_only_what_the_guest_has_copied(
    bare: Loopback, sway: Path, keyboard: Keyboard
) -> None:
    native, guest = await start(bare, sway, keyboard, MANAGED)
    keeper = Keeper(await bare.app())
    await keeper.app.roundtrip()
    assert len(await keeper.set()) == 1
    await native.show()
    assert await pasted(native, native, keeper) is native

    await guest.show()
    await guest.press(keyboard)
    await guest.copy()
    told = len(keeper.told)
    await keeper.app.until(lambda: keeper.told[-1] == [TEXT])
    assert not await keeper.set()
    await keeper.app.until(lambda: len(keeper.told) > told)
    await native.show()
    assert await pasted(native, native, keeper) is keeper

    await native.press(keyboard)
    await native.copy()
    assert len(await keeper.set()) == 1
    assert await pasted(native, native, keeper) is native


async def test_a_manager_keeps_what_an_app_had_copied(
    bare: Loopback, sway: Path, keyboard: Keyboard
) -> None:
    native, guest = await start(bare, sway, keyboard, MANAGED)
    keeper = Keeper(await bare.app())
    await guest.press(keyboard)
    await guest.copy()
    await keeper.app.until(lambda: [TEXT] in keeper.told)
    guest.app.close()
    await keeper.app.until(lambda: keeper.told[-1] is None)

    assert not await keeper.set()

    await native.show()
    assert await pasted(native, native, keeper) is keeper


@pytest.mark.parametrize("own", [True, False])
async def test_what_is_picked_in_a_managers_window_is_set(
    bare: Loopback, sway: Path, keyboard: Keyboard, own: bool
) -> None:
    """Or by a command without one, which was typed in another app of the VM."""
    native, guest = await start(bare, sway, keyboard, MANAGED)
    keeper = Keeper(guest.app if own else await bare.app())
    await keeper.app.roundtrip()
    assert len(await keeper.set()) == 1

    await guest.press(keyboard)
    assert not await keeper.set()

    await native.show()
    assert await pasted(native, native, keeper) is keeper
