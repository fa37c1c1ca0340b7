"""A VM's policy: read from the configuration file and the command line, and where each line of it is from.

In the file it is a table `policy` of the defaults or of a VM, with a table for each group:

    [vm.work.policy]
    clipboard.direction = "to-guest"

What may be said there is `relay.policy_tree`'s.  A VM's key counts before that of the defaults, and
what an option names (`--allow`, `--deny`, `--frame`) before both.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from wlproxy.host.config_file import DEFAULTS, VM, ConfigFile, ConfigFileError
from wlproxy.relay.look import (
    AUTO,
    OFF,
    Colour,
    choose_colours,
    read_colour,
    unframed_by,
)
from wlproxy.relay.policy_tree import (
    GROUPS,
    ROWS,
    Globals,
    Policy,
    Row,
    check_names,
    rows,
)

POLICY: Final = "policy"
"""The table's name."""

COLOUR: Final = "frame.colour"
"""The key of what `--frame` says."""

DEFAULT: Final = "default"
TYPED: Final = "command line"
"""Where a line is from, if it is not from a line of the file."""

MOVED: Final[Mapping[tuple[str, ...], str]] = {
    ("frame",): COLOUR,
    ("screen", "clipboard"): "clipboard.direction",
    ("screen", "primary"): "primary.direction",
}
"""What was an option in a VM's table once, or is one on the command line only -> the key that says it."""

_LISTS: Final = ("allow", "deny")
"""Keys of globals that are options as well."""


class Line(NamedTuple):
    """What is in force of a key, and where it is from."""

    key: str
    value: str
    origin: str

    def __str__(self) -> str:
        """As the file would have it."""
        return f"{self.key} = {self.value}  # {self.origin}"


@dataclass(frozen=True, slots=True)
class PolicySource:
    """Where a VM's policy is from, to be read again.

    Attributes:
        name: of the VM.
        path: of the file; None: there is none, and there will be none.
        optional: the file need not be there.
        allow: what `--allow` said on the command line; None: nothing, so that the file counts.
        deny: the same of `--deny`.
        frame: what `--frame` said; None: nothing.
    """

    name: str = "vm"
    path: Path | None = None
    optional: bool = False
    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] | None = None
    frame: str | None = None

    def read(self) -> "PolicyRead":
        """Read it.

        Raises:
            ConfigFileError: the file cannot be read, or says what it may not.
            ValueError: the command line names what is no global, or no colour.
        """
        if self.path is None or (self.optional and not self.path.exists()):
            return read_policy(self, None)
        return read_policy(self, ConfigFile.read(self.path))


class PolicyRead(NamedTuple):
    """A policy that was read, and where each line of it is from."""

    policy: Policy
    lines: tuple[Line, ...]


class _Found(NamedTuple):
    """A value, and where it is from."""

    value: Any
    origin: str


def read_policy(source: PolicySource, file: ConfigFile | None) -> PolicyRead:
    """Make a policy of what a file and the command line say.

    Raises:
        ConfigFileError: the file says what it may not; only the first mistake is told.
        ValueError: the command line names what is no global, or no colour.
    """
    for fault in faults(file, source.name) if file is not None else ():
        raise fault
    found: dict[str, _Found] = {}
    if file is not None:
        for table in _tables(source.name):
            found |= dict(_said(file, table))
    found |= _with_options(source, file, found)
    found |= _with_colour(source, file, found)
    return _put_together(found)


def faults(file: ConfigFile, name: str) -> Iterator[ConfigFileError]:
    """Yield the mistakes in what a file says of a VM's policy, and in the options that belong to it."""
    for table in _tables(name):
        yield from _structure(file, table)
        for row in ROWS:
            keys = (*table, row.group, row.name)
            if _there(file, keys):
                yield from _judge(file, keys, partial(_value, file, row, keys))
    for owner in ((DEFAULTS,), (VM, name)):
        yield from moved(file, owner)
        for option in _LISTS:
            names = file.table(*owner).get(option, [])
            if isinstance(names, list):  # else the option's own judge says so
                for each in names:
                    judge = partial(check_names, option, (str(each),))
                    yield from _judge(file, (*owner, option), judge)


def moved(file: ConfigFile, owner: tuple[str, ...]) -> Iterator[ConfigFileError]:
    """Yield the mistake of whoever writes a key of the policy as the option that it was.

    Args:
        file: what was read.
        owner: the table of the VM, or that of the defaults.
    """
    for option, path in MOVED.items():
        keys = (*owner, *option)
        if _there(file, keys):
            value = json.dumps(file.table(*keys[:-1])[keys[-1]], default=str)
            remedy = f"Write it in [{'.'.join(owner)}] as: {POLICY}.{path} = {value}"
            yield file.fault(keys, "is a key of the policy", remedy)


def _structure(file: ConfigFile, table: tuple[str, ...]) -> Iterator[ConfigFileError]:
    """Yield what is in a table that means nothing there."""
    try:
        groups = file.table(*table)
    except ConfigFileError as exc:
        yield exc
        return
    for group in groups:
        if group not in GROUPS:
            yield file.unknown((*table, group), tuple(GROUPS))
            continue
        known = [row.name for row in rows(group)]
        try:
            said = file.table(*table, group)
        except ConfigFileError as exc:  # the other groups have mistakes of their own
            yield exc
            continue
        for name in said:
            if name not in known:
                yield file.unknown((*table, group, name), known)


def _judge(
    file: ConfigFile, keys: tuple[str, ...], read: Callable[[], object]
) -> Iterator[ConfigFileError]:
    try:
        read()
    except ValueError as exc:
        yield file.fault(keys, str(exc))


def _value(file: ConfigFile, row: Row, keys: tuple[str, ...]) -> object:
    """Read the value of a key.

    Raises:
        ValueError: it is none.
    """
    value = row.key.kind.read(file.table(*keys[:-1])[keys[-1]])
    if row.group == "globals":
        Globals(**{row.attribute: value})
    return value


def _there(file: ConfigFile, keys: Sequence[str]) -> bool:
    try:
        return keys[-1] in file.table(*keys[:-1])
    except ConfigFileError:  # which is told elsewhere
        return False


def _said(file: ConfigFile, table: tuple[str, ...]) -> Iterator[tuple[str, _Found]]:
    """Yield what a table says, which is right."""
    for row in ROWS:
        keys = (*table, row.group, row.name)
        if _there(file, keys):
            yield row.path, _Found(_value(file, row, keys), file.place(keys))


def _with_options(
    source: PolicySource, file: ConfigFile | None, found: Mapping[str, _Found]
) -> dict[str, _Found]:
    """Return what globals are allowed and denied when the options have had their say."""
    options = {
        "allow": _option(file, source.name, "allow", source.allow),
        "deny": _option(file, source.name, "deny", source.deny),
    }
    lists: dict[str, _Found] = {}
    for name, other in zip(_LISTS, reversed(_LISTS), strict=True):
        path = f"globals.{name}"
        before = found.get(path, _Found((), ""))
        gone = options[other].value
        kept = tuple(each for each in before.value if each not in gone)
        added = tuple(each for each in options[name].value if each not in kept)
        origins = [before.origin] if kept else []
        origins += [options[name].origin] if added else []
        if kept or added:
            lists[path] = _Found((*kept, *added), ", ".join(origins))
        elif path in found:
            lists[path] = _Found((), options[other].origin)
    return lists


def _with_colour(
    source: PolicySource, file: ConfigFile | None, found: Mapping[str, _Found]
) -> dict[str, _Found]:
    """Return the colour of the VM's frames, if there is one that the file's policy does not have.

    Raises:
        ConfigFileError: windows are to be framed, and some that are allowed cannot be.
        ValueError: the command line names no colour.
    """
    colour = found.get(COLOUR, _Found(AUTO, DEFAULT))
    if source.frame is not None:
        colour = _Found(read_colour(source.frame), TYPED)
    if colour.value == AUTO and file is not None:
        colour = _choose_colour(source.name, file, colour)
    allowed = found.get("globals.allow", _Found((), DEFAULT))
    if colour.value.rgb is not None and (other := unframed_by(allowed.value)):
        why = f"{other} is allowed ({allowed.origin}), and makes windows that cannot be framed"
        if colour.value.asked:
            without = f'set {COLOUR} = "off"'
            if colour.origin == TYPED:  # which counts before what the file says
                without = "type --frame off"
            raise ConfigFileError(
                f"{colour.origin}: windows are to be framed, but {why}",
                remedy=f"Do without {other}, or {without}.",
            )
        colour = _Found(replace(OFF, asked=False), f"{DEFAULT}: {why}")
    return {COLOUR: colour}


def _choose_colour(name: str, file: ConfigFile, said: _Found) -> _Found:
    """Choose a colour for a VM without one, if it is one of several."""
    said_by = {each: _colour_of(file, each) for each in (*file.vms, name)}
    said_by[name] = AUTO  # whatever the file says, if it was typed
    if len(said_by) == 1:
        return said
    why = f"{DEFAULT}: {file.path} has several VMs"
    return _Found(choose_colours(said_by)[name], why)


def _colour_of(file: ConfigFile, name: str) -> Colour:
    """Return what a file says of a VM's colour; if that is wrong, the VM's own proxy will say so."""
    row = next(row for row in ROWS if row.path == COLOUR)
    found = AUTO
    for table in _tables(name):
        keys = (*table, row.group, row.name)
        if _there(file, keys):
            with suppress(ValueError):
                found = row.key.kind.read(file.table(*keys[:-1])[keys[-1]])
    return found


def _option(
    file: ConfigFile | None, name: str, option: str, typed: tuple[str, ...] | None
) -> _Found:
    """Return what an option says: as it was typed, or else as a VM's table, or that of all, has it."""
    if typed is not None:
        return _Found(typed, TYPED)
    for owner in ((VM, name), (DEFAULTS,)) if file is not None else ():
        assert file is not None
        said = file.table(*owner).get(option)
        if isinstance(said, list):
            return _Found(tuple(said), file.place((*owner, option)))
    return _Found((), DEFAULT)


def _put_together(found: Mapping[str, _Found]) -> PolicyRead:
    groups: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        if row.path in found:
            groups.setdefault(row.group, {})[row.attribute] = found[row.path].value
    policy = Policy(**{name: GROUPS[name](**said) for name, said in groups.items()})
    lines = tuple(
        Line(row.path, row.written(policy), _origin(found.get(row.path)))
        for row in ROWS
    )
    return PolicyRead(policy, lines)


def _origin(found: _Found | None) -> str:
    return found.origin if found is not None else DEFAULT


def _tables(name: str) -> tuple[tuple[str, ...], ...]:
    return (DEFAULTS, POLICY), (VM, name, POLICY)
