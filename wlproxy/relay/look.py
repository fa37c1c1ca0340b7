"""How the windows of a VM are framed: a colour, how wide, and a label.

Values only.  What a frame is made of is `relay.frame`'s; pixels of a label are made by who has
fonts (`host.frame_label`).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

WIDTH: Final = 5
"""How wide a frame is, in pixels of surfaces."""

UNFRAMED: Final = frozenset(
    {
        *("_wl_fullscreen_shell", "ext_session_lock_manager_v1"),
        *("kde_lockscreen_overlay_v1", "org_kde_plasma_shell", "wl_shell"),
        *("xwayland_shell_v1", "zwlr_layer_shell_v1", "zwp_fullscreen_shell_v1"),
        *("zwp_input_panel_v1", "zxdg_shell_v6"),
    }
)
"""Globals that make windows which we cannot frame."""

COLOURS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "black": 0x000000,
        "blue": 0x1D5FBF,
        "gray": 0x808080,
        "green": 0x2E9E3F,
        "orange": 0xF07C1A,
        "purple": 0x8A3FB5,
        "red": 0xD1261B,
        "yellow": 0xE8C511,
    }
)
"""Names for colours that are told apart well."""

_HEX: Final = re.compile(r"#([0-9a-fA-F]{6})")


@dataclass(frozen=True, slots=True)
class Label:
    """A text as a picture, twice as large as it is shown.

    Attributes:
        width: pixels of the picture.
        height: pixels of the picture.
        pixels: rows of XRGB8888 as in `wl_shm`, with no padding.
    """

    width: int
    height: int
    pixels: bytes

    @property
    def shown_height(self) -> int:
        """How high it is shown, in pixels of surfaces."""
        return self.height // 2


@dataclass(frozen=True, slots=True)
class WindowFrame:
    """How a VM's windows are framed.

    Attributes:
        colour: red, green and blue, 8 bits each.
        width: pixels of surfaces; the upper side may be wider, for the label.
        label: what is written there, if anything.
    """

    colour: int
    width: int = WIDTH
    label: Label | None = None

    @property
    def top(self) -> int:
        """How wide the upper side is, in pixels of surfaces."""
        return max(self.width, self.label.shown_height if self.label else 0)


def check_framed(allow: Collection[str]) -> None:
    """Check that all windows that a policy allows can be framed.

    Args:
        allow: the globals that it allows beside the default ones.

    Raises:
        ValueError: some cannot.
    """
    if unframed := sorted(UNFRAMED.intersection(allow)):
        raise ValueError(
            f"windows are framed, and {unframed[0]} makes some that no frame is drawn around"
        )


def parse_colour(text: str) -> int:
    """Read a colour: a name, or `#rrggbb`.

    Returns:
        Red, green and blue, 8 bits each.

    Raises:
        ValueError: it is neither.
    """
    if (known := COLOURS.get(text.lower())) is not None:
        return known
    if found := _HEX.fullmatch(text):
        return int(found[1], 16)
    names = ", ".join(COLOURS)
    raise ValueError(f"{text!r} is no colour: write #rrggbb, or one of {names}")
