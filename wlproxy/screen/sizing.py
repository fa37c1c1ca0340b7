"""How large the window is: what the compositor wants, and what the guest has.

A guest that can is asked for a screen as large as the window; what it has is scaled meanwhile, and for
ever if it cannot.  A window that nobody made larger follows the guest.
"""

import struct
from typing import Final

MAXIMIZED, FULLSCREEN = 1, 2
_FIRM: Final = frozenset({MAXIMIZED, FULLSCREEN, 5, 6, 7, 8})
"""`xdg_toplevel.state`: maximized, fullscreen, tiled on some side."""

MAX_SIZE: Final = 1 << 14
"""Pixels of a side: more makes no sense to anybody."""


class Sizing:
    """Sizes: of surfaces in the compositor's units, of pictures in pixels.

    Attributes:
        scales: whether the compositor scales what is shown.
        scale: pixels per unit.
        wanted: the size that the guest is to be asked for, until that is taken.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self.scales = False
        self.scale = 1.0
        self.wanted: tuple[int, int] | None = None
        self._picture = (1, 1)
        self._box: tuple[int, int] | None = None
        self._states: frozenset[int] = frozenset()
        self._asked: tuple[int, int] | None = None
        self._sized = False
        self._shown: tuple[int, int] | None = None

    @property
    def fullscreen(self) -> bool:
        """Whether the window is as large as the output."""
        return FULLSCREEN in self._states

    def picture(self, width: int, height: int) -> None:
        """Take the size of what the guest shows."""
        if (width, height) == self._picture:
            return
        self._picture = width, height
        # A new mode that nobody asked for: back to pixel by pixel, where we may.
        if not self._states & _FIRM and self._picture != self._asked:
            self._box = None

    def configure(self, width: int, height: int, states: bytes) -> None:
        """Take what the compositor wants.

        Args:
            width: of the window; 0 if it does not care.
            height: the same.
            states: the array of `xdg_toplevel.configure`.
        """
        whole = len(states) // 4
        self._states = frozenset(struct.unpack_from(f"={whole}I", states))
        if width <= 0 or height <= 0:
            self._box = None
            return
        box = min(width, MAX_SIZE), min(height, MAX_SIZE)
        if box in (self._shown, self._box):
            return  # it says what there is, as some do whenever the focus changes
        self._box = box
        # Not for the first: a firmware's small screen would be all that a guest ever has.
        if self._sized:
            pixels = _units(box[0] * self.scale), _units(box[1] * self.scale)
            if pixels not in (self._picture, self._asked):
                self.wanted = self._asked = pixels
        self._sized = True

    def take_wanted(self) -> tuple[int, int] | None:
        """Take the size that the guest is to be asked for, if there is one."""
        taken, self.wanted = self.wanted, None
        return taken

    def shown(self) -> tuple[int, int]:
        """Return how large the picture is shown, in the compositor's units."""
        self._sized = True
        width, height = self._picture
        if not self.scales:
            self._shown = self._picture
        elif self._box is None:
            self._shown = _units(width / self.scale), _units(height / self.scale)
        elif MAXIMIZED in self._states and FULLSCREEN not in self._states:
            self._shown = self._box  # which is to be obeyed
        else:
            factor = min(self._box[0] / width, self._box[1] / height)
            self._shown = _units(width * factor), _units(height * factor)
        return self._shown

    def to_picture(self, x: float, y: float) -> tuple[int, int]:
        """Return the pixel at a place of the surface; the nearest, if it is outside."""
        shown = self._shown or self._picture
        found = []
        for at, units, pixels in zip((x, y), shown, self._picture, strict=True):
            found.append(min(max(int(at * pixels / units), 0), pixels - 1))
        return found[0], found[1]


def _units(length: float) -> int:
    """Return a length as what it is counted in, one at least."""
    return max(round(length), 1)
