"""Times in messages: which there are, and what becomes of them."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.inputs import ClockSample
from wlproxy.relay.wire.clock import GuestClock
from wlproxy.relay.wire.timestamps import (
    CLOCK_MONOTONIC,
    EVENT_TIMES,
    FRAME_CALLBACK,
    REQUEST_TIMES,
    TimeField,
    Unit,
    event_time,
)

DURATIONS = {"timeout"}
NO_TIMES = {"timeline", "lifetime"}
UNITS = {
    "time": {Unit.MILLISECONDS},
    "utime_hi": {Unit.MICROSECONDS},
    "tv_sec_hi": {Unit.TIMESPEC, Unit.PRESENTATION},
}
REST = {"utime_lo", "tv_sec_lo", "tv_nsec"}
SECOND = 10**9


def named_times(side: str) -> Iterator[tuple[tuple[str, str], int, str]]:
    """Every argument that is a time by its name, in the protocols' own words."""
    for interface in INTERFACES.values():
        for message in getattr(interface, side):
            for index, arg in enumerate(message.args):
                if not arg.is_id and ("time" in arg.name or "tv_" in arg.name):
                    yield (interface.name, message.name), index, arg.name


@pytest.mark.parametrize(
    ("side", "rows"), [("events", EVENT_TIMES), ("requests", REQUEST_TIMES)]
)
def test_every_time_that_a_protocol_names_is_translated(
    side: str, rows: dict[tuple[str, str], tuple[int, Unit]]
) -> None:
    seen = {("wl_callback", "done")} if side == "events" else set()  # no telling name
    for key, index, name in named_times(side):
        if name in DURATIONS | NO_TIMES | REST:
            continue
        assert key in rows, f"{key} has {name}"
        where, unit = rows[key]
        assert where == index
        assert unit in UNITS[name]
        seen.add(key)

    assert len(seen) > 1
    assert seen == set(rows)


def field(interface: str, event: str) -> TimeField:
    found = event_time(INTERFACES[interface].event(event))
    assert found is not None
    return found


def clock(offset: int) -> GuestClock:
    known = GuestClock()
    known.measure(ClockSample(0, offset, 0))
    assert known.offset == offset
    return known


def shifted(
    found: TimeField, *words: int, by: int, role: object = None, presentation: int = 1
) -> tuple[int, ...]:
    """Translate what begins with these arguments."""
    data = bytearray(struct.pack(f"=II{len(words)}I", 1, 2, *words))
    found.to_guest(data, 0, clock(by), role, presentation)
    return struct.unpack_from(f"={len(words)}I", data, 8)


@pytest.mark.parametrize(
    ("time", "by", "seen"),
    [
        (1000, 5 * SECOND, 6000),
        (1000, 999_999, 1000),  # rounded down: not yet to come
        (1000, SECOND + 999_999, 2000),
        (0xFFFFFFFF, 1_000_000, 0),
        (1, 86400 * 100 * SECOND, (1 + 86400 * 100 * 1000) & 0xFFFFFFFF),
        (0, 5 * SECOND, 0),
    ],
)
def test_milliseconds(time: int, by: int, seen: int) -> None:
    assert shifted(field("wl_pointer", "motion"), time, 7, 8, by=by) == (seen, 7, 8)
    assert shifted(field("wl_keyboard", "key"), 9, time, 8, 7, by=by) == (9, seen, 8, 7)


def test_a_callback_tells_a_time_only_if_it_is_of_a_frame() -> None:
    done = field("wl_callback", "done")

    assert shifted(done, 1000, by=SECOND) == (1000,)
    assert shifted(done, 1000, by=SECOND, role=FRAME_CALLBACK) == (2000,)


def test_microseconds_are_64_bits() -> None:
    motion = field("zwp_relative_pointer_v1", "relative_motion")

    assert shifted(motion, 0, 0xFFFFFFFF, 5, by=1999) == (1, 0, 5)
    assert shifted(motion, 0, 0, 5, by=SECOND) == (0, 0, 5)


@pytest.mark.parametrize(
    ("time", "by", "seen"),
    [
        ((0, 5, 7), 3 * SECOND, (0, 8, 7)),
        ((0, 0xFFFFFFFF, 999_999_999), 1, (1, 0, 0)),
        ((0xFFFFFFFF, 0xFFFFFFFF, 0), 5 * SECOND, (0xFFFFFFFF, 0xFFFFFFFF, 999999999)),
        ((0, 0, 0), 5 * SECOND, (0, 0, 0)),
        ((0, 1, 10**9), 5 * SECOND, (0, 1, 10**9)),  # the compositor will complain
    ],
)
def test_seconds_and_nanoseconds(
    time: tuple[int, int, int], by: int, seen: tuple[int, int, int]
) -> None:
    for found in (
        field("zwp_input_timestamps_v1", "timestamp"),
        field("wp_presentation_feedback", "presented"),
    ):
        assert shifted(found, *time, 4, by=by) == (*seen, 4)


def test_presentation_times_of_another_clock_stay_as_they_are() -> None:
    presented = field("wp_presentation_feedback", "presented")
    timestamp = field("zwp_input_timestamps_v1", "timestamp")

    assert shifted(presented, 0, 5, 7, by=SECOND, presentation=7) == (0, 5, 7)
    assert shifted(timestamp, 0, 5, 7, by=SECOND, presentation=7) == (0, 6, 7)


@given(
    st.sampled_from(sorted(EVENT_TIMES)),
    st.integers(1, 1 << 62),
    st.lists(st.integers(0, 0xFFFFFFFF), min_size=4, max_size=4),
)
def test_there_and_back_is_where_it_was(
    key: tuple[str, str], by: int, words: list[int]
) -> None:
    found, known = field(*key), clock(by)
    words[2] %= 10**9
    words[0] %= 1 << 31
    data = bytearray(struct.pack("=II4I", 1, 2, *words))
    before = bytes(data)

    found.to_guest(data, 0, known, FRAME_CALLBACK, CLOCK_MONOTONIC)
    if struct.unpack_from("=I", data, found.offset)[0] or found.unit not in (
        Unit.MILLISECONDS,
        Unit.FRAME,
    ):
        found.to_host(data, known, CLOCK_MONOTONIC)
        assert data == before


@pytest.mark.parametrize("key", sorted(EVENT_TIMES))
def test_a_message_that_is_too_short_is_left_for_others_to_refuse(
    key: tuple[str, str],
) -> None:
    found = field(*key)
    for size in range(8, found.end):
        data = bytearray(b"\1" * size)
        found.to_guest(data, 0, clock(SECOND), FRAME_CALLBACK, CLOCK_MONOTONIC)
        assert data == b"\1" * size
