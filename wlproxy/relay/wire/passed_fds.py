"""What the fds in messages are for.

The message says so, whatever is passed: a paste goes into the app's standard output, be
it a pipe, a file, a terminal or /dev/null.  Only for a message that is not listed here does
the fd itself have to tell.  How an fd is carried then is `forwarding`'s; fds that filters take
(pools, dma-bufs) never get there.  Whether a guest sees the interface at all is `policy`'s.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class Purpose(Enum):
    """What whoever is given an fd does with it."""

    WRITTEN = "written"
    """Writes to it, until it is done."""
    CONTENTS = "contents"
    """Maps or reads it as a file: a keymap, a table."""
    UNSAID = "unsaid"
    """We do not know: a pipe is carried as it is open, a file as contents."""


PURPOSES: Final[Mapping[tuple[str, str], Purpose]] = MappingProxyType(
    {
        ("ext_data_control_offer_v1", "receive"): Purpose.WRITTEN,
        ("ext_data_control_source_v1", "send"): Purpose.WRITTEN,
        ("gtk_primary_selection_offer", "receive"): Purpose.WRITTEN,
        ("gtk_primary_selection_source", "send"): Purpose.WRITTEN,
        ("org_kde_plasma_window", "get_icon"): Purpose.WRITTEN,
        ("wl_data_offer", "receive"): Purpose.WRITTEN,
        ("wl_data_source", "send"): Purpose.WRITTEN,
        ("wl_keyboard", "keymap"): Purpose.CONTENTS,
        ("wp_image_description_info_v1", "icc_file"): Purpose.CONTENTS,
        ("zwlr_data_control_offer_v1", "receive"): Purpose.WRITTEN,
        ("zwlr_data_control_source_v1", "send"): Purpose.WRITTEN,
        ("zwp_input_method_keyboard_grab_v2", "keymap"): Purpose.CONTENTS,
        ("zwp_linux_dmabuf_feedback_v1", "format_table"): Purpose.CONTENTS,
        ("zwp_primary_selection_offer_v1", "receive"): Purpose.WRITTEN,
        ("zwp_primary_selection_source_v1", "send"): Purpose.WRITTEN,
    }
)
"""(interface, message) to what its fd is for.

Not here, because they cannot be carried: devices, leases and fences of the host; keymaps of
virtual keyboards; the sockets of security contexts.  What could pass them is denied
(`relay.verdicts`).  What a file of the guest's becomes that the compositor would map is
`filters.colour`'s to say.
"""


def purpose_of(interface: str, message: str) -> Purpose:
    """Look it up."""
    return PURPOSES.get((interface, message), Purpose.UNSAID)
