"""What a clipboard manager of the guest reads and sets, by the policy for such."""

import os
from typing import Any

import pytest
from pywayland.protocol.ext_data_control_v1 import (
    ExtDataControlManagerV1,
    ExtDataControlOfferV1,
)
from pywayland.protocol.wayland import WlDataDeviceManager, WlSeat
from pywayland.protocol_core.interface import Interface

from tests.integration.loopback.test_selections import Offers, device_of
from tests.peers.app import App, Disconnected
from tests.peers.compositor import Compositor, offer_selection
from tests.peers.libwayland import Resource
from tests.peers.loopback import VM, Loopback
from wlproxy.relay.ownership import MARKS
from wlproxy.relay.policy_tree import (
    Clipboard,
    Direction,
    Globals,
    Managers,
    Policy,
    Primary,
)

TEXT = "text/plain"
MARK = MARKS.decode() + VM
CONTROLLED = Globals(allow=(ExtDataControlManagerV1.name,))


class Manager:
    """A clipboard manager, and what it is told of each selection."""

    mime = TEXT

    def __init__(
        self, app: App, kind: type[Interface] = ExtDataControlManagerV1
    ) -> None:
        self.app = app
        self.manager = app.bind(kind)
        self.device = app.keep(self.manager.get_data_device(app.bind(WlSeat)))
        self.device.dispatcher["data_offer"] = self._offered
        for use in ("selection", "primary_selection"):
            self.device.dispatcher[use] = self._selected
        self.types: dict[Any, list[str]] = {}
        self.told: list[list[str] | None] = []
        """The types of each selection; None: there is none."""
        self.offers: list[Any] = []
        self.asked: list[tuple[Any, ...]] = []

    async def set(self, use: str = "selection") -> Any:
        """Set a source of text; return what it is told."""
        source = self.app.keep(self.manager.create_data_source())
        source.offer(self.mime)
        told = self.app.record(source, "cancelled")
        self.asked = self.app.record(source, "send")
        getattr(self.device, f"set_{use}")(source)
        await self.app.roundtrip()
        return told

    def _offered(self, _device: Any, offer: Any) -> None:
        types = self.types[self.app.keep(offer)] = []
        offer.dispatcher["offer"] = lambda _offer, mime: types.append(mime)

    def _selected(self, _device: Any, offer: Any) -> None:
        self.told.append(None if offer is None else self.types[offer])
        self.offers.append(offer)


class Desk:
    """A compositor with an app of the guest that copies, and a manager."""

    def __init__(self, compositor: Compositor, app: App, manager: Manager) -> None:
        self.compositor = compositor
        self.app = app
        self.manager = manager
        self.received: list[str] = []
        key = ("ext_data_control_offer_v1", "receive")
        compositor.handlers[key] = self._receive

    def _receive(self, _offer: Resource, mime: str, fd: int) -> None:
        self.received.append(mime)
        os.write(fd, b"contents")
        os.close(fd)

    async def offer(self, use: str, *types: str) -> None:
        """Have a selection be offered to the manager, as compositors do to all such."""
        [call] = self.compositor.called("ext_data_control_manager_v1.get_data_device")
        device = call.args[0]
        offer = Resource(device.client, ExtDataControlOfferV1, device.version)
        device.send("data_offer", offer)
        for mime in types:
            offer.send("offer", mime)
        device.send(use, offer)
        await self.manager.app.roundtrip()

    def heard(self, interface: str) -> list[str]:
        """The types that sources of that kind have."""
        calls = self.compositor.called(f"{interface}.offer")
        return [call.args[0] for call in calls]


async def desk(bare: Loopback, policy: Policy) -> Desk:
    await bare.start_compositor()
    await bare.start_agent()
    await bare.start_host(policy=policy)
    app = await bare.app()
    other = await bare.app()
    await other.until(lambda: ExtDataControlManagerV1.name in other.interfaces)
    manager = Manager(other)
    await other.roundtrip()
    return Desk(bare.compositor, app, manager)


def by_policy(managers: Managers, direction: Direction = Direction.BOTH) -> Policy:
    return Policy(
        CONTROLLED,
        Clipboard(direction, managers=managers),
        Primary(direction, managers=managers),
    )


@pytest.mark.parametrize("use", ["selection", "primary_selection"])
@pytest.mark.parametrize("managers", list(Managers))
async def test_what_a_manager_is_told_of_the_hosts(
    bare: Loopback, managers: Managers, use: str
) -> None:
    at = await desk(bare, by_policy(managers))

    await at.offer(use, TEXT)
    await at.offer(use, TEXT, MARKS.decode() + "another-vm")

    if managers is Managers.OWN:
        assert at.manager.told == [None]
        assert not at.manager.types
    else:
        assert at.manager.told == [[TEXT], [TEXT]]


async def copy(at: Desk) -> None:
    """Have the guest's app copy something."""
    bound = at.app.bind(WlDataDeviceManager)
    device = at.app.keep(bound.get_data_device(at.app.bind(WlSeat)))
    source = at.app.keep(bound.create_data_source())
    source.offer(TEXT)
    source.offer(MARKS.decode() + "another-vm")
    device.set_selection(source, 3)
    await at.app.roundtrip()


@pytest.mark.parametrize("managers", list(Managers))
async def test_a_manager_reads_what_an_app_of_the_guest_has_copied(
    bare: Loopback, managers: Managers
) -> None:
    at = await desk(bare, by_policy(managers))
    await copy(at)
    types = at.heard("wl_data_source")
    assert types == ([MARK, TEXT] if managers is Managers.OWN else [TEXT])

    await at.offer("selection", *types)
    assert at.manager.told == [[TEXT]]
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    at.manager.offers[-1].receive(TEXT, theirs)
    os.close(theirs)
    await at.manager.app.roundtrip()
    os.close(ours)
    assert at.received == [TEXT]

    await at.offer("selection", TEXT)
    assert at.manager.told[1:] == ([None] if managers is Managers.OWN else [[TEXT]])


@pytest.mark.parametrize("direction", [Direction.TO_GUEST, Direction.BOTH])
async def test_what_a_manager_sets_replaces_what_the_vm_has_copied(
    bare: Loopback, direction: Direction
) -> None:
    at = await desk(bare, by_policy(Managers.OWN, direction))
    await at.offer("selection", TEXT, MARK)

    cancelled = await at.manager.set()

    sent = at.compositor.called("ext_data_control_device_v1.set_selection")
    assert bool(sent) is direction.to_host
    assert at.heard("ext_data_control_source_v1") == (
        [f"{MARK}.1", TEXT] if direction.to_host else []
    )
    assert not cancelled


@pytest.mark.parametrize("managers", list(Managers))
@pytest.mark.parametrize("types", [(TEXT,), (TEXT, MARKS.decode() + "other"), ()])
@pytest.mark.parametrize("use", ["selection", "primary_selection"])
async def test_what_a_manager_sets_does_not_replace_another_ones(
    bare: Loopback, use: str, types: tuple[str, ...], managers: Managers
) -> None:
    at = await desk(bare, by_policy(managers))
    if types:
        await at.offer(use, *types)

    cancelled = await at.manager.set(use)
    getattr(at.manager.device, f"set_{use}")(None)
    await at.manager.app.roundtrip()

    sent = at.compositor.called(f"ext_data_control_device_v1.set_{use}")
    every = managers is Managers.ALL
    assert len(sent) == (2 if every else 0)
    assert at.heard("ext_data_control_source_v1") == ([TEXT] if every else [])
    assert len(cancelled) == (0 if every else 1)


async def test_a_source_that_was_cancelled_is_an_error_if_it_is_set_again(
    bare: Loopback,
) -> None:
    at = await desk(bare, by_policy(Managers.OWN))
    app = at.manager.app
    source = app.keep(at.manager.manager.create_data_source())
    at.manager.device.set_selection(source)
    at.manager.device.set_selection(source)

    with pytest.raises(Disconnected) as caught:
        await app.roundtrip()

    assert caught.value.error is not None
    assert caught.value.error.interface == "ext_data_control_device_v1"
    assert caught.value.error.code == 1
    await at.app.roundtrip()  # nobody else ends


async def test_an_apps_own_paste_is_as_it_was(bare: Loopback) -> None:
    """The key is about managers: who has the focus is told of the host's selection."""
    at = await desk(bare, by_policy(Managers.OWN))
    offers = Offers(at.app, device_of(at.app, WlDataDeviceManager))
    await at.app.roundtrip()
    [call] = at.compositor.called("wl_data_device_manager.get_data_device")

    offer_selection(call.args[0], TEXT, MARKS.decode() + "another-vm")
    await at.app.roundtrip()

    assert [offers.mimes[each] for each in offers.selected] == [[TEXT]]
