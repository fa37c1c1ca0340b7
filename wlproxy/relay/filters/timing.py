"""Presentation times: remembers which clock they are from.

`relay.wire.timestamps` translates the times.  This module tells it the clock, and decides what
becomes of a time that cannot be translated.
"""

from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request
from wlproxy.relay.wire.timestamps import CLOCK_MONOTONIC


def note_clock(state: ClientState, event: Event) -> None:
    """`wp_presentation.clock_id`: the same for all windows of a compositor."""
    state.context.presentation_clock = event.integer("clk_id")
    state.forward_event(event.object, event.spec, event.raw)


def set_timestamp(state: ClientState, request: Request) -> None:
    """`wp_commit_timer_v1.set_timestamp`: a frame is not held back by a wrong clock.

    A time of a clock that we do not know in the guest means nothing to the compositor:
    the frame is shown when it comes.
    """
    context = state.context
    if context.presentation_clock == CLOCK_MONOTONIC:
        state.forward(request)
        return
    message = f"{request.object!r}: no time of clock {context.presentation_clock}"
    context.debug(message)
