"""An app that floods, or that meets a limit of the host: other apps do not notice."""

import os
import struct

import pytest
import trio
import trio.testing
from pywayland.protocol.wayland import WlCompositor, WlDataDeviceManager

from tests.integration.loopback.test_selections import (
    TEXT,
    device_of,
    device_resource,
)
from tests.peers.app import App, Disconnected, object_id
from tests.peers.compositor import Compositor, offer_selection
from tests.peers.loopback import Loopback
from wlproxy.host.client.streams import Streams
from wlproxy.host.errors import HostError
from wlproxy.protocol.channel.frames import Data
from wlproxy.relay.commands import Command
from wlproxy.relay.inputs import Input, RequestsTurn
from wlproxy.relay.relay import Relay
from wlproxy.transport.fds import OwnedFd

FRAMES = 10


async def flood(app: App) -> None:
    """Send tiny requests as fast as they are taken."""
    region = app.keep(app.bind(WlCompositor).create_region())
    app.display.flush()
    add = struct.pack("=IIiiii", object_id(region), 24 << 16 | 1, 0, 0, 9, 9)
    descriptor = app.display.get_fd()
    while True:
        rest = memoryview(add * 1000)
        while rest:
            await trio.lowlevel.wait_writable(descriptor)
            rest = rest[os.write(descriptor, rest) :]


def turns_log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Record whose data came, and whose turn it was."""
    log: list[tuple[str, int]] = []
    receive = Relay.receive

    def note(self: Relay, given: Input) -> list[Command]:
        if isinstance(given, Data):
            log.append(("data", given.client_id))
        elif isinstance(given, RequestsTurn):
            log.append(("turn", given.client_id))
        return receive(self, given)

    monkeypatch.setattr(Relay, "receive", note)
    return log


async def test_an_honest_app_waits_for_one_turn_of_a_flood_at_most(
    loopback: Loopback, compositor: Compositor, monkeypatch: pytest.MonkeyPatch
) -> None:
    flooder, honest = await loopback.app(), await loopback.app()
    window, canvas = await honest.window(), honest.canvas((8, 8))
    [bad, good] = [client["client_id"] for client in loopback.status()["clients"]]
    log = turns_log(monkeypatch)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood, flooder)
        await loopback.until(lambda: log.count(("turn", bad)) > 10)
        for frame in range(FRAMES):
            pixels = canvas.draw(frame)
            await honest.show(window.surface, canvas)
            assert compositor.surfaces()[-1].frames[-1] == pixels
        nursery.cancel_scope.cancel()

    waits, waiting = [], False
    for what in log:
        if what == ("data", good) and not waiting:
            waiting, turns = True, 0
        elif what == ("turn", bad) and waiting:
            turns += 1
        elif what == ("turn", good) and waiting:
            waits.append(turns)
            waiting = False
    assert len(waits) >= FRAMES
    assert max(waits) <= 1


async def test_an_app_that_errs_behind_a_pipe_that_cannot_be_made_ends_alone(
    loopback: Loopback,
    app: App,
    compositor: Compositor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = await loopback.app()
    device = device_of(bad, WlDataDeviceManager)
    offers = bad.record(device, "data_offer")
    await bad.roundtrip()
    offer = offer_selection(device_resource(compositor), TEXT)
    await bad.until(lambda: offers)

    def fail(*_args: object, **_usable: object) -> OwnedFd:
        raise HostError("no fd is left", tried="pipe2", errno=24)

    monkeypatch.setattr(Streams, "create", fail)
    read, write = os.pipe()
    offers[0][0].receive(TEXT, write)
    bad.pool(0)  # an error, in the same batch
    bad.display.flush()
    os.close(write)
    os.close(read)

    with pytest.raises(Disconnected):
        await bad.roundtrip()
    await app.roundtrip()
    assert not offer.state
    assert loopback.status()["metrics"]["bugs"] == 0
    assert loopback.status()["metrics"]["sessions"] == 1
