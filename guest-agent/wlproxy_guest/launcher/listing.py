"""Writes a list of the user's apps for the host, as `docs/channel-protocol.md` has it."""

import base64
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from wlproxy.protocol.channel.launch_lines import MAX_ENTRY, Fields, encode_line
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy_guest.launcher.entries import Entry, find_entries
from wlproxy_guest.launcher.icons import find_icon

MAX_TEXT: Final = 256
"""Characters of a name; longer ones are cut."""


def write_list(fd: int, environ: Mapping[str, str], *, icons: bool) -> None:
    """Write a line for each app that is to be shown.

    Raises:
        OSError: nobody reads them any more.
    """
    for entry in find_entries(environ):
        if entry.shown(environ):
            with suppress(LocalProtocolError):  # too long for anybody
                _write(fd, encode_line(_describe(entry, environ, icons), MAX_ENTRY))


def _describe(entry: Entry, environ: Mapping[str, str], icons: bool) -> Fields:  # noqa: FBT001
    fields: Fields = {
        "id": entry.id,
        "name": entry.localized("Name")[:MAX_TEXT],
        "comment": entry.localized("Comment")[:MAX_TEXT],
        "categories": entry.listed("Categories"),
        "window": entry.text("StartupWMClass")[:MAX_TEXT],
    }
    icon = find_icon(entry.localized("Icon"), environ) if icons else None
    if icon is not None:
        fields["size"] = icon.width
        fields["pixels"] = base64.b64encode(icon.pixels).decode()
    return {key: value for key, value in fields.items() if value}


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
