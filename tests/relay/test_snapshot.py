"""Snapshots: a relay taken apart and put together again is the relay that it was.

Every transcript of these tests has a twin that is taken apart on the way (`twins`); here are
random ones, and what transcripts do not come to.
"""

import json
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.choices import Choices, fresh
from tests.fuzz.relay import Conversation
from tests.relay.dmabufs import XRGB, DmabufStage
from tests.relay.playbook import ONLY_SHM, ZERO_COPY, Stage
from tests.relay.shell import guest_memory
from tests.relay.twins import DifferentError, Twins, known
from tests.strategies import damaged, plain_values
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientOpened,
    Data,
)
from wlproxy.protocol.errors import SnapshotError
from wlproxy.protocol.notation import Plain
from wlproxy.relay.inputs import (
    ClockSample,
    CompositorAway,
    CompositorFound,
    FromCompositor,
)
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.context import RelayConfig

GET_REGISTRY = struct.pack("=3I", 1, 12 << 16 | 1, 2)


@settings(max_examples=80)
@given(st.integers())
def test_it_makes_no_difference_to_be_taken_apart(seed: int) -> None:
    """At random moments of what apps and compositors do, and should not do."""
    Conversation(Choices(fresh(random.Random(seed)))).run()


def busy() -> DmabufStage:
    """A client that waits for everything there is to wait for."""
    play = DmabufStage()
    play.host.releases = False
    one, two, three = play.buffers(3)
    play.show(play.surface, one)
    play.show(play.surface, two)
    play.app.request(play.surface, "frame")
    play.holds_locate = play.holds_create = True
    play.host.imports, play.deliver = "hold", False
    play.app.request(one, "destroy")
    play.app.request(play.params(play.parts((16, 16), XRGB)), "create", 16, 16, XRGB, 0)
    play.show(play.surface, three)
    play.send(GET_REGISTRY[:7])
    other = Attachment(AttachmentKind.OTHER, AttachmentFlags.NONE, 40, 0)
    play.run(play.relay.receive(Data(1, b"\1", (other,))))
    play.run(play.relay.receive(FromCompositor(1, b"\2\0\0")))
    return play


def test_everything_that_a_client_waits_with_is_in_it() -> None:
    play = busy()

    play.relay.take_apart()
    play.relay.compare()

    (client,) = play.relay.known("Client")
    assert client["stalled"] is not None
    assert client["attachments"]
    locations = {each["progress"] for each in play.relay.known("Location")}
    assert locations == {"PENDING", "READY"}
    states = {each["life"]["state"] for each in play.relay.known("Buffer")}  # type: ignore[call-overload, index]
    assert {"LOCATING", "ORPHAN"} <= states
    listeners = {str(each["listener"]) for each in play.relay.known("ProtocolObject")}
    assert any("OrphanRelease" in listener for listener in listeners)
    roles = [each["role"] for each in play.relay.known("ProtocolObject")]
    assert {"FrameCallback": {}} in roles


def test_times_are_translated_as_before() -> None:
    """The clock is known, and so is which callbacks tell a time."""
    play = Stage()
    play.relay.receive(ClockSample(10**12, 5 * 10**12, 10**12))
    play.app.request(play.surface, "frame")
    play.app.request(play.surface, "commit")
    play.relay.take_apart()
    play.said()

    play.host.event(play.host_thing("wl_callback"), "done", 1000)
    play.flush()

    assert any("done(4001000)" in line for line in play.said())


def test_who_waits_for_a_compositor_goes_on_waiting() -> None:
    twins = Twins(RelayConfig(), guest_memory(), ZERO_COPY)
    for given_ in (CompositorAway(), ClientOpened(1, 2, 3, 4, "app")):
        twins.receive(given_)
    twins.receive(Data(1, GET_REGISTRY))
    twins.take_apart()

    twins.receive(ClientOpened(2, 2, 3, 4, "app"))
    assert twins.receive(CompositorFound(ONLY_SHM))
    twins.compare()


def test_clients_go_on_sharing_what_they_share() -> None:
    relay = Relay(RelayConfig(), guest_memory(), ZERO_COPY, max_clients=2, max_fds=8)
    for client_id in (1, 2):
        relay.receive(ClientOpened(client_id, 2, 3, 4, "app"))

    again = Relay.restore(relay.snapshot(), RelayConfig(), guest_memory())

    assert len(known(again, "Quota")) == 4
    assert [each["limit"] for each in known(again, "Quota")][1] == 4
    assert len(known(again, "Shared")) == 1
    (refused,) = again.receive(ClientOpened(3, 2, 3, 4, "app"))
    assert "serves 2 clients" in str(refused)


def test_what_an_app_sent_may_be_left_out() -> None:
    play = Stage()
    play.send(b"secret")
    relay = Relay.restore(play.relay.snapshot(), RelayConfig(), guest_memory())

    for lengths in (False, True):
        written = json.dumps(relay.snapshot(lengths=lengths))
        assert (b"secret".hex() in written) is not lengths
        assert ("14 bytes" in written or "6 bytes" in written) is lengths


def test_a_twin_that_differs_is_found() -> None:
    play = Stage()
    play.relay.receive_apart(ClientOpened(2, 1, 1, 1, "other"))
    with pytest.raises(DifferentError):
        play.relay.compare()


@settings(max_examples=300)
@given(plain_values | damaged(busy().relay.snapshot()))
def test_garbage(plain: object) -> None:
    try:
        relay = Relay.restore(plain, RelayConfig(), guest_memory())
    except SnapshotError:
        return
    assert isinstance(relay, Relay)


def test_a_snapshot_of_another_version() -> None:
    snapshot = Stage().relay.snapshot() | {"format": "wlproxy relay 0"}
    with pytest.raises(SnapshotError, match="no snapshot of the format 'wlproxy relay"):
        Relay.restore(snapshot, RelayConfig(), guest_memory())


@pytest.mark.parametrize("words", ["00", "00" * 8, "0g", [1], 7])
def test_pages_that_are_none(words: Plain) -> None:
    snapshot = busy().relay.snapshot()
    snapshot["objects"]["Location"][0]["items"] = words  # type: ignore[index, call-overload]
    with pytest.raises(SnapshotError, match=r"Location\.items"):
        Relay.restore(snapshot, RelayConfig(), guest_memory())
