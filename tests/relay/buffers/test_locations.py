"""Locations: what a hostile agent says about pages, and what it costs whom."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relay.playbook import ZERO_COPY, Stage
from tests.relay.shell import PAGE, RAM_PAGES, RAM_START, guest_memory
from wlproxy.memory.guest_memory import ExtentError
from wlproxy.protocol.channel.frames import Extent, Located, LocateStatus
from wlproxy.protocol.errors import ChannelError, RemoteProtocolError
from wlproxy.relay.buffers.locations import Locations
from wlproxy.relay.quotas import Quotas, Shares
from wlproxy.relay.wire.context import Context, RelayConfig, Shared

END = RAM_START + RAM_PAGES * PAGE


def asked() -> Stage:
    """A stage on which five pages have been asked for."""
    play = Stage()
    play.holds_locate = True
    (buffer,) = play.buffers(1)
    play.show(play.surface, buffer)
    assert [(frame.offset, frame.length) for frame in play.locates] == [(256, 16384)]
    return play


def located(
    *extents: tuple[int, int], more: bool = False, location: int = 1
) -> Located:
    values = tuple(Extent(gpa, length) for gpa, length in extents)
    return Located(1, location, LocateStatus.OK, 0, more, values)


@pytest.mark.parametrize(
    "extents",
    [
        [(0, 5 * PAGE)],
        [(END - 4 * PAGE, 5 * PAGE)],
        [(END, 5 * PAGE)],
        [((1 << 64) - PAGE, 5 * PAGE)],
        [(RAM_START + 1, 5 * PAGE)],
        [(RAM_START, 5 * PAGE + 1)],
        [(RAM_START, 4 * PAGE)],
        [(RAM_START, 6 * PAGE)],
        [(RAM_START, 0), (RAM_START, 5 * PAGE)],
        [(RAM_START, 3 * PAGE), (RAM_START + 2 * PAGE, 2 * PAGE)],
        [(RAM_START + index * PAGE, PAGE) for index in range(6)],
        [(RAM_START, 1 << 63)],
    ],
)
def test_extents_that_end_the_session(extents: list[tuple[int, int]]) -> None:
    play = asked()

    with pytest.raises(ExtentError):
        play.relay.receive(located(*extents))


@pytest.mark.parametrize("location", [0, 2, 0xFFFFFFFF])
def test_an_answer_that_nobody_asked_for(location: int) -> None:
    play = asked()

    with pytest.raises(ChannelError, match="not asked for"):
        play.relay.receive(located((RAM_START, 5 * PAGE), location=location))


def test_a_second_answer() -> None:
    play = asked()
    play.run(play.relay.receive(located((RAM_START, 5 * PAGE))))

    with pytest.raises(ChannelError, match="not asked for"):
        play.relay.receive(located((RAM_START, 5 * PAGE)))


def test_a_million_extents() -> None:
    play = asked()
    part = located((RAM_START, PAGE), more=True)

    for _ in range(4):
        assert play.relay.receive(part) == []
    with pytest.raises(ChannelError, match="more extents than the 5 pages"):
        play.relay.receive(part)


def test_an_answer_in_parts() -> None:
    play = asked()

    play.run(play.relay.receive(located((RAM_START + 5 * PAGE, PAGE), more=True)))
    play.run(play.relay.receive(located((RAM_START + 3 * PAGE, PAGE), more=True)))
    play.run(play.relay.receive(located((RAM_START + 6 * PAGE, 3 * PAGE))))

    (items,) = play.shell.udmabufs.values()
    runs = [(item.offset // PAGE, item.length // PAGE) for item in items]
    assert runs == [(5, 1), (3, 1), (6, 3)]


def test_a_failure_in_the_middle() -> None:
    play = asked()
    play.run(play.relay.receive(located((RAM_START, PAGE), more=True)))

    failed = Located(1, 1, LocateStatus.FAILED, 12, False, ())
    play.run(play.relay.receive(failed))

    assert play.app.error is None
    assert "FAILED (errno 12)" in play.reason


def test_what_the_host_cannot_map_is_made_contiguous_first() -> None:
    play = asked()

    assert play.locates[0].collapse_above == 1024


def test_what_failed_is_asked_for_anew() -> None:
    shared = Shared(RelayConfig(), guest_memory(), Quotas(1 << 30))
    shares = Shares(shared.quotas)
    locations = Locations(Context(1, "app(1)", shared, ZERO_COPY, shares))
    memory = locations.use_memory(1)
    locations.acquire(memory, 256, 16384)
    failed = locations.receive(Located(1, 1, LocateStatus.FAILED, 12, False, ()))

    again = locations.acquire(memory, 256, 16384)
    assert again is not None
    locations.release(failed)

    assert (failed.location_id, again.location_id) == (1, 2)
    assert locations.acquire(memory, 256, 16384) is again
    assert len(locations) == 1


words = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, RAM_PAGES + 300).map(lambda page: page * PAGE),
)
frames = st.builds(
    Located,
    st.just(1),
    st.integers(0, 3),
    st.sampled_from(LocateStatus),
    st.integers(0, 200),
    st.booleans(),
    st.lists(st.builds(Extent, words, words), max_size=7).map(tuple),
)


@settings(max_examples=60)
@given(frames=st.lists(frames, max_size=4))
def test_whatever_an_agent_says_is_taken_or_refused(frames: list[Located]) -> None:
    play = asked()
    for frame in frames:
        try:
            play.run(play.relay.receive(frame))
        except RemoteProtocolError:
            break
    for items in play.shell.udmabufs.values():
        assert sum(item.length for item in items) == 5 * PAGE
        for item in items:
            assert 0 <= item.offset <= item.offset + item.length <= RAM_PAGES * PAGE
