"""The table of every interface that pywayland knows.

It is built from pywayland's protocol modules on the first lookup (about 0.15 s). Only their
data is used: none of its objects, and no connection. An interface that is missing here
cannot be decoded, so it must be hidden from the client.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import pywayland.protocol
from pywayland.protocol_core.interface import Interface as PywaylandInterface

from wlproxy.protocol.wayland.interface import ArgKind, ArgSpec, Interface, MessageSpec

_KINDS: Final = {
    "Int": ArgKind.INT,
    "Uint": ArgKind.UINT,
    "Fixed": ArgKind.FIXED,
    "String": ArgKind.STRING,
    "Object": ArgKind.OBJECT,
    "NewId": ArgKind.NEW_ID,
    "Array": ArgKind.ARRAY,
    "FileDescriptor": ArgKind.FD,
}

_SUPERSEDED: Final = frozenset({"xdg_shell_unstable_v5"})
"""Modules whose interfaces have the names, but not the messages, of later ones."""


class _Interfaces(Mapping[str, Interface]):
    """Interfaces by name; reads the tables when first asked."""

    def __getitem__(self, name: str) -> Interface:
        return _tables()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_tables())

    def __len__(self) -> int:
        return len(_tables())


INTERFACES: Final[Mapping[str, Interface]] = _Interfaces()
"""Every known interface by name, in its highest known version."""


@cache
def _tables() -> dict[str, Interface]:
    """Build a table of each interface.

    Several modules may describe one, since protocols become stable under their old
    names: the highest version counts, as it begins with all that the lower ones have.
    """
    described = [
        source
        for module in pkgutil.iter_modules(pywayland.protocol.__path__)
        if module.name not in _SUPERSEDED
        for source in _interfaces_in(f"pywayland.protocol.{module.name}")
    ]
    described.sort(key=lambda source: source.version)
    return {source.name: _interface(source) for source in described}


def _interfaces_in(module_name: str) -> Iterator[type[Any]]:
    module = importlib.import_module(module_name)
    for value in vars(module).values():
        # A module also holds what it imported, in the importer's older version.
        if (
            isinstance(value, type)
            and issubclass(value, PywaylandInterface)
            and value.__module__ == module_name
        ):
            yield value


def _interface(source: type[Any]) -> Interface:
    return Interface(
        source.name,
        source.version,
        tuple(_message(source.name, *item) for item in enumerate(source.requests)),
        tuple(_message(source.name, *item) for item in enumerate(source.events)),
    )


def _names(source: Any) -> Iterator[str]:  # noqa: ANN401
    """Name the arguments of a message, as the parameters of pywayland's method are.

    A request's method has no parameter for a typed NEW_ID, and two for an untyped one.
    """
    code = source.py_func.__code__
    named = iter(code.co_varnames[1 : code.co_argcount])
    is_event = code.co_argcount - 1 == len(source.arguments) and not any(
        _KINDS[arg.argument_type.name] is ArgKind.NEW_ID and arg.interface is None
        for arg in source.arguments
    )
    for arg in source.arguments:
        if is_event or _KINDS[arg.argument_type.name] is not ArgKind.NEW_ID:
            yield next(named).rstrip("_")  # where it would be a keyword
            continue
        if arg.interface is None:
            next(named), next(named)  # its interface, and its version
        yield "new_id"


def _message(interface: str, opcode: int, source: Any) -> MessageSpec:  # noqa: ANN401
    return MessageSpec(
        interface,
        source.name,  # pywayland has taken the underscore off `global_` already
        opcode,
        source.version or 1,
        tuple(
            ArgSpec(
                _KINDS[arg.argument_type.name],
                arg.nullable,
                arg.interface and arg.interface.name,
                name,
            )
            for arg, name in zip(source.arguments, _names(source), strict=True)
        ),
    )
