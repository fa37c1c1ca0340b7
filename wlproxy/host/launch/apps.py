"""The apps of a guest, as a launcher lists them, and what the host believes of that.

A guest may say anything.  So an id can name a file and a window and nothing more, texts are
one line of characters that can be seen, and an icon is so many bytes that are pixels: no
file of the guest's is ever handed to this desktop, whose task bar would have to parse it.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from wlproxy.protocol.channel.launch_lines import MAX_ENTRY, Fields, LineReader
from wlproxy.protocol.errors import ChannelError
from wlproxy.relay.labels import plain

MAX_APPS: Final = 4096
MAX_PIXELS: Final = 128 << 20
"""Bytes of all icons together."""
MAX_NAME: Final = 80
MAX_COMMENT: Final = 200
MAX_CATEGORIES: Final = 16
LEAST_SIDE, MOST_SIDE = 16, 256
"""Pixels of an icon."""

_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
_CATEGORY: Final = re.compile(r"[A-Za-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class Icon:
    """Rows of pixels: red, green, blue, alpha.

    Attributes:
        side: pixels each way.
        pixels: `side * side` of them.
    """

    side: int
    pixels: bytes


@dataclass(frozen=True, slots=True)
class App:
    """One of them.

    Attributes:
        id: of its desktop entry in the guest.
        name: for people.
        comment: likewise; may be empty.
        categories: of menus.
        window: the app id of its windows, if that is not `id`; else empty.
        icon: None if there is none.
    """

    id: str
    name: str
    comment: str = ""
    categories: tuple[str, ...] = ()
    window: str = ""
    icon: Icon | None = None


class AppList:
    """Takes a list as it comes.

    Attributes:
        apps: those that came, by id.
        left_out: how many were not what an app is.
    """

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}
        self.left_out = 0
        self._lines = LineReader(MAX_ENTRY)
        self._pixels = 0

    def feed(self, data: bytes) -> None:
        """Take some bytes.

        Raises:
            ChannelError: that is no list, or it has no end.
        """
        self._lines.feed(data)
        while (fields := self._lines.next_line()) is not None:
            app = read_app(fields)
            if app is None:
                self.left_out += 1
                continue
            self.apps.setdefault(app.id, app)
            self._pixels += len(app.icon.pixels) if app.icon else 0
            if len(self.apps) > MAX_APPS or self._pixels > MAX_PIXELS:
                raise ChannelError("there is no end of apps")


def read_app(fields: Fields) -> App | None:
    """Judge what a guest says of an app; None if it cannot be one."""
    identity, name = fields.get("id"), _text(fields, "name", MAX_NAME)
    if not isinstance(identity, str) or not _ID.fullmatch(identity) or not name:
        return None
    window = fields.get("window")
    named = isinstance(window, str) and window != identity and _ID.fullmatch(window)
    return App(
        identity,
        name,
        _text(fields, "comment", MAX_COMMENT),
        _categories(fields.get("categories")),
        window if named and isinstance(window, str) else "",
        _icon(fields),
    )


def _text(fields: Fields, key: str, most: int) -> str:
    text = fields.get(key)
    if not isinstance(text, str):
        return ""
    return plain(text.encode(errors="ignore"))[:most].strip()


def _categories(said: object) -> tuple[str, ...]:
    found = [
        each
        for each in (said if isinstance(said, list) else [])
        if isinstance(each, str) and _CATEGORY.fullmatch(each)
    ]
    return tuple(found[:MAX_CATEGORIES])


def _icon(fields: Fields) -> Icon | None:
    side, encoded = fields.get("size"), fields.get("pixels")
    if type(side) is not int or not LEAST_SIDE <= side <= MOST_SIDE:
        return None
    if not isinstance(encoded, str):
        return None
    try:
        pixels = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return Icon(side, pixels) if len(pixels) == 4 * side * side else None
