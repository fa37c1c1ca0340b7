"""How the windows of a VM are framed: a colour, how wide, and a label.

Values only.  What a frame is made of is `relay.frame`'s; pixels of a label are made by who has
fonts (`host.frame_label`).
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final
from zlib import crc32

WIDTH: Final = 5
"""How wide a frame is, in pixels of surfaces."""

POPUP_WIDTH: Final = 2
"""How wide a frame around a menu or a tooltip is at most, likewise."""

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

CHOSEN: Final = ("blue", "green", "orange", "purple", "red", "yellow")
"""Those that VMs are given which have none; black and gray are too easily overlooked."""

NEEDED: Final = ("wl_subcompositor", "wp_viewporter")
"""Globals that frames are made with, and that a compositor may lack."""

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
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.width, self.height

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
        asked: somebody asked for it: where the compositor lacks what it is made with, a window
            is not shown.  Otherwise it is shown without.
    """

    colour: int
    width: int = WIDTH
    label: Label | None = None
    asked: bool = field(default=True, compare=False)

    @property
    def top(self) -> int:
        """How wide the upper side is, in pixels of surfaces."""
        return max(self.width, self.label.shown_height if self.label else 0)

    def repainted(self, other: "WindowFrame | None") -> "WindowFrame":
        """Return what a window that is framed like this can take on of another look: its colour.

        The width is what the app was told sizes by, and is not another one while it runs; nor is
        the label's, whose picture has the colour as well.
        """
        if other is None:
            return self
        if self.label is None:
            return replace(self, colour=other.colour)
        theirs = other.label
        if theirs is None or theirs.size != self.label.size:
            return self
        return replace(self, colour=other.colour, label=theirs)


@dataclass(frozen=True, slots=True)
class Colour:
    """What somebody says of the colour of frames.

    Attributes:
        written: a colour, or a word.
        rgb: red, green and blue, 8 bits each; None: there is no frame.
        asked: somebody wrote it; or else it was chosen for want of one.
    """

    written: str
    rgb: int | None = None
    asked: bool = True


AUTO: Final = Colour("auto")
"""One is chosen where VMs are to be told apart."""

OFF: Final = Colour("off")


def read_colour(text: str) -> Colour:
    """Read what somebody says: as `parse_colour`, or `auto`, or `off`.

    Raises:
        ValueError: it is none of these.
    """
    for word in (AUTO, OFF):
        if text == word.written:
            return word
    return Colour(text, parse_colour(text))


def choose_colours(said: Mapping[str, Colour]) -> dict[str, Colour]:
    """Choose a colour for each VM of several that has none.

    It depends on the VM's name, so that few have another one when VMs come or go; two have the
    same only when there are more than colours.

    Args:
        said: the VMs, in an order in which new ones are last, and their colours.
    """
    taken = {colour.rgb for colour in said.values()}
    chosen: dict[str, Colour] = {}
    for name, colour in said.items():
        if colour != AUTO:
            continue
        first = crc32(name.encode()) % len(CHOSEN)
        order = CHOSEN[first:] + CHOSEN[:first]
        free = [each for each in order if COLOURS[each] not in taken]
        best = (free or order)[0]
        taken.add(COLOURS[best])
        chosen[name] = Colour(best, COLOURS[best], asked=False)
    return chosen


def unframed_by(allow: Collection[str]) -> str | None:
    """Name a global that makes windows which cannot be framed, if a policy allows one.

    Args:
        allow: the globals that it allows beside the default ones.
    """
    return min(UNFRAMED.intersection(allow), default=None)


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
