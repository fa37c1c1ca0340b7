"""The user's desktop entries: which apps there are, and how each is started.

By the Desktop Entry Specification (1.5), as far as a menu needs it.  A file that breaks it
is left out, and says so to nobody: menus do the same.
"""

import locale
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_FILE: Final = 256 * 1024
"""Bytes of a desktop entry that is read; the largest have many translations."""
MAX_ENTRIES: Final = 4096

_GROUP: Final = "[Desktop Entry]"
_ESCAPES: Final = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_QUOTED: Final = frozenset('"`$\\')
"""What a backslash may stand before in a quoted argument of `Exec`."""
_DROPPED: Final = frozenset("fFuUdDnNvm")
"""Field codes for files, of which there are none, and those that mean nothing any more."""


class EntryError(Exception):
    """A desktop entry breaks the specification."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One app.

    Attributes:
        id: of its desktop file.
        path: of that.
        keys: what is in its main group, as it stands there.
    """

    id: str
    path: Path
    keys: Mapping[str, str]

    def text(self, key: str) -> str:
        """Return a string; empty if it is not there."""
        return _unescape(self.keys.get(key, ""))

    def localized(self, key: str) -> str:
        """Return a string in the user's language, if it has one for that."""
        for suffix in _locales():
            if f"{key}[{suffix}]" in self.keys:
                return self.text(f"{key}[{suffix}]")
        return self.text(key)

    def listed(self, key: str) -> tuple[str, ...]:
        """Return strings that stand with semicolons between them."""
        return tuple(filter(None, self.text(key).split(";")))

    def has(self, key: str) -> bool:
        """Tell whether a switch is on."""
        return self.keys.get(key) == "true"

    def shown(self, environ: Mapping[str, str]) -> bool:
        """Tell whether a menu has it: a menu that has no terminal."""
        desktops = set(environ.get("XDG_CURRENT_DESKTOP", "").split(":"))
        only, never = self.listed("OnlyShowIn"), self.listed("NotShowIn")
        return (
            self.keys.get("Type") == "Application"
            and not (self.has("NoDisplay") or self.has("Terminal"))
            and not (only and desktops.isdisjoint(only))
            and desktops.isdisjoint(never)
            and bool(self.localized("Name") and self.keys.get("Exec"))
            and self._is_installed(environ)
        )

    def _is_installed(self, environ: Mapping[str, str]) -> bool:
        program = self.text("TryExec")
        return (
            not program or shutil.which(program, path=environ.get("PATH")) is not None
        )

    def argv(self) -> list[str]:
        """Return what is to be started, with no file to open.

        Raises:
            EntryError: it says nothing that can be started.
        """
        argv: list[str] = []
        for argument in _arguments(self.text("Exec")):
            argv += self._expand(argument)
        if not argv:
            raise EntryError("there is no command in it")
        return argv

    def _expand(self, argument: str) -> list[str]:
        """Replace the field codes of an argument, which may vanish by that."""
        if argument == "%i":
            icon = self.localized("Icon")
            return ["--icon", icon] if icon else []
        if len(argument) == 2 and argument[0] == "%" and argument[1] in _DROPPED:
            return []
        codes = {"%": "%", "c": self.localized("Name"), "k": str(self.path)}
        text, rest = "", argument
        while rest:
            before, percent, rest = rest.partition("%")
            text += before
            if percent:
                code, rest = rest[:1], rest[1:]
                if code not in codes and code not in _DROPPED:
                    raise EntryError(f"it has an unknown field code %{code}")
                text += codes.get(code, "")
        return [text]


def find_entries(environ: Mapping[str, str]) -> Iterator[Entry]:
    """Read the user's desktop entries: of each id, the one that counts."""
    seen: set[str] = set()
    for directory in data_directories(environ):
        root = directory / "applications"
        for path in sorted(_files(root)):
            identity = str(path.relative_to(root)).removesuffix(".desktop")
            identity = identity.replace("/", "-")
            if identity in seen or len(seen) >= MAX_ENTRIES:
                continue
            seen.add(identity)
            with suppress(OSError, EntryError, UnicodeDecodeError):
                entry = read_entry(identity, path)
                if not entry.has("Hidden"):
                    yield entry


def find_entry(identity: str, environ: Mapping[str, str]) -> Entry | None:
    """Find the desktop entry of an id, which need not be shown in menus."""
    found = (entry for entry in find_entries(environ) if entry.id == identity)
    return next(found, None)


def read_entry(identity: str, path: Path) -> Entry:
    """Read one.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is no text.
        EntryError: it is too large, or no file.
    """
    if not path.is_file():  # a pipe would hold us up
        raise EntryError("it is no file")
    with path.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise EntryError("it is too large")
    keys: dict[str, str] = {}
    inside = False
    for line in data.decode().splitlines():
        if line.startswith("["):
            inside = line.rstrip() == _GROUP
        elif inside and not line.startswith("#"):
            key, equals, value = line.partition("=")
            if equals:
                keys.setdefault(key.rstrip(), value.strip())
    return Entry(identity, path, keys)


def data_directories(environ: Mapping[str, str]) -> list[Path]:
    """Return where the user's data is, the most important place first."""
    home = Path(environ.get("HOME", "/"))
    own = environ.get("XDG_DATA_HOME") or str(home / ".local/share")
    others = environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    return [Path(each) for each in (own, *others.split(":")) if each.startswith("/")]


def _files(root: Path) -> Iterator[Path]:
    """Find desktop files; links to directories are not followed, so that it ends."""
    for directory, _, names in os.walk(root):
        for name in names:
            if name.endswith(".desktop"):
                yield Path(directory, name)


def _unescape(value: str) -> str:
    text, rest = "", value
    while rest:
        before, backslash, rest = rest.partition("\\")
        text += before
        if backslash:
            # Others, as in lists and quoted arguments, are for whoever reads those.
            text += _ESCAPES.get(rest[:1], backslash + rest[:1])
            rest = rest[1:]
    return text


def _arguments(command: str) -> Iterator[str]:
    """Split `Exec`.

    Raises:
        EntryError: a quote has no end.
    """
    rest = command.strip()
    while rest:
        if rest[0] != '"':
            argument, _, rest = rest.partition(" ")
            yield argument
        else:
            argument, rest = _quoted(rest[1:])
            yield argument
        rest = rest.lstrip()


def _quoted(rest: str) -> tuple[str, str]:
    argument = ""
    characters = iter(enumerate(rest))
    for index, char in characters:
        if char == '"':
            return argument, rest[index + 1 :]
        if char == "\\":
            _, following = next(characters, (0, ""))
            argument += following if following in _QUOTED else char + following
        else:
            argument += char
    raise EntryError("a quote has no end")


def _locales() -> list[str]:
    """Return what a localized key may end in, the best first (the specification's order)."""
    name = locale.setlocale(locale.LC_MESSAGES, None)
    language, _, modifier = name.partition("@")
    language = language.partition(".")[0]
    short = language.partition("_")[0]
    if language in ("", "C", "POSIX"):
        return []
    found = [f"{language}@{modifier}"] if modifier else []
    found += [language]
    found += [f"{short}@{modifier}"] if modifier else []
    return [*found, short]
