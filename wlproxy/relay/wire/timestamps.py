"""Times in messages: from the host's clock to the guest's, and back.

One row per message that has one, in place, in the bytes, as it passes.  Times are of
CLOCK_MONOTONIC: the protocols leave open of which clock the times of input are, but all
compositors take the kernel's, and apps compare them with their own.  What is only a
duration is not here.  0 stays 0: compositors that do not know a time send that.

Until the offset is known, times pass as they are (`relay.wire.clock`).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from wlproxy.protocol.wayland.interface import HEADER_SIZE, MessageSpec
from wlproxy.relay.wire.clock import GuestClock

CLOCK_MONOTONIC: Final = 1
"""The number of the clock in `wp_presentation.clock_id`, as in clock_gettime(2)."""

_SECOND: Final = 1_000_000_000
_END: Final = 1 << 64

_U32: Final = struct.Struct("=I")
_U32X2: Final = struct.Struct("=II")
_U32X3: Final = struct.Struct("=III")


@dataclass(frozen=True, slots=True)
class FrameCallback:
    """The role of a `wl_callback` whose `done` tells a time: others tell something else."""


FRAME_CALLBACK: Final = FrameCallback()


class Unit(Enum):
    """How a message says a time."""

    MILLISECONDS = "ms"
    """32 bits, which wrap around."""
    MICROSECONDS = "us"
    """64 bits, the high ones first."""
    TIMESPEC = "timespec"
    """64 bits of seconds, the high ones first, and nanoseconds."""
    PRESENTATION = "presentation"
    """A TIMESPEC of the clock that `wp_presentation.clock_id` names."""
    FRAME = "frame"
    """MILLISECONDS, if the object is a FrameCallback."""


# Looking a member up in its class takes as long as translating a time.
MS, US, TS, FRAME = Unit.MILLISECONDS, Unit.MICROSECONDS, Unit.TIMESPEC, Unit.FRAME

EVENT_TIMES: Final[Mapping[tuple[str, str], tuple[int, Unit]]] = {
    ("ext_image_copy_capture_frame_v1", "presentation_time"): (0, Unit.PRESENTATION),
    ("wl_callback", "done"): (0, FRAME),
    ("wl_data_device", "motion"): (0, MS),
    ("wl_keyboard", "key"): (1, MS),
    ("wl_pointer", "axis"): (0, MS),
    ("wl_pointer", "axis_stop"): (0, MS),
    ("wl_pointer", "button"): (1, MS),
    ("wl_pointer", "motion"): (0, MS),
    ("wl_touch", "down"): (1, MS),
    ("wl_touch", "motion"): (0, MS),
    ("wl_text_input", "keysym"): (1, MS),
    ("wl_touch", "up"): (1, MS),
    ("wp_presentation_feedback", "presented"): (0, Unit.PRESENTATION),
    ("zwlr_export_dmabuf_frame_v1", "ready"): (0, Unit.PRESENTATION),
    ("zwlr_screencopy_frame_v1", "ready"): (0, Unit.PRESENTATION),
    ("zwp_input_method_keyboard_grab_v2", "key"): (1, MS),
    ("zwp_input_timestamps_v1", "timestamp"): (0, TS),
    ("zwp_pointer_gesture_hold_v1", "begin"): (1, MS),
    ("zwp_pointer_gesture_hold_v1", "end"): (1, MS),
    ("zwp_pointer_gesture_pinch_v1", "begin"): (1, MS),
    ("zwp_pointer_gesture_pinch_v1", "end"): (1, MS),
    ("zwp_pointer_gesture_pinch_v1", "update"): (0, MS),
    ("zwp_pointer_gesture_swipe_v1", "begin"): (1, MS),
    ("zwp_pointer_gesture_swipe_v1", "end"): (1, MS),
    ("zwp_pointer_gesture_swipe_v1", "update"): (0, MS),
    ("zwp_relative_pointer_v1", "relative_motion"): (0, US),
    ("zwp_tablet_pad_dial_v2", "frame"): (0, MS),
    ("zwp_tablet_pad_group_v2", "mode_switch"): (0, MS),
    ("zwp_tablet_pad_ring_v2", "frame"): (0, MS),
    ("zwp_tablet_pad_strip_v2", "frame"): (0, MS),
    ("zwp_tablet_pad_v2", "button"): (0, MS),
    ("zwp_tablet_tool_v1", "frame"): (0, MS),
    ("zwp_tablet_tool_v2", "frame"): (0, MS),
    ("zwp_text_input_v1", "keysym"): (1, MS),
    ("zwp_text_input_v2", "keysym"): (0, MS),
}
"""(interface, event) to the index of the time's first argument, and its unit."""

REQUEST_TIMES: Final[Mapping[tuple[str, str], tuple[int, Unit]]] = {
    ("wp_commit_timer_v1", "set_timestamp"): (0, Unit.PRESENTATION),
    ("zwlr_virtual_pointer_v1", "axis"): (0, MS),
    ("zwlr_virtual_pointer_v1", "axis_discrete"): (0, MS),
    ("zwlr_virtual_pointer_v1", "axis_stop"): (0, MS),
    ("zwlr_virtual_pointer_v1", "button"): (0, MS),
    ("zwlr_virtual_pointer_v1", "motion"): (0, MS),
    ("zwlr_virtual_pointer_v1", "motion_absolute"): (0, MS),
    ("zwp_input_method_context_v1", "key"): (1, MS),
    ("zwp_input_method_context_v1", "keysym"): (1, MS),
    ("zwp_virtual_keyboard_v1", "key"): (0, MS),
}
"""The same for requests."""


@dataclass(frozen=True, slots=True)
class TimeField:
    """Where a message has a time.

    Attributes:
        offset: of its first byte, in a whole message.
        end: after its last.
        unit: how it is said.
    """

    offset: int
    end: int
    unit: Unit

    def to_guest(
        self,
        data: bytearray,
        start: int,
        clock: GuestClock,
        role: object,
        presentation: int,
    ) -> None:
        """Translate an event's time in place.

        Args:
            data: has the whole message; one that is too short is for others to refuse.
            start: of the message.
            clock: the guest's.
            role: of the object that the event is about.
            presentation: the clock that `wp_presentation` names.
        """
        if self.unit is FRAME and not isinstance(role, FrameCallback):
            return
        self._shift(data, start, clock, presentation, 1)

    def to_host(self, data: bytearray, clock: GuestClock, presentation: int) -> None:
        """Translate a request's time in place; otherwise as `to_guest`."""
        self._shift(data, 0, clock, presentation, -1)

    def _shift(
        self,
        data: bytearray,
        start: int,
        clock: GuestClock,
        presentation: int,
        sign: int,
    ) -> None:
        if len(data) < start + self.end:
            return
        offset = start + self.offset
        unit = self.unit
        if unit is MS or unit is FRAME:
            (time,) = _U32.unpack_from(data, offset)
            if time:
                time += sign * clock.milliseconds
                _U32.pack_into(data, offset, time & 0xFFFFFFFF)
        elif unit is US:
            high, low = _U32X2.unpack_from(data, offset)
            if time := high << 32 | low:
                time = (time + sign * clock.microseconds) % _END
                _U32X2.pack_into(data, offset, time >> 32, time & 0xFFFFFFFF)
        elif unit is TS or presentation == CLOCK_MONOTONIC:
            _shift_timespec(data, offset, sign * clock.offset)


def _shift_timespec(data: bytearray, offset: int, by: int) -> None:
    high, low, nanoseconds = _U32X3.unpack_from(data, offset)
    # Too many nanoseconds are an error of the app's, which the compositor will name.
    if nanoseconds >= _SECOND or not high | low | nanoseconds:
        return
    time = (high << 32 | low) * _SECOND + nanoseconds + by
    seconds, nanoseconds = divmod(min(max(time, 0), _END * _SECOND - 1), _SECOND)
    _U32X3.pack_into(data, offset, seconds >> 32, seconds & 0xFFFFFFFF, nanoseconds)


_SIZES: Final = {Unit.MICROSECONDS: 8, Unit.TIMESPEC: 12, Unit.PRESENTATION: 12}


def event_time(spec: MessageSpec) -> TimeField | None:
    """Say where an event has a time; None if it has none."""
    return _field(spec, EVENT_TIMES)


def request_time(spec: MessageSpec) -> TimeField | None:
    """Say where a request has a time; None if it has none."""
    return _field(spec, REQUEST_TIMES)


def _field(
    spec: MessageSpec, times: Mapping[tuple[str, str], tuple[int, Unit]]
) -> TimeField | None:
    if (row := times.get((spec.interface, spec.name))) is None:
        return None
    index, unit = row
    sizes = [arg.wire_size for arg in spec.args[:index]]
    assert None not in sizes, f"{spec}: its time is not at one place"
    offset = HEADER_SIZE + sum(size or 0 for size in sizes)
    return TimeField(offset, offset + _SIZES.get(unit, 4), unit)
