"""The configuration file: what one would else type each time, for all VMs and for each.

It is TOML (https://toml.io/en/v1.0.0):

    [defaults]              # options of `wlproxy run`, for every VM
    log-level = "warning"

    [vm.work]               # ... and for the VM `work`
    deny = ["wl_output"]

    [vm.work.tap]           # options of `wlproxy ram-tap`
    group = "libvirt-qemu"

    [vm.work.policy]        # what the guest may do (`host.policy_file`)
    clipboard.direction = "to-guest"

Here it is read, and found out where in it something is; what may be said in it, the commands
know (`commands.configured`).  Whoever may write it decides what a guest may do, as on the command
line, so it is trusted; a mistake in it is an error that names the line.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from wlproxy.host.errors import HostError
from wlproxy.host.runtime_dir import check_name

DEFAULTS: Final = "defaults"
"""The table for every VM."""
VM: Final = "vm"
"""The table of tables, one for each VM, by its name."""

_HEADER: Final = re.compile(r"\s*(\[[^\[].*?\])\s*(?:#.*)?")
_KEY: Final = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)


class ConfigFileError(HostError):
    """The configuration file is wrong: where, and what to write in its place."""


def config_home(environ: Mapping[str, str]) -> Path:
    """Say where this user's configuration is (XDG Base Directory Specification).

    Args:
        environ: XDG_CONFIG_HOME is read from it.
    """
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    return base if base.is_absolute() else Path.home() / ".config"


def default_path(environ: Mapping[str, str]) -> Path:
    """Say where the configuration file is; `config_home` reads what is in `environ`."""
    return config_home(environ) / "wlproxy" / "config.toml"


class ConfigFile:
    """A configuration file that was read.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, text: str) -> None:
        """Read the text of a configuration file.

        Raises:
            ConfigFileError: it is no TOML, or has tables that mean nothing.
        """
        self.path = path
        self._lines = text.splitlines()
        try:
            self._document = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as exc:
            # Its message ends with the line and the column.
            raise ConfigFileError(f"{path} is not TOML: {exc}") from exc
        for key in self._document:
            if key not in (DEFAULTS, VM):
                raise self.unknown((key,), (DEFAULTS, VM))
        self.table(DEFAULTS)
        for name in self.table(VM):
            try:
                check_name(name)
            except HostError as exc:
                raise self.fault((VM, name), exc.problem, exc.remedy) from exc
            self.table(VM, name)

    @classmethod
    def read(cls, path: Path) -> "ConfigFile":
        """Read a configuration file.

        Raises:
            ConfigFileError: it cannot be read, or is wrong.
        """
        with ConfigFileError.explaining(
            "the configuration file cannot be read", tried=f"open {path}"
        ):
            encoded = path.read_bytes()
        try:
            text = encoded.decode()
        except UnicodeDecodeError as exc:
            line = encoded.count(b"\n", 0, exc.start) + 1
            raise ConfigFileError(
                f"{path}:{line}: it is not UTF-8",
                remedy="Save it as UTF-8, which TOML asks for.",
            ) from exc
        return cls(path, text)

    @property
    def vms(self) -> tuple[str, ...]:
        """The names of the VMs that have a table, in the file's order."""
        return tuple(self.table(VM))

    def table(self, *keys: str) -> Mapping[str, object]:
        """Return a table, an empty one if it is not there.

        Raises:
            ConfigFileError: something else is there.
        """
        found: object = self._document
        for depth, key in enumerate(keys, 1):
            assert isinstance(found, dict)
            found = found.get(key, {})
            if not isinstance(found, dict):
                written = keys[:depth]
                raise self.fault(
                    written,
                    "is to be a table",
                    f"Write it as [{'.'.join(written)}], and below that what is in it.",
                )
        assert isinstance(found, dict)
        return found

    def fault(
        self, keys: Sequence[str], problem: str, remedy: str = ""
    ) -> ConfigFileError:
        """Make the error that something in the file is wrong.

        Args:
            keys: of the tables, and in the last of them.
            problem: what is wrong with it, as the end of a sentence that begins with its name.
            remedy: what to do.
        """
        where = f"{self.place(keys)}: {'.'.join(keys)}"
        return ConfigFileError(f"{where}: {problem}", remedy=remedy)

    def place(self, keys: Sequence[str]) -> str:
        """Say where something is, as `file:line`."""
        line = line_of(self._lines, keys)
        return f"{self.path}:{line}" if line else f"{self.path}"

    def unknown(self, keys: Sequence[str], known: Sequence[str]) -> ConfigFileError:
        """Make the error that the last of these keys means nothing."""
        close = get_close_matches(keys[-1], known, 1)
        remedy = f"It can be one of {', '.join(sorted(known))}."
        if close:
            remedy = f"Did you mean {close[0]}? {remedy}"
        return self.fault(keys, "is nothing that can be set here", remedy)


def line_of(lines: Sequence[str], keys: Sequence[str]) -> int | None:
    """Find the line, from 1 on, where something is said in a TOML document.

    Tables may be written in several ways; the line is that of the longest beginning of the
    keys that stands at the start of a line, where more keys may follow.  A parser that keeps positions is in none of the
    libraries that Debian has, and a line that is off sends nobody far.
    """
    wanted = tuple(keys)
    best, found = 0, None
    for number, written in _written(lines):
        length = min(len(written), len(wanted))
        if best < length and wanted[:length] == written[:length]:
            best, found = length, number
    return found


def _written(lines: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number of each line that has a header or a key, and which."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(lines, 1):
        if header := _HEADER.fullmatch(line):
            table = _path(header[1]) or table
            yield number, table
        elif key := _KEY.match(line):
            yield number, table + _path(f"{key[1]} = {{}}")


def _path(toml: str) -> tuple[str, ...]:
    """Say which keys lead to the only table of a piece of TOML; none, if it is no TOML."""
    try:
        table = tomllib.loads(toml)
    except tomllib.TOMLDecodeError:
        return ()
    keys = []
    while table:
        [(key, table)] = table.items()
        keys.append(key)
    return tuple(keys)
