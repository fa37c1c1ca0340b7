"""Desktop entries and icons of a user, for tests."""

import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from PIL import Image

ENTRY = """\
[Desktop Entry]
Type=Application
Name=Terminal
Exec=sh -c true
"""


class Desktop:
    """A home and the system's directories, nearly empty."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.system = directory / "system"
        self.bin = directory / "bin"
        for each in (self.home, self.system, self.bin):
            each.mkdir(parents=True, exist_ok=True)

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "XDG_DATA_HOME": str(self.home / "data"),
            "XDG_DATA_DIRS": f"{self.system}:relative:/nowhere",
        }

    def entry(self, name: str, text: str = ENTRY, *, own: bool = False) -> Path:
        root = self.home / "data" if own else self.system
        return write(root / "applications" / f"{name}.desktop", text.encode())

    def icon(self, place: str, side: int = 48, color: str = "red") -> Path:
        return write(self.system / place, picture(side, color))


def write(path: Path, contents: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    return path


def picture(side: int, color: str, mode: str = "RGBA") -> bytes:
    file = BytesIO()
    Image.new("RGBA", (side, side), color).convert(mode).save(file, "png")
    return file.getvalue()
