"""All clients of a VM together take only so much of the host, and give it back."""

import pytest

from tests.relay.playbook import ONLY_SHM, Stage
from tests.relay.shell import PAGE
from wlproxy.protocol.channel.frames import CloseReason
from wlproxy.relay import quotas
from wlproxy.relay.inputs import CompositorClosed, SessionEnded
from wlproxy.relay.quotas import Quotas, Shares


def test_a_client_that_is_gone_has_nothing() -> None:
    whole = Quotas(1 << 20)
    shares = Shares(whole)
    assert shares.located_bytes.take(1 << 20)
    assert not shares.located_bytes.take(1)
    assert shares.locations.take(quotas.MAX_LOCATIONS)
    assert shares.copy_bytes.take(quotas.MAX_COPY_BYTES)

    shares.close()

    again = Shares(whole)
    assert again.locations.take(quotas.MAX_LOCATIONS)
    assert again.located_bytes.take(1 << 20)
    assert again.copy_bytes.take(quotas.MAX_COPY_BYTES)


def test_buffers_of_the_same_pages_cannot_fill_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.relay.shell.RAM_PAGES", 64)
    play = Stage(ONLY_SHM)
    pool = play.pool(play.shm, 40 * PAGE)
    for first in range(4):  # each a range of its own, 20 pages long
        buffer = play.buffer(pool, first * PAGE, 1024, 20, PAGE)
        play.show(play.new_surface(), buffer)

    assert play.app.error is None
    assert len(play.shell.pins) == 3
    assert [status.mode for status in play.relay.surfaces()] == ["none", *"AAA", "none"]


@pytest.mark.parametrize("how", ["leaves", "errs", "compositor", "session"])
def test_what_a_client_took_is_free_when_it_ends(how: str) -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers(1)
    play.show(play.surface, one)
    relay = play.relay
    assert relay.holdings().used["locations"] == 1

    if how == "leaves":
        play.leave()
    elif how == "errs":
        play.app.request(play.surface, "attach", 99, 0, 0)
    elif how == "compositor":
        relay.receive(CompositorClosed(1, "gone"))
    else:
        relay.receive(SessionEnded(CloseReason.NORMAL, "over"))

    assert not any(relay.holdings().used.values())
    assert not relay.holdings().clients


def test_a_process_of_few_fds_has_fewer_locations() -> None:
    shares = Shares(Quotas(1 << 20, fds=100))

    assert shares.locations.take(100 // quotas.FDS_PER_LOCATION)
    assert not shares.locations.take(1)
