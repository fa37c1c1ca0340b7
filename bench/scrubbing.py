"""Takes out of what was said whatever may say something about a person.

Strings become filler of the same length, but for the names of interfaces, app ids and MIME
types; so do titles, the names of devices and outputs, tokens and what is typed.  Which key was
pressed is taken out, too.  Numbers, sizes and times stay.
"""

from typing import Final

from bench.conversation import Said
from wlproxy.protocol.wayland.interface import ArgKind
from wlproxy.protocol.wayland.message import ArgValue

KEPT: Final = frozenset(
    {
        ("wl_registry", "global", "interface"),
        ("xdg_toplevel", "set_app_id", "app_id"),
        ("wl_data_offer", "accept", "mime_type"),
        ("wl_data_offer", "offer", "mime_type"),
        ("wl_data_offer", "receive", "mime_type"),
        ("wl_data_source", "offer", "mime_type"),
        ("wl_data_source", "send", "mime_type"),
        ("wl_data_source", "target", "mime_type"),
        ("zwp_primary_selection_offer_v1", "offer", "mime_type"),
        ("zwp_primary_selection_offer_v1", "receive", "mime_type"),
        ("zwp_primary_selection_source_v1", "offer", "mime_type"),
        ("zwp_primary_selection_source_v1", "send", "mime_type"),
    }
)
"""Strings that stay as they are."""

KEYS: Final = frozenset(
    {("wl_keyboard", "enter", "keys"), ("wl_keyboard", "key", "key")}
)
"""Which keys are down."""

FILLER: Final = b"x"
A_KEY: Final = 30


def scrub(said: Said) -> None:
    """Take it out of one message, in place; its length stays."""
    for place, arg in enumerate(said.spec.args):
        path = (*said.title, arg.name)
        if path in KEYS:
            said.args[place] = _other_keys(said.args[place])
        elif arg.kind is ArgKind.STRING and path not in KEPT:
            value = said.args[place]
            if isinstance(value, bytes):
                said.args[place] = FILLER * len(value)


def _other_keys(value: ArgValue) -> ArgValue:
    return bytes(len(value)) if isinstance(value, bytes) else A_KEY
