"""Finds the icons of apps, and makes pixels of them: square, and not too many.

An SVG is drawn by a program of the guest's, if there is one.  What is looked for in icon
themes is less than the Icon Theme Specification has: the places where apps put their icons.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from wlproxy_guest.launcher.entries import data_directories
from wlproxy_guest.launcher.png import Picture, PngError, read_png

SIZES: Final = (128, 96, 256, 72, 64, 192, 48, 32)
"""Pixels, the best first: task bars and menus show up to 64, twice that on fine screens."""
DRAWN: Final = 128
"""Pixels of what is drawn here."""
LEAST, MOST = 16, 256
"""Pixels of an icon that is sent."""
MAX_FILE: Final = 1 << 20
DRAW_SECONDS: Final = 10.0

_DRAWERS: Final = (
    ("rsvg-convert", ["-w", str(DRAWN), "-h", str(DRAWN), "-f", "png", "{svg}"]),
    ("gdk-pixbuf-thumbnailer", ["-s", str(DRAWN), "{svg}", "/dev/stdout"]),
)
"""Programs that make a PNG of an SVG, and what they are told."""


def find_icon(name: str, environ: Mapping[str, str]) -> Picture | None:
    """Return the pixels of an icon; None if none can be had.

    Args:
        name: as a desktop entry has it: a name of an icon theme, or a path.
        environ: the user's.
    """
    for path in _candidates(name, environ):
        with suppress(OSError, PngError, subprocess.SubprocessError):
            picture = read_png(_read(path, environ))
            if picture.width == picture.height and LEAST <= picture.width <= MOST:
                return picture
    return None


def _candidates(name: str, environ: Mapping[str, str]) -> Iterator[Path]:
    """List where an icon may be, the best first."""
    if name.startswith("/"):
        yield from (path for path in [Path(name)] if path.is_file())
        return
    if not name or "/" in name or name.startswith("."):
        return
    directories = data_directories(environ)
    themes = [theme for each in directories for theme in _themes(each / "icons")]
    inner = [place for n in SIZES for place in (f"{n}x{n}/apps", f"apps/{n}")]
    for theme in themes:
        for place, suffix in (
            *((place, ".png") for place in inner),
            ("scalable/apps", ".svg"),
            *((place, ".svg") for place in inner),
        ):
            yield from _there(theme / place / f"{name}{suffix}")
    for each in directories:
        for suffix in (".png", ".svg"):
            yield from _there(each / "pixmaps" / f"{name}{suffix}")


def _themes(icons: Path) -> list[Path]:
    """List themes: that which all apps use first."""
    with suppress(OSError):
        found = [path for path in icons.iterdir() if path.is_dir()]
        return sorted(found, key=lambda path: (path.name != "hicolor", path.name))
    return []


def _there(path: Path) -> list[Path]:
    return [path] if path.is_file() else []


def _read(path: Path, environ: Mapping[str, str]) -> bytes:
    """Read a PNG, or have one made.

    Raises:
        OSError: it cannot be read.
        SubprocessError: it cannot be drawn.
        PngError: nobody here can draw it.
    """
    if path.stat().st_size > MAX_FILE:
        raise PngError("too large")
    if path.suffix != ".svg":
        return path.read_bytes()
    for program, words in _DRAWERS:
        found = shutil.which(program, path=environ.get("PATH"))
        if found is None:
            continue
        argv = [found, *(word.replace("{svg}", str(path)) for word in words)]
        done = subprocess.run(  # noqa: S603 - one of the above
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
            timeout=DRAW_SECONDS,
            check=True,
        )
        return done.stdout
    raise PngError("nobody here can draw an SVG")
