"""A relay, and beside it one that is taken apart and put together again on the way.

Both are told the same.  What follows must be the same to the byte, and at the end what they
know.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from wlproxy.memory.guest_memory import GuestMemory
from wlproxy.protocol.errors import WlproxyError
from wlproxy.protocol.notation import Plain
from wlproxy.relay.buffers.surfaces import SurfaceStatus
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import Command
from wlproxy.relay.holdings import Holdings
from wlproxy.relay.inputs import Input, PolicyChanged
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.clock import GuestClock
from wlproxy.relay.wire.context import RelayConfig

Objects = dict[str, list[dict[str, Plain]]]


class DifferentError(AssertionError):
    """What was put together again is not what was taken apart."""


def values(plain: Plain) -> list[Plain]:
    """What is known to be several."""
    assert isinstance(plain, list)
    return plain


def known(relay: "Relay | Twins", name: str) -> list[dict[str, Plain]]:
    """Everything of one class that a relay knows, as plain values."""
    objects: Objects = relay.snapshot()["objects"]  # type: ignore[assignment]
    return objects[name]


def add_own(interface: str, host_id: int) -> Callable[[Objects], None]:
    """Edit: the proxy has another object of its own."""

    def add(objects: Objects) -> None:
        objects["ProtocolObject"].append(
            {
                "interface": interface,
                "version": 1,
                "guest_id": 0,
                "host_id": host_id,
                "role": None,
                "listener": {"Ignored": {}},
            }
        )
        place = len(objects["ProtocolObject"]) - 1
        table = objects["Context"][0]["objects"]
        assert isinstance(table, dict)
        values(table["host"]).append([host_id, place])

    return add


def forget_guest(guest_id: int) -> Callable[[Objects], None]:
    """Edit: as if the app could free an object before `delete_id`."""

    def forget(objects: Objects) -> None:
        table = objects["Context"][0]["objects"]
        assert isinstance(table, dict)
        pairs = values(table["guest"])
        for each in objects["ProtocolObject"]:
            if each["guest_id"] == guest_id:
                pairs.remove([guest_id, objects["ProtocolObject"].index(each)])
                each["guest_id"] = 0

    return forget


def growing() -> Callable[[], bool]:
    """Be taken apart before input 4, 9, 19, 39 and so on: each transcript, a few times."""
    now, inputs = 4, 0

    def is_due() -> bool:
        nonlocal now, inputs
        inputs += 1
        if inputs < now:
            return False
        now += now + 1
        return True

    return is_due


class Twins:
    """As a `Relay`: what goes in goes into both.

    Attributes:
        is_due: asked before every input whether it is time.
        moments: how many there were.
    """

    def __init__(
        self,
        config: RelayConfig,
        memory: GuestMemory,
        capabilities: CompositorCapabilities,
    ) -> None:
        self._config, self._memory = config, memory
        self._whole = Relay(config, memory, capabilities)
        self._other: Relay | None = Relay(config, memory, capabilities)
        self.is_due = growing()
        self.moments = 0

    def receive(self, given: Input) -> list[Command]:
        if self._other is None:
            return self._whole.receive(given)
        if self.is_due():
            self.take_apart()
        error = other_error = None
        if isinstance(given, PolicyChanged):
            self._config = replace(self._config, policy=given.policy, frame=given.frame)
        commands: list[Command] = []
        others: list[Command] = []
        try:
            commands = self._whole.receive(given)
        except WlproxyError as exc:
            error = exc
        try:
            others = self._other.receive(given)
        except WlproxyError as exc:
            other_error = exc
        if commands != others or repr(error) != repr(other_error):
            raise DifferentError(f"of {given}: {commands} and {error}; {others}")
        if error is not None:
            raise error
        return commands

    def framed_otherwise(self) -> int:
        """As of a relay."""
        return self._whole.framed_otherwise()

    def take_apart(self) -> None:
        """Write one down, and put the other together of what was written."""
        self.moments += 1
        self._other = self.restored(self._whole.snapshot())

    def receive_apart(self, given: Input) -> None:
        """Have only one of them know something."""
        self._whole.receive(given)

    def compare(self) -> dict[str, Plain]:
        """Make sure that both know the same; say what."""
        snapshot = self._whole.snapshot()
        if self._other is not None and self._other.snapshot() != snapshot:
            raise DifferentError("they do not know the same")
        return snapshot

    def go_alone(self) -> None:
        """Have all that follows done once."""
        self._other = None

    def restored(self, snapshot: object) -> Relay:
        carried = json.loads(json.dumps(snapshot))
        return Relay.restore(carried, self._config, self._memory)

    def edit(self, change: Callable[[Objects], object]) -> None:
        """Go on as if something were otherwise: `change` what is known, in place."""
        snapshot = self._whole.snapshot()
        change(snapshot["objects"])  # type: ignore[arg-type]
        self._whole, self._other = self.restored(snapshot), self.restored(snapshot)

    def known(self, name: str) -> list[dict[str, Plain]]:
        """Everything of one class, as plain values."""
        return known(self, name)

    def snapshot(self) -> dict[str, Plain]:
        return self._whole.snapshot()

    def requests_wait(self, client_id: int) -> bool:
        return self._whole.requests_wait(client_id)

    def events_wait(self, client_id: int) -> bool:
        return self._whole.events_wait(client_id)

    def surfaces(self) -> list[SurfaceStatus]:
        return self._whole.surfaces()

    def ram_files(self) -> set[int]:
        return self._whole.ram_files()

    def holdings(self) -> Holdings:
        return self._whole.holdings()

    @property
    def clock(self) -> GuestClock:
        return self._whole.clock

    @property
    def client_labels(self) -> dict[int, str]:
        return self._whole.client_labels
