"""Colour management: no profile in a file of the guest's, since none can be carried.

`wp_image_description_creator_icc_v1.set_icc_file` passes a file that the compositor maps.  The
feature that says so is not passed on, so that apps describe colours by numbers instead, as
nearly all do.  A profile of the host's goes to the guest as any file does (`wire.passed_fds`).
"""

from typing import Final

from wlproxy.relay.state import ClientState
from wlproxy.relay.wire.forwarding import Event, Request

FEATURE_ICC: Final = 0
"""`icc_v2_v4` of wp_color_manager_v1.feature: `create_icc_creator` may be sent."""

UNSUPPORTED_FEATURE: Final = 0
"""The code of wp_color_manager_v1.error that goes with it."""


def offer_feature(state: ClientState, event: Event) -> None:
    """`wp_color_manager_v1.supported_feature`: all but profiles."""
    if event.integer("feature") != FEATURE_ICC:
        state.forward_event(event.object, event.spec, event.raw)


def create_icc_creator(_state: ClientState, request: Request) -> None:
    """`wp_color_manager_v1.create_icc_creator`: an error, as where there is no such feature.

    Raises:
        WaylandError: always.
    """
    raise request.error(UNSUPPORTED_FEATURE, "ICC profiles are not supported")
