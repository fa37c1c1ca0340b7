"""How a VM's windows are framed, as its policy has it; and its name, as a picture.

Pillow draws it, where it is installed; without it, frames have a colour and no text.
"""

import logging
from typing import Final

from wlproxy.relay.look import Label, WindowFrame
from wlproxy.relay.policy_tree import Frame, Switch

logger = logging.getLogger("wlproxy")

HEIGHT: Final = 18
"""How high a label is shown, in pixels of surfaces."""

TEXT: Final = 26
"""How high its text is, in pixels of the picture, which is twice as large as it is shown."""

MARGIN: Final = 12
"""Left and right of the text, in the same."""

MOST: Final = 1024
"""How wide a picture is at most, in pixels."""


def look(name: str, frame: Frame) -> WindowFrame | None:
    """Say how a VM's windows are framed; None if they are not.

    Args:
        name: the VM's.
        frame: what its policy says.
    """
    colour = frame.colour
    if colour.rgb is None:
        if not colour.asked:
            logger.warning(
                "windows of %s have no frame, since it may make some that cannot be "
                "framed (`wlproxy policy show %s` says which)",
                *(name, name),
            )
        return None
    label = draw(name, colour.rgb) if frame.label is Switch.ON else None
    if label is None and frame.label is Switch.ON:
        logger.info(
            "frames have no label: it takes Pillow, from version 10.1 on "
            "(pip install 'wlproxy[label]', or python3-pil)"
        )
    return WindowFrame(colour.rgb, frame.width, label, asked=colour.asked)


def draw(name: str, colour: int) -> Label | None:
    """Draw a label; None if there is nothing to draw with.

    Args:
        name: what is written.
        colour: of the frame: what it is written on.
    """
    try:
        # Here, since most have no use for it, and it takes a while.
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415

        font = ImageFont.load_default(TEXT)
    except (ImportError, TypeError):  # older ones have no such font in every size
        return None
    left, _, right, _ = font.getbbox(name)
    width = min(int(right - left) + 2 * MARGIN, MOST)
    background = tuple(colour.to_bytes(3, "big"))
    picture = Image.new("RGB", (width, 2 * HEIGHT), background)
    canvas = ImageDraw.Draw(picture)
    place = (MARGIN, HEIGHT)
    canvas.text(place, name, font=font, fill=_readable_on(colour), anchor="lm")
    return Label(width, 2 * HEIGHT, picture.tobytes("raw", "BGRX"))


def _readable_on(colour: int) -> tuple[int, int, int]:
    """Return black or white: whichever is told apart better (as ITU-R BT.601 weighs)."""
    red, green, blue = colour.to_bytes(3, "big")
    bright = 299 * red + 587 * green + 114 * blue > 128_000
    return (0, 0, 0) if bright else (255, 255, 255)
