"""The clipboard, both ways, by each policy, with all that may be wrong with who sends and who receives.

App, agent and proxy are real; the compositor records what it is asked.
"""

import hashlib
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import trio
from pywayland.protocol.wayland import WlDataDeviceManager, WlSeat

from tests.integration.loopback.test_selections import (
    Offers,
    device_of,
    device_resource,
    nothing,
    read_all,
    write_all,
)
from tests.peers.app import App
from tests.peers.compositor import Compositor, offer_selection
from tests.peers.libwayland import Resource
from tests.peers.loopback import Loopback
from wlproxy.relay.policy_tree import Clipboard, Direction, Policy

TEXT: Final = "text/plain;charset=utf-8"

LARGE: Final = 200 << 20
SHORT: Final = 1 << 20

UNDER_WAY: Final = 2 << 20
"""Bytes that may have been written and not been read: two pipes, and a window of 128 KiB, at each end."""

MOST_TYPES: Final = 256
"""`clipboard.max-types`, unless set."""

Ends = tuple[int, int]
"""Where to write, and where to read."""


class Desk:
    """An app with a window that has the keyboard, and the host's compositor.

    Attributes:
        types: what is offered.
        told: what the other side heard of that.
    """

    def __init__(self, bare: Loopback, app: App, policy: Direction) -> None:
        self.app = app
        self.policy = policy
        self.compositor: Compositor = bare.compositor
        self.types = [TEXT]
        self.told: list[str] = []
        self.device = device_of(app, WlDataDeviceManager)
        self.keyboard = app.keep(app.bind(WlSeat).get_keyboard())
        self._keymaps = app.record(self.keyboard, "keymap")

    def resource(self, interface: str) -> Resource:
        return self.compositor.apps[-1].find(interface)

    async def focus(self, event: str) -> None:
        """Have the keyboard "enter" the window, or "leave" it."""
        while self._keymaps:
            os.close(self._keymaps.pop()[1])
        keys = (b"",) if event == "enter" else ()
        self.resource("wl_keyboard").send(event, 1, self.resource("wl_surface"), *keys)
        await self.app.roundtrip()

    async def press(self) -> None:
        """Have a key pressed there."""
        self.resource("wl_keyboard").send("key", 2, 1000, 30, 1)
        await self.app.roundtrip()

    async def offer(self) -> None:
        """Have what is to be copied offered."""
        raise NotImplementedError

    async def ask(self) -> Ends | None:
        """Have it asked for; None: who offers is not asked, and who asks is not kept waiting."""
        raise NotImplementedError


class ToGuest(Desk):
    """The host copies, the app pastes."""

    def __init__(self, bare: Loopback, app: App, policy: Direction) -> None:
        super().__init__(bare, app, policy)
        self._offers = Offers(app, self.device)
        self._offer: Resource

    async def offer(self) -> None:
        self._offer = offer_selection(device_resource(self.compositor), *self.types)
        await self.app.roundtrip()
        assert bool(self._offers.selected) is self.policy.to_guest
        if self._offers.selected:
            self.told = self._offers.mimes[self._offers.selected[-1]]

    async def ask(self) -> Ends | None:
        if not self._offers.selected:
            return None
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        self._offers.selected[-1].receive(TEXT, theirs)
        os.close(theirs)
        await self.app.roundtrip()
        if not self._offer.state:
            assert await read_all(ours) == b""
            return None
        [(_, fd)] = self._offer.state
        self._offer.state.clear()
        return fd, ours


class ToHost(Desk):
    """The app copies, the host pastes."""

    async def offer(self) -> None:
        source = self.app.keep(
            self.app.bind(WlDataDeviceManager).create_data_source(),
        )
        for each in self.types:
            source.offer(each)
        self._asked = self.app.record(source, "send")
        self.device.set_selection(source, 3)
        await self.app.roundtrip()
        self.told = self.resource("wl_data_source").state or []

    async def ask(self) -> Ends | None:
        if not self.compositor.called("wl_data_device.set_selection"):
            assert not self.told
            return None
        count = len(self._asked)
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        self.resource("wl_data_source").send("send", TEXT, theirs)
        os.close(theirs)
        await self.app.until(lambda: len(self._asked) > count)
        return self._asked[-1][1], ours


WAYS: Final = {"to-guest": ToGuest, "to-host": ToHost}


# ---------------------------------------------------------------- the cases


async def copied(ends: Ends, data: bytes = b"copied") -> None:
    """Check that a text comes through, to its end."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_all, ends[0], data, nothing)
        assert await read_all(ends[1]) == data


async def text(desk: Desk, ends: Ends) -> None:
    assert desk.told == [TEXT]
    await copied(ends)


async def much(desk: Desk, ends: Ends) -> None:
    """However much it is, the proxy and the agent hold little of it."""
    size = LARGE if desk.policy is Direction.BOTH else SHORT
    piece = bytes(range(256)) * 1021  # no power of two
    written, read = hashlib.sha256(), hashlib.sha256()
    under_way = most = left = size
    under_way = most = 0
    os.set_blocking(ends[0], False)
    os.set_blocking(ends[1], False)

    async def write() -> None:
        nonlocal left, under_way, most
        while left:
            try:
                count = os.write(ends[0], piece[:left])
            except BlockingIOError:
                await trio.lowlevel.wait_writable(ends[0])
                continue
            written.update(piece[:count])
            left -= count
            under_way += count
            most = max(most, under_way)
        os.close(ends[0])

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            while True:
                try:
                    data = os.read(ends[1], 1 << 16)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(ends[1])
                    continue
                if not data:
                    break
                read.update(data)
                under_way -= len(data)
    os.close(ends[1])
    assert (left, under_way) == (0, 0)
    assert written.digest() == read.digest()
    assert most <= UNDER_WAY


async def many_types(desk: Desk, ends: Ends) -> None:
    """As many are told as may be, the first ones."""
    assert desk.told == desk.types[:MOST_TYPES]
    await copied(ends)


async def receiver_goes(desk: Desk, ends: Ends) -> None:
    """Who sends is told so, and is not blocked for ever."""
    os.set_blocking(ends[1], False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(broken, ends[0])
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(ends[1])
        assert os.read(ends[1], 10)
        os.close(ends[1])
    await others_go_on(desk)


async def broken(fd: int) -> None:
    """Write until nobody reads any more."""
    with trio.fail_after(10), pytest.raises(BrokenPipeError):
        await write_all(fd, bytes(SHORT) * 16, nothing)


async def sender_stays(desk: Desk, ends: Ends) -> None:
    """What it has sent arrives, and nothing else waits for the rest."""
    os.write(ends[0], b"half")
    os.set_blocking(ends[1], False)
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(ends[1])
    assert os.read(ends[1], 100) == b"half"
    await others_go_on(desk)
    with pytest.raises(BlockingIOError):
        os.read(ends[1], 100)
    os.close(ends[1])  # and that ends it for who sends
    with trio.fail_after(10):
        await trio.lowlevel.wait_readable(ends[0])
    os.close(ends[0])


async def others_go_on(desk: Desk) -> None:
    await desk.app.roundtrip()
    ends = await desk.ask()
    assert ends is not None
    await copied(ends)


Case = Callable[[Desk, Ends], Awaitable[None]]

CASES: Final[dict[str, Case]] = {
    "text": text,
    "200 MiB": much,
    "many types": many_types,
    "receiver that closes early": receiver_goes,
    "sender that never closes": sender_stays,
    "gesture too old": text,
    "focus elsewhere": text,
}


def crosses(way: str, policy: Direction, case: str) -> bool:
    """What the policy says."""
    if policy is Direction.ASK:
        return case not in ("gesture too old", "focus elsewhere")
    return policy is Direction.BOTH or policy.value == way


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("policy", list(Direction))
@pytest.mark.parametrize("way", WAYS)
async def test_clipboard(
    bare: Loopback,
    way: str,
    policy: Direction,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if case == "gesture too old":
        monkeypatch.setattr("wlproxy.relay.gestures.GESTURE_SECONDS", 0.0)
    await bare.start_compositor()
    await bare.start_agent()
    await bare.start_host(policy=Policy(clipboard=Clipboard(policy)))
    app = await bare.app()
    app.surface()
    desk: Any = WAYS[way](bare, app, policy)
    if case == "many types":
        desk.types = [TEXT, *(f"text/x-{number}" for number in range(299))]
    await app.roundtrip()
    await desk.focus("enter")
    if way == "to-guest":  # the focus brings the selection, and then a key asks for it
        await desk.offer()
    await desk.press()
    if case == "focus elsewhere":
        await desk.focus("leave")
    if way == "to-host":
        await desk.offer()
    ends = await desk.ask()

    assert (ends is not None) is crosses(way, policy, case)
    if ends is not None:
        await CASES[case](desk, ends)
    await app.roundtrip()


def test_all_of_it_is_there() -> None:
    assert (len(WAYS), len(Direction), len(CASES)) == (2, 5, 7)
    assert crosses("to-guest", Direction.TO_GUEST, "text")
    assert not crosses("to-host", Direction.TO_GUEST, "text")
    assert not crosses("to-host", Direction.OFF, "text")
