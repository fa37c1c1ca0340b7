"""What is known of sources, offers and devices: what they are for, and what was told of them.

What follows of it, `relay.filters.selections` has.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from wlproxy.relay.ownership import Follower

CLIPBOARD, PRIMARY, DRAG = "clipboard", "primary", "drag"
"""What something is offered for, by the names that `Policy` has for it."""

SELECTION_USES: Final[Mapping[tuple[str, str], str]] = {
    ("ext_data_control_device_v1", "primary_selection"): PRIMARY,
    ("ext_data_control_device_v1", "selection"): CLIPBOARD,
    ("ext_data_control_device_v1", "set_primary_selection"): PRIMARY,
    ("ext_data_control_device_v1", "set_selection"): CLIPBOARD,
    ("gtk_primary_selection_device", "selection"): PRIMARY,
    ("gtk_primary_selection_device", "set_selection"): PRIMARY,
    ("wl_data_device", "selection"): CLIPBOARD,
    ("wl_data_device", "set_selection"): CLIPBOARD,
    ("zwlr_data_control_device_v1", "primary_selection"): PRIMARY,
    ("zwlr_data_control_device_v1", "selection"): CLIPBOARD,
    ("zwlr_data_control_device_v1", "set_primary_selection"): PRIMARY,
    ("zwlr_data_control_device_v1", "set_selection"): CLIPBOARD,
    ("zwp_primary_selection_device_v1", "selection"): PRIMARY,
    ("zwp_primary_selection_device_v1", "set_selection"): PRIMARY,
}
"""(interface, message) that makes a selection of something, to which."""

SOURCES: Final = frozenset(
    {
        "ext_data_control_source_v1",
        "gtk_primary_selection_source",
        "wl_data_source",
        "zwlr_data_control_source_v1",
        "zwp_primary_selection_source_v1",
    }
)
"""Interfaces of what is offered."""


@dataclass(slots=True, eq=False)
class Source:
    """What an app offers.

    Attributes:
        types: what the compositor is yet to be told.
        told: how many it was told.
        use: what it is; empty: that is not known yet, and the compositor knows no type of it.
        shown: the user was asked about it: it has no types but those that they were told of.
        cancelled: it was set, and the compositor has not heard of it.
    """

    types: list[bytes] = field(default_factory=list)
    told: int = 0
    use: str = ""
    shown: bool = False
    cancelled: bool = False


@dataclass(slots=True, eq=False)
class Offer:
    """What the compositor offers.

    Attributes:
        types: what the app is yet to be told.
        told: how many it was told.
        use: what it is; empty: that is not known yet, and the app knows nothing of it.
        actions: what its source would do with it, as it said before the app knew it.
        seat: where it is offered.
        count: what its mark counts, if this VM has copied it.
    """

    types: list[bytes] = field(default_factory=list)
    told: int = 0
    use: str = ""
    actions: int | None = None
    seat: int | None = None
    count: int | None = None


@dataclass(slots=True, eq=False)
class DataDevice:
    """What an app has been told by a device.

    Attributes:
        shown: selections that it has, or was last told that there are none.
        told: those of which it was told anything.
        hides: a drag is above its window of which it knows nothing.
        follower: what it knows if it is a clipboard manager's.
    """

    shown: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    hides: bool = False
    follower: Follower = field(default_factory=Follower)
