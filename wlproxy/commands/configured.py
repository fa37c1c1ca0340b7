"""Commands whose options may stand in the configuration file, as the command line has them.

An option `--log-level warning` is `log-level = "warning"` there; one that may be repeated is an array,
and a switch is `true` or `false`.  What is typed counts before what the VM's table says, and that
before the defaults; an option's own default comes last.
"""

import os
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
from click.core import ParameterSource

from wlproxy.commands.failure import fail
from wlproxy.host.config_file import (
    DEFAULTS,
    VM,
    ConfigFile,
    default_path,
)
from wlproxy.host.errors import HostError
from wlproxy.host.policy_file import MOVED, POLICY, PolicySource, moved

TABLES: Final = {"run": (), "ram-tap": ("tap",), "screen": ("screen",)}
"""Command -> its table in that of a VM, and in the defaults.  Others have none."""

INNER: Final = frozenset([POLICY, *(path[0] for path in TABLES.values() if path)])
"""Tables of other commands, and of the policy, beside the options of `wlproxy run`."""

SHARED: Final = frozenset({"channel", "listen", "log-level"})
"""Options of `wlproxy run` that mean the same to every command that has them."""

_FILE: Final = "wlproxy.commands.configured"
_NAME: Final = "name"


_CONFIG: Final = click.Option(
    ["--config"],
    type=click.Path(path_type=Path),
    expose_value=False,
    help="Read options from this TOML file.  [default: wlproxy/config.toml in "
    "$XDG_CONFIG_HOME, if there is one]",
)


class ConfiguredCommand(click.Command):
    """A command that looks for its options in the configuration file, too."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's parameters, and which file is read."""
        return [*super().get_params(ctx), _CONFIG]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what is not typed from the file."""
        if not ctx.resilient_parsing:  # completion, which is to say nothing
            typed = self._typed(ctx, args)
            try:
                if (file := _find(typed)) is not None:
                    ctx.meta[_FILE] = file
                    name = typed.get(_NAME) or typed.get("libvirt") or "vm"
                    found = self.values(ctx, file, name)
                    ctx.default_map = _laid_over(found, typed)
            except HostError as exc:
                fail(exc)
        return super().parse_args(ctx, args)

    def _typed(self, ctx: click.Context, args: Sequence[str]) -> Mapping[str, Any]:
        """Return what is typed, as it is.

        Raises:
            click.UsageError: that is none of the command's options.
        """
        try:
            return self.make_parser(ctx).parse_args(list(args))[0]
        except click.NoSuchOption as exc:
            table = TABLES.get(self.name or "", ())
            key = MOVED.get((*table, exc.option_name.removeprefix("--")))
            if key is None:
                raise
            message = (
                f"{exc.option_name} is a key of the policy. Write it in [vm.NAME] of "
                f"the configuration file as: {POLICY}.{key} = ..."
            )
            raise click.UsageError(message, ctx) from exc

    def values(
        self, ctx: click.Context, file: ConfigFile, name: str
    ) -> MutableMapping[str, object]:
        """Return what a file says to this command of a VM: parameter to value.

        Raises:
            ConfigFileError: a key is unknown, or its value no value of the option.
        """
        found: dict[str, object] = {}
        own = TABLES.get(self.name or "")
        for table in ((DEFAULTS,), (VM, name)):
            said: dict[str, object] = {}
            if own is not None:
                for fault in moved(file, table):
                    raise fault
            if own != ():
                said |= self._shared(ctx, file, table)
            if own is not None:
                said |= self._judged(ctx, file, (*table, *own))
            found = {**_laid_over(found, said), **said}
        return found

    def options(self) -> Mapping[str, click.Option]:
        """Return the options that may be set, by their names without dashes."""
        return {
            max(param.opts, key=len).removeprefix("--"): param
            for param in self.params
            if isinstance(param, click.Option)
            and param.name != _NAME
            and (param.name,) not in MOVED
        }

    def _shared(
        self, ctx: click.Context, file: ConfigFile, table: Sequence[str]
    ) -> dict[str, object]:
        options = self.options()
        return {
            str(options[key].name): _value(
                ctx, file, (*table, key), options[key], value
            )
            for key, value in file.table(*table).items()
            if key in SHARED and key in options
        }

    def _judged(
        self, ctx: click.Context, file: ConfigFile, table: Sequence[str]
    ) -> dict[str, object]:
        options = self.options()
        inner = INNER if TABLES.get(self.name or "") == () else frozenset[str]()
        found: dict[str, object] = {}
        for key, value in file.table(*table).items():
            if key in options:
                param = options[key]
                found[str(param.name)] = _value(ctx, file, (*table, key), param, value)
            elif key not in inner:
                raise file.unknown((*table, key), [*options, *inner])
        return found


def _laid_over(
    found: Mapping[str, object], more: Mapping[str, object]
) -> dict[str, object]:
    """Return what is left of some values when others count more: there is one way to a VM."""
    gone: set[str] = set()
    if "libvirt" in more:
        gone = {"channel", "listen", "group"}
    elif "channel" in more or "listen" in more:
        gone = {"channel", "listen", "libvirt", "connect"}
    return {key: value for key, value in found.items() if key not in gone}


def configured_text(ctx: click.Context, name: str, *keys: str) -> str | None:
    """Return a text that the file sets for a VM and for another command, if it does.

    Args:
        ctx: of a configured command.
        name: the VM's.
        keys: in its table.

    Raises:
        ConfigFileError: it is no string.
    """
    file: ConfigFile | None = ctx.meta.get(_FILE)
    if file is None:
        return None
    *tables, key = keys
    value = file.table(VM, name, *tables).get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise file.fault((VM, name, *keys), "is to be a string")
    return value


def configured_path(ctx: click.Context, name: str, *keys: str) -> Path | None:
    """Return a path, as `configured_text` does.

    Raises:
        ConfigFileError: it is no string.
    """
    text = configured_text(ctx, name, *keys)
    return None if text is None else Path(text)


def policy_source(ctx: click.Context, name: str) -> PolicySource:
    """Say where a VM's policy is from: the file that `run` reads, and what is typed.

    Args:
        ctx: of `wlproxy run`, or of `wlproxy screen`, which has none of these options.
        name: the VM's.
    """
    file: ConfigFile | None = ctx.meta.get(_FILE)
    path = file.path if file is not None else default_path(os.environ)
    frame = ctx.params.get("frame")
    allow, deny = (
        tuple(ctx.params[option])
        if ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE
        else None
        for option in ("allow", "deny")
    )
    return PolicySource(name, path.absolute(), file is None, allow, deny, frame)


def _find(typed: Mapping[str, Any]) -> ConfigFile | None:
    """Read the file that was named, or else the usual one if it is there.

    Raises:
        ConfigFileError: it cannot be read, or is wrong.
    """
    named = typed.get("config")
    if named is not None:
        return ConfigFile.read(Path(named))
    path = default_path(os.environ)
    return ConfigFile.read(path) if path.exists() else None


class _Kind(NamedTuple):
    """A kind of value in TOML: its name, an example, and whether a value is one."""

    name: str
    example: str
    has: Callable[[object], bool]


_STRINGS: Final = _Kind(
    "an array of strings",
    '["one", "another"]',
    lambda value: (
        isinstance(value, list) and all(isinstance(each, str) for each in value)
    ),
)
_SWITCH: Final = _Kind("true or false", "true", lambda value: isinstance(value, bool))
_NUMBER: Final = _Kind(
    "a number",
    "1",
    lambda value: isinstance(value, int) and not isinstance(value, bool),
)
_STRING: Final = _Kind("a string", '"..."', lambda value: isinstance(value, str))


def _value(
    ctx: click.Context,
    file: ConfigFile,
    keys: Sequence[str],
    option: click.Option,
    value: object,
) -> object:
    """Return a value as the option takes it.

    Raises:
        ConfigFileError: it is of another kind, or none that the option has.
    """
    kind = _kind(option)
    if not kind.has(value):
        remedy = f"Such as: {keys[-1]} = {kind.example}"
        raise file.fault(keys, f"is to be {kind.name}", remedy)
    try:
        option.type_cast_value(ctx, value)
    except click.BadParameter as exc:
        raise file.fault(keys, exc.message) from exc
    return value


def _kind(option: click.Option) -> _Kind:
    """Say what an option is in TOML."""
    if option.multiple:
        return _STRINGS
    if option.is_flag:
        return _SWITCH
    return _NUMBER if isinstance(option.type, click.types.IntParamType) else _STRING
