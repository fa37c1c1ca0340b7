"""A machine whose screen changes: a boot sector that fills all of it, again and again or at a key.

It sets the mode by the registers of Bochs' display, with 24 bits a pixel, so that QEMU has a
picture of its own that it draws into (mode A), and draws at 60 Hz; QEMU looks 33 times a second.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.processes import Started, started
from wlproxy.host.errors import HostError
from wlproxy.host.qemu.qmp import QmpClient

PROGRAM: Final = "qemu-system-x86_64"
BYTES: Final = 3
"""A pixel's."""
VNC: Final = 47
"""The number of the display that gvncviewer connects to."""

_CODE: Final = bytes.fromhex(
    "fa31c08ed8bc007c"  # cli; no stack but below us
    "bace01be987cb90500adef42adef4ae2f8"  # the registers from the table, by 1ceh and 1cfh
    "66b810100080baf80c66efb2fc66ed24f06689c3"  # where the picture is: BAR 0 of slot 2
    "660f0116827c0f20c00c010f22c0b908008ec124fe0f22c0"  # segments of 4 GiB
    "b034e643b0aee640b04de640"  # the timer: 60 Hz
    "6631edfb"  # black; sti
    # again:
    "f4a11c04f606b07c017506"  # hlt; the end of the keys' queue; always drawn?
    "39061a0474ef"  # no key: again
    "a31a046681c507030201"  # they are taken; the next colour
    "6689e86689df668b0eac7cfc6766f3abebd3"  # all of it; again
    "0f00887c00000000000000000000ffff00000092cf00"  # the table of segments
    "0400000001008007020038040300180004004100"  # off, width, height, 24 bits, on
    "00bb170001"  # dwords; always drawn
)
_WIDTH, _HEIGHT, _DWORDS, _ALWAYS = 0x9E, 0xA2, 0xAC, 0xB0


def boot_sector(width: int, height: int, *, video: bool) -> bytes:
    """Make the guest.

    Args:
        width: of its screen, in pixels.
        height: the same.
        video: whether it draws all the while, or at keys only.
    """
    code = bytearray(_CODE)
    struct.pack_into("<H", code, _WIDTH, width)
    struct.pack_into("<H", code, _HEIGHT, height)
    struct.pack_into("<I", code, _DWORDS, width * height * BYTES // 4)
    code[_ALWAYS] = video
    return bytes(code).ljust(510, b"\0") + b"\x55\xaa"


@contextmanager
def machine(
    directory: Path, width: int, height: int, *, video: bool
) -> Iterator[Started]:
    """Run it; its monitor is at DIRECTORY/qmp, and its screen is had by D-Bus and by VNC.

    Raises:
        BenchError: it does not start.
    """
    image = directory / "floppy"
    image.write_bytes(boot_sector(width, height, video=video).ljust(1474560, b"\0"))
    monitor = directory / "qmp"
    words = [
        PROGRAM,
        *("-no-user-config", "-nodefaults", "-name", "bench,debug-threads=on"),
        *("-accel", "tcg", "-machine", "pc", "-m", "32"),
        *("-device", "VGA,vgamem_mb=16,addr=2"),
        *("-drive", f"if=floppy,format=raw,file={image}"),
        *("-display", "dbus,p2p=on", "-vnc", f"127.0.0.1:{VNC}"),
        *("-qmp", f"unix:{monitor},server=on,wait=off"),
    ]

    def answers() -> bool:
        try:
            QmpClient(monitor).close()
        except HostError:
            return False
        return True

    monitor.unlink(missing_ok=True)
    with started(words, directory / "qemu.log") as program:
        program.wait_until(answers, "QEMU is up")
        yield program
