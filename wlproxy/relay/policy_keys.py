"""What the keys of a policy are: kinds of values, and what is known of each key.

`policy_tree` has the keys themselves.  A kind reads a value as TOML has it, and writes it for
people; what is no such value is a `ValueError` whose text is the end of a sentence that begins
with the key.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

KEY: Final = "wlproxy"
"""What a field's metadata has its `Key` under."""

_BARE: Final = re.compile("[A-Za-z0-9_-]+")

ValueT = TypeVar("ValueT")


class Kind(Generic[ValueT]):
    """A kind of value."""

    name: str
    """How people are told what is to be there."""

    def read(self, value: object) -> ValueT:
        """Take a value as TOML has it.

        Raises:
            ValueError: it is none of this kind.
        """
        raise NotImplementedError

    def write(self, value: ValueT) -> str:
        """Write it as TOML."""
        raise NotImplementedError


class Choice(Kind[Enum]):
    """One of a few words."""

    def __init__(
        self, words: type[Enum], refused: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Make the kind of these words.

        Args:
            words: an enumeration, whose values are the words.
            refused: words that are not to be had, with why: it ends with a full stop.
        """
        self._words = words
        self._refused = refused
        self._known = [each.value for each in words if each.value not in refused]
        self.name = ", ".join(f'"{each}"' for each in self._known)

    def read(self, value: object) -> Enum:
        """Take one of the words."""
        if isinstance(value, str) and value in self._refused:
            raise ValueError(self._refused[value])
        if value not in self._known:
            raise ValueError(
                f"is to be one of {self.name}{_perhaps(value, self._known)}"
            )
        return self._words(value)

    def write(self, value: Enum) -> str:
        """Write the word."""
        return _string(value.value)


_ENDLESS: Final = (1 << 63) - 1
"""The greatest number that TOML promises."""


class Number(Kind[int]):
    """A number, which may have bounds."""

    def __init__(self, least: int = 0, most: int = _ENDLESS) -> None:
        """Make the kind of numbers from `least` to `most`: those of TOML have 64 bits."""
        self._least, self._most = least, most
        self.name = f"a number from {least} on"
        if most < _ENDLESS:
            self.name = f"a number from {least} to {most}"

    def read(self, value: object) -> int:
        """Take the number."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"is to be {self.name}")  # noqa: TRY004 - a user's
        if not self._least <= value <= self._most:
            raise ValueError(f"is to be a number from {self._least} to {self._most}")
        return value

    def write(self, value: int) -> str:
        """Write the number."""
        return str(value)


class Names(Kind[tuple[str, ...]]):
    """Several names, of globals or of MIME types."""

    def __init__(self, name: str) -> None:
        """Make the kind: `name` says of what, in the plural."""
        self.name = f"an array of {name}"

    def read(self, value: object) -> tuple[str, ...]:
        """Take the names."""
        if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
            raise ValueError(f'is to be {self.name}, such as ["one", "another"]')
        return tuple(value)

    def write(self, value: tuple[str, ...]) -> str:
        """Write the names."""
        return f"[{', '.join(map(_string, value))}]"


_NO_VERSIONS: Final = "is to be a table of versions, such as { wl_seat = 7 }"


class Versions(Kind[Mapping[str, int]]):
    """Versions of globals, by their names."""

    name = "a table of versions"

    def read(self, value: object) -> Mapping[str, int]:
        """Take the versions."""
        if not isinstance(value, dict):
            raise ValueError(_NO_VERSIONS)  # noqa: TRY004 - a user's
        version = Number(1, (1 << 32) - 1)
        for name, most in value.items():
            try:
                version.read(most)
            except ValueError as exc:
                raise ValueError(f"{name}: {exc}") from exc
        return MappingProxyType(dict(value))

    def write(self, value: Mapping[str, int]) -> str:
        """Write the versions."""
        inside = ", ".join(
            f"{_name(name)} = {most}" for name, most in sorted(value.items())
        )
        return f"{{ {inside} }}" if inside else "{}"


class Effect(Enum):
    """What another value of a key does to an app that is running."""

    AT_ONCE = "at once"
    """Its next message is judged by it."""
    NEXT = "for what it asks for from then on"
    """What it was given before, it keeps."""
    BOUND = "for what it binds from then on"
    """Globals appear and vanish; what is bound stays, and is counted in the answer."""
    NEW_APPS = "for apps that start from then on"
    REPAINT = "at once; whether there is a frame: for apps that start from then on"


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key, besides its name and its default.

    Attributes:
        kind: of its values.
        what: what it decides, as a sentence.
        why: the reason for the default, as a sentence.
        effect: of a change.
    """

    kind: Kind[Any]
    what: str
    why: str
    effect: Effect = Effect.AT_ONCE


def key(
    default: object,
    kind: Kind[Any],
    what: str,
    why: str,
    effect: Effect = Effect.AT_ONCE,
) -> Any:  # noqa: ANN401 - it stands for the field's value
    """Make a field of a policy."""
    # Not `default`: dataclasses take none that cannot be hashed, such as a mapping.
    return field(
        default_factory=lambda: default,
        metadata={KEY: Key(kind, what, why, effect)},
    )


def _string(text: str) -> str:
    """Write a string of TOML, which are those of JSON but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _name(text: str) -> str:
    """Write a key of TOML, in quotes if need be."""
    return text if _BARE.fullmatch(text) else _string(text)


def _perhaps(value: object, known: list[str]) -> str:
    close = get_close_matches(value, known, 1) if isinstance(value, str) else []
    return f". Did you mean {close[0]}?" if close else ""
