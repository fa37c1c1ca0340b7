"""Lines for the configuration of a domain of Xen's (xl.cfg(5)): its channel, its grant table."""

from pathlib import Path
from typing import Final

from wlproxy.host.xen.grant_pages import grant_table
from wlproxy.protocol.channel.frames import PORT_NAME

_FRAME_4K: Final = 3840 * 2160 * 4
"""Bytes of a buffer of the screens that fill a grant table first."""
_FOR_BUFFERS: Final = 7 / 8
"""What gem_grant takes of the table's references; the rest is for disks and networks (`max_refs`)."""
_SPECIAL: Final = '",\\\n'
"""What an element of xl's lists cannot have."""


def xl_lines(channel: Path, frames: int) -> str:
    """Write the lines.

    Args:
        channel: where the toolstack's QEMU is to make the socket.
        frames: of the grant table.

    Raises:
        ValueError: no such path can be written there.
    """
    if any(char in str(channel) for char in _SPECIAL):
        raise ValueError(f"xl.cfg has no way to write {channel}")
    size = int(grant_table(frames).size * _FOR_BUFFERS)
    return (
        f'channel = [ "name={PORT_NAME},connection=socket,path={channel}" ]\n'
        f"# {size >> 20} MiB of buffers at once: {size // _FRAME_4K} of 3840x2160.\n"
        f"max_grant_frames = {frames}\n"
    )
