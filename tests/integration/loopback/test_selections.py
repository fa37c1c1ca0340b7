"""Clipboards: what is copied here is pasted there, through pipes, both ways."""

import os
import pty
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from pywayland.protocol.wayland import WlDataDeviceManager, WlDataOffer, WlSeat
from pywayland.protocol.wp_primary_selection_unstable_v1 import (
    ZwpPrimarySelectionDeviceManagerV1,
)

from tests.peers.app import App
from tests.peers.compositor import Compositor, offer_selection
from tests.peers.libwayland import Resource
from tests.peers.loopback import Loopback
from wlproxy.protocol.channel.lanes.bounds import StreamLimits
from wlproxy.relay import policy_tree
from wlproxy.relay.policy_tree import Direction

TEXT = "text/plain;charset=utf-8"
LARGE = bytes(range(256)) * 4096
"""1 MiB: more than any window or pipe holds."""

KINDS = [
    (WlDataDeviceManager, "wl_data_"),
    (ZwpPrimarySelectionDeviceManagerV1, "zwp_primary_selection_"),
]


def device_of(app: App, manager: Any) -> Any:
    bound, seat = app.bind(manager), app.bind(WlSeat)
    get = getattr(bound, "get_data_device", None) or bound.get_device
    return app.keep(get(seat))


def device_resource(compositor: Compositor) -> Resource:
    return next(
        resource
        for resource in reversed(compositor.clients[-1].resources)
        if "_device" in resource.interface.name
        and "manager" not in resource.interface.name
    )


async def write_all(fd: int, data: bytes, pump: Callable[[], None]) -> None:
    """Write to a pipe that belongs to us from now on, and close it."""
    os.set_blocking(fd, False)
    rest = memoryview(data)
    try:
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                pump()
                await trio.lowlevel.wait_writable(fd)
    finally:
        trio.lowlevel.notify_closing(fd)
        os.close(fd)


async def read_all(fd: int) -> bytes:
    """Read a pipe that belongs to us from now on, to its end."""
    os.set_blocking(fd, False)
    data = bytearray()
    try:
        with trio.fail_after(10):
            while True:
                try:
                    piece = os.read(fd, 1 << 16)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(fd)
                    continue
                if not piece:
                    return bytes(data)
                data += piece
    finally:
        os.close(fd)


def nothing() -> None:
    pass


class Offers:
    """What an app is offered."""

    def __init__(self, app: App, device: Any) -> None:
        self.app = app
        self.mimes: dict[Any, list[str]] = {}
        self.selected: list[Any] = []
        device.dispatcher["data_offer"] = self._offered
        device.dispatcher["selection"] = self._selected

    def _offered(self, _device: Any, offer: Any) -> None:
        mimes = self.mimes[self.app.keep(offer)] = []
        offer.dispatcher["offer"] = lambda _offer, mime: mimes.append(mime)

    def _selected(self, _device: Any, offer: Any) -> None:
        self.selected.append(offer)


async def paste(
    app: App, offers: Offers, compositor: Compositor, offer: Resource
) -> tuple[int, int]:
    """Ask for a selection; returns the app's reading and the compositor's writing end."""
    await app.until(lambda: offers.selected)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    offers.selected[-1].receive(TEXT, theirs)
    await app.roundtrip()
    os.close(theirs)
    mime, fd = offer.state.pop()
    assert mime == TEXT
    return ours, fd


@pytest.mark.parametrize(("manager", "prefix"), KINDS)
@pytest.mark.parametrize("data", [b"", b"copied", LARGE], ids=len)
async def test_host_to_app(
    app: App, compositor: Compositor, manager: Any, prefix: str, data: bytes
) -> None:
    offers = Offers(app, device_of(app, manager))
    await app.roundtrip()
    offer = offer_selection(device_resource(compositor), TEXT, "text/html")
    ours, theirs = await paste(app, offers, compositor, offer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_all, theirs, data, nothing)
        assert await read_all(ours) == data

    assert offers.mimes[offers.selected[0]] == [TEXT, "text/html"]


@pytest.mark.parametrize(("manager", "prefix"), KINDS)
@pytest.mark.parametrize("data", [b"", b"copied", LARGE], ids=len)
async def test_app_to_host(
    app: App, compositor: Compositor, manager: Any, prefix: str, data: bytes
) -> None:
    device = device_of(app, manager)
    bound = app.bind(manager)
    create = getattr(bound, "create_data_source", None) or bound.create_source
    source = app.keep(create())
    source.offer(TEXT)
    asked = app.record(source, "send")
    device.set_selection(source, 3)
    await app.roundtrip()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    compositor.clients[-1].find(f"{prefix}source" + _suffix(prefix)).send(
        "send", TEXT, theirs
    )
    os.close(theirs)
    await app.until(lambda: asked)
    [(mime, fd)] = asked
    assert mime == TEXT

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_all, fd, data, nothing)
        assert await read_all(ours) == data


def _suffix(prefix: str) -> str:
    return "_v1" if prefix.startswith("zwp") else ""


async def test_reader_that_goes_stops_the_writer(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    offers = Offers(app, device_of(app, WlDataDeviceManager))
    await app.roundtrip()
    offer = offer_selection(device_resource(compositor), TEXT)
    ours, theirs = await paste(app, offers, compositor, offer)

    os.close(ours)

    with trio.fail_after(10), pytest.raises(BrokenPipeError):
        await write_all(theirs, LARGE * 4, nothing)
    await app.roundtrip()


async def test_reader_that_goes_stops_the_app_that_writes(
    app: App, compositor: Compositor
) -> None:
    device = device_of(app, WlDataDeviceManager)
    source = app.keep(app.bind(WlDataDeviceManager).create_data_source())
    source.offer(TEXT)
    asked = app.record(source, "send", "cancelled")
    device.set_selection(source, 3)
    await app.roundtrip()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    compositor.clients[-1].find("wl_data_source").send("send", TEXT, theirs)
    os.close(theirs)
    await app.until(lambda: asked)
    os.close(ours)

    with trio.fail_after(10), pytest.raises(BrokenPipeError):
        await write_all(asked[0][1], LARGE * 4, nothing)

    compositor.clients[-1].find("wl_data_source").send("cancelled")
    await app.until(lambda: asked[1:])


async def test_reader_that_does_not_read_stops_nobody_else(
    app: App, compositor: Compositor
) -> None:
    offers = Offers(app, device_of(app, WlDataDeviceManager))
    await app.roundtrip()
    offer = offer_selection(device_resource(compositor), TEXT)
    slow, slow_fd = await paste(app, offers, compositor, offer)
    quick, quick_fd = await paste(app, offers, compositor, offer)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_all, slow_fd, LARGE, nothing)
        nursery.start_soon(write_all, quick_fd, LARGE, nothing)
        assert await read_all(quick) == LARGE
        await app.roundtrip()
        assert await read_all(slow) == LARGE


async def test_app_gone_in_the_middle_of_a_paste(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    offers = Offers(app, device_of(app, WlDataDeviceManager))
    await app.roundtrip()
    offer = offer_selection(device_resource(compositor), TEXT)
    ours, theirs = await paste(app, offers, compositor, offer)

    app.close()
    os.close(ours)

    with trio.fail_after(10), pytest.raises(BrokenPipeError):
        await write_all(theirs, LARGE * 4, nothing)
    await loopback.quiet()


async def test_ids_of_a_thousand_selections_are_used_again(
    app: App, compositor: Compositor
) -> None:
    offers = Offers(app, device_of(app, WlDataDeviceManager))
    await app.roundtrip()
    device = device_resource(compositor)
    ids = set()

    for number in range(1000):
        mime = f"text/{number}"
        ids.add(offer_selection(device, mime).object_id)
        count = number + 1
        await app.until(lambda: len(offers.selected) == count)  # noqa: B023
        offer = offers.selected[-1]
        assert offers.mimes.pop(offer) == [mime]
        if number:
            offers.selected[-2].destroy()
        if number % 50 == 49:
            await app.roundtrip()

    assert max(ids) < 0xFF000000 + 120


async def test_drag_and_drop_within_the_app(app: App, compositor: Compositor) -> None:
    device = device_of(app, WlDataDeviceManager)
    source = app.keep(app.bind(WlDataDeviceManager).create_data_source())
    source.offer(TEXT)
    source.set_actions(1)
    window, icon = await app.window(), app.surface()
    offers = Offers(app, device)
    seen = app.record(device, "enter", "motion", "drop", "leave")
    device.start_drag(source, window.surface, icon, 5)
    await app.roundtrip()
    [dragged] = compositor.called("wl_data_device.start_drag")
    client = compositor.apps[-1]
    assert [str(arg) for arg in dragged.args[:3]] == [
        str(client.find("wl_data_source")),
        *map(str, client.all("wl_surface")),
    ]

    target = device_resource(compositor)
    offer = Resource(client, WlDataOffer, target.version)
    offer.state = []
    target.send("data_offer", offer)
    offer.send("offer", TEXT)
    offer.send("source_actions", 1)
    target.send("enter", 6, client.all("wl_surface")[0], 1.0, 2.0, offer)
    target.send("motion", 7, 3.5, 4.5)
    target.send("drop")
    await app.until(lambda: () in seen)

    [theirs] = offers.mimes
    assert seen == [(6, window.surface, 1.0, 2.0, theirs), (7, 3.5, 4.5), ()]
    theirs.accept(6, TEXT)
    theirs.set_actions(1, 1)
    theirs.finish()
    theirs.destroy()
    await app.roundtrip()
    assert len(compositor.called("wl_data_offer.finish")) == 1


@pytest.mark.parametrize("size", [3, 60_000])
async def test_last_words_of_an_app_that_copies_and_ends(
    loopback: Loopback, app: App, compositor: Compositor, size: int
) -> None:
    """What it wrote before it ended is read to the end, though it is gone by then."""
    device = device_of(app, WlDataDeviceManager)
    source = app.keep(app.bind(WlDataDeviceManager).create_data_source())
    source.offer(TEXT)
    asked = app.record(source, "send")
    device.set_selection(source, 3)
    await app.roundtrip()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    compositor.apps[-1].find("wl_data_source").send("send", TEXT, theirs)
    os.close(theirs)
    await app.until(lambda: asked)
    [(_, fd)] = asked

    assert os.write(fd, LARGE[:size]) == size
    os.close(fd)
    app.close()

    assert await read_all(ours) == LARGE[:size]
    await loopback.quiet()


async def test_slow_reader_of_the_last_words(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    """More than a pipe holds: the reader takes its time, the app is long gone."""
    device = device_of(app, WlDataDeviceManager)
    source = app.keep(app.bind(WlDataDeviceManager).create_data_source())
    source.offer(TEXT)
    asked = app.record(source, "send")
    device.set_selection(source, 3)
    await app.roundtrip()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    compositor.apps[-1].find("wl_data_source").send("send", TEXT, theirs)
    os.close(theirs)
    await app.until(lambda: asked)
    [(_, fd)] = asked

    await write_all(fd, LARGE[:200_000], nothing)
    app.close()
    await trio.testing.wait_all_tasks_blocked()

    assert await read_all(ours) == LARGE[:200_000]


# ---------------------------------------------------------------- after the app has left


def source_of(app: App, *mimes: str) -> list[Any]:
    """Have the app copy; what it is asked for is recorded in the list."""
    device = device_of(app, WlDataDeviceManager)
    source = app.keep(app.bind(WlDataDeviceManager).create_data_source())
    for mime in mimes:
        source.offer(mime)
    asked = app.record(source, "send")
    device.set_selection(source, 3)
    return asked


async def test_app_that_leaves_is_pasted_to_all_the_same(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    offers = Offers(app, device_of(app, WlDataDeviceManager))
    await app.roundtrip()
    kept: list[int] = []
    compositor.handlers["wl_data_offer", "receive"] = lambda _offer, _mime, fd: (
        kept.append(fd)
    )
    offer_selection(device_resource(compositor), TEXT)
    await app.until(lambda: offers.selected)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    offers.selected[-1].receive(TEXT, theirs)
    await app.roundtrip()
    os.close(theirs)

    app.close()
    await loopback.quiet()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_all, kept.pop(), LARGE, nothing)
        assert await read_all(ours) == LARGE


async def test_helper_of_an_app_that_left_is_still_read(
    loopback: Loopback, app: App, compositor: Compositor
) -> None:
    asked = source_of(app, TEXT)
    await app.roundtrip()
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    compositor.apps[-1].find("wl_data_source").send("send", TEXT, theirs)
    os.close(theirs)
    await app.until(lambda: asked)

    app.close()
    await loopback.quiet()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_all, asked[0][1], LARGE, nothing)
        assert await read_all(ours) == LARGE


@pytest.mark.parametrize("gone", [False, True])
async def test_reader_that_goes_is_noticed_without_a_byte(
    loopback: Loopback, app: App, compositor: Compositor, *, gone: bool
) -> None:
    offers = Offers(app, device_of(app, WlDataDeviceManager))
    await app.roundtrip()
    kept: list[int] = []
    compositor.handlers["wl_data_offer", "receive"] = lambda _offer, _mime, fd: (
        kept.append(fd)
    )
    offer_selection(device_resource(compositor), TEXT)
    await app.until(lambda: offers.selected)
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    offers.selected[-1].receive(TEXT, theirs)
    await app.roundtrip()
    os.close(theirs)
    if gone:
        app.close()
        await loopback.quiet()

    os.close(ours)

    with trio.fail_after(10):  # the write end says so: nothing is written
        await trio.lowlevel.wait_readable(kept[0])
    os.close(kept.pop())


async def test_compositor_that_goes_on_does_not_hear_of_those_that_left(
    loopback: Loopback, app: App, capfd: pytest.CaptureFixture[str]
) -> None:
    """libwayland has a line in its log for a connection that is closed by half."""
    await app.roundtrip()
    app.close()
    await loopback.quiet()
    assert "failed to" not in capfd.readouterr().err


# ---------------------------------------------------------------- all types at once


@pytest.mark.parametrize("size", [20, 10_000])
async def test_host_asks_for_every_type_at_once(
    app: App, compositor: Compositor, size: int
) -> None:
    mimes = [f"image/x-{number}" for number in range(200)]
    asked = source_of(app, *mimes)
    await app.roundtrip()
    source = compositor.apps[-1].find("wl_data_source")
    ends = []
    for mime in mimes:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        source.send("send", mime, theirs)
        os.close(theirs)
        ends.append(ours)
    await app.until(lambda: len(asked) == len(mimes))

    async with trio.open_nursery() as nursery:
        for mime, fd in asked:
            nursery.start_soon(write_all, fd, mime.encode() * size, nothing)
        for mime, ours in zip(mimes, ends, strict=True):
            assert await read_all(ours) == mime.encode() * size
    await app.roundtrip()


@pytest.fixture
def few_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wlproxy.host.session.STREAM_LIMITS", StreamLimits(100))


@pytest.mark.usefixtures("few_streams")
async def test_app_asks_for_more_than_there_may_be(
    app: App, compositor: Compositor
) -> None:
    """What is too much ends at once; the app, and what it asked for before, do not."""
    offers = Offers(app, device_of(app, WlDataDeviceManager))
    await app.roundtrip()
    offer = offer_selection(device_resource(compositor), TEXT)
    await app.until(lambda: offers.selected)
    ends = []
    for _ in range(150):
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        offers.selected[-1].receive(TEXT, theirs)
        app.display.flush()
        os.close(theirs)
        ends.append(ours)
    await app.roundtrip()
    assert len(offer.state) == len(ends)
    for _, fd in offer.state:
        with suppress(BrokenPipeError):
            os.write(fd, b"copied")
        os.close(fd)
    offer.state.clear()

    got = [await read_all(ours) for ours in ends]

    assert got == [b"copied"] * 100 + [b""] * 50
    await app.roundtrip()


# ---------------------------------------------------------------- into whatever it is


@pytest.mark.parametrize("kind", ["file", "file open both ways", "terminal", "socket"])
@pytest.mark.parametrize("way", ["to the app", "to the host"])
async def test_pasted_into_standard_output(
    app: App, compositor: Compositor, tmp_path: Path, kind: str, way: str
) -> None:
    with ExitStack() as closing:
        passed, read = standard_output(closing, kind, tmp_path / "pasted")
        if way == "to the app":
            offers = Offers(app, device_of(app, WlDataDeviceManager))
            await app.roundtrip()
            offer = offer_selection(device_resource(compositor), TEXT)
            await app.until(lambda: offers.selected)
            offers.selected[-1].receive(TEXT, passed)
            await app.roundtrip()
            [(_, fd)] = offer.state
            offer.state.clear()
        else:
            asked = source_of(app, TEXT)
            await app.roundtrip()
            source = compositor.apps[-1].find("wl_data_source")
            source.send("send", TEXT, passed)
            await app.until(lambda: asked)
            [(_, fd)] = asked

        os.write(fd, b"copied")
        os.close(fd)

        got = b""
        with trio.fail_after(10):
            while got != b"copied":
                got += read()
                await trio.sleep(0.001)
        assert os.get_blocking(passed)
        await app.roundtrip()


def standard_output(
    closing: ExitStack, kind: str, path: Path
) -> tuple[int, Callable[[], bytes]]:
    """What a shell may have put there, and how to see what arrives."""
    if kind.startswith("file"):
        flags = os.O_WRONLY if kind == "file" else os.O_RDWR
        fd = os.open(path, flags | os.O_CREAT)
        closing.callback(os.close, fd)
        reader = os.open(path, os.O_RDONLY)
    elif kind == "terminal":
        reader, fd = pty.openpty()
        closing.callback(os.close, fd)
    else:
        ours, theirs = socket.socketpair()
        reader, fd = ours.detach(), theirs.fileno()
        closing.enter_context(theirs)
    closing.callback(os.close, reader)
    os.set_blocking(reader, False)

    def read() -> bytes:
        try:
            return os.read(reader, 100)
        except BlockingIOError:
            return b""

    return fd, read


async def test_what_cannot_be_pasted_into_ends_that_paste(
    app: App, compositor: Compositor
) -> None:
    offers = Offers(app, device_of(app, WlDataDeviceManager))
    await app.roundtrip()
    offer = offer_selection(device_resource(compositor), TEXT)
    await app.until(lambda: offers.selected)
    for path, flags in (("/", os.O_RDONLY), ("/dev/null", os.O_RDONLY)):
        fd = os.open(path, flags)
        offers.selected[-1].receive(TEXT, fd)
        await app.roundtrip()
        os.close(fd)
    kept, offer.state = offer.state, []
    assert len(kept) == 2

    for _, fd in kept:
        with trio.fail_after(10):
            await trio.lowlevel.wait_readable(fd)  # it is broken
        os.close(fd)
    await app.roundtrip()


# ---------------------------------------------------------------- policy


def policy(manager: Any, rules: policy_tree.Clipboard) -> policy_tree.Policy:
    if manager is WlDataDeviceManager:
        return policy_tree.Policy(clipboard=rules)
    return policy_tree.Policy(primary=policy_tree.Primary(rules.direction, rules.types))


@pytest.mark.parametrize(("manager", "prefix"), KINDS)
@pytest.mark.parametrize("direction", list(Direction))
async def test_what_policy_lets_an_app_have(
    bare: Loopback, manager: Any, prefix: str, direction: Direction
) -> None:
    """And what it lets the compositor have, which records what it is asked."""
    await bare.start_compositor()
    await bare.start_agent()
    rules = policy_tree.Clipboard(direction, types=("text/*",))
    await bare.start_host(policy=policy(manager, rules))
    app, compositor = await bare.app(), bare.compositor
    offers = Offers(app, device_of(app, manager))
    await app.roundtrip()
    offer = offer_selection(device_resource(compositor), TEXT, "image/png")
    await app.roundtrip()

    assert bool(offers.selected) is direction.to_guest
    if direction.to_guest:
        assert offers.mimes[offers.selected[-1]] == [TEXT]
        for mime in (TEXT, "image/png"):
            ours, theirs = os.pipe2(os.O_CLOEXEC)
            offers.selected[-1].receive(mime, theirs)
            os.close(theirs)
            await app.roundtrip()
            if direction is Direction.ASK or mime != TEXT:
                assert await read_all(ours) == b""
                assert not offer.state
            else:
                [(asked, fd)] = offer.state
                assert asked == TEXT
                offer.state.clear()
                os.close(fd)
                os.close(ours)
