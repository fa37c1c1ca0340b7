"""Reads type signatures, which say what the bytes of a D-Bus message mean.

(D-Bus specification, "Type System".)  A *complete type* is kept as the text that spells it:
`a{sv}` is a dictionary of strings to variants.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from wlproxy.protocol.errors import DBusError

MAX_SIGNATURE: Final = 255
"""Bytes of a signature, which has its length in one byte."""
MAX_NESTING: Final = 32
"""Arrays within arrays, and structs within structs."""

ALIGNMENTS: Final = {
    **dict.fromkeys("yvg", 1),
    **dict.fromkeys("nq", 2),
    **dict.fromkeys("biuhsoa", 4),
    **dict.fromkeys("xtd({", 8),
}
"""Where a value may begin, by the first letter of its type: at a multiple of so many bytes."""

NUMBERS: Final = {
    "y": "B",
    "n": "h",
    "q": "H",
    "b": "I",
    "i": "i",
    "u": "I",
    "x": "q",
    "t": "Q",
    "d": "d",
    "h": "I",
}
"""How `struct` spells the types of a fixed size."""

_PLAIN: Final = frozenset("ynqiuxtd")
"""Those of them that mean what the number says: no bool, no index of an fd."""


@lru_cache(256)
def complete_types(signature: str) -> tuple[str, ...]:
    """Cut a signature into complete types.

    Raises:
        DBusError: it is none.
    """
    if len(signature) > MAX_SIGNATURE:
        raise DBusError(f"a signature of {len(signature)} bytes")
    return tuple(_types(signature))


@lru_cache(256)
def all_at_once(signature: str, order: str) -> struct.Struct | None:
    """Return what reads all values of a signature, if they are plain numbers.

    Args:
        signature: a valid one.
        order: how `struct` calls the byte order, `<` or `>`.
    """
    if not signature or not _PLAIN.issuperset(signature):
        return None
    layout, size = order, 0
    for letter in signature:
        padding = -size % ALIGNMENTS[letter]
        layout += "x" * padding + NUMBERS[letter]
        size += padding + struct.calcsize("=" + NUMBERS[letter])
    return struct.Struct(layout)


def _types(signature: str) -> Iterator[str]:
    start = 0
    while start < len(signature):
        end = _end(signature, start, 0, 0)
        yield signature[start:end]
        start = end


def _end(signature: str, start: int, arrays: int, structs: int) -> int:
    """Find where the complete type that begins at `start` ends."""
    if max(arrays, structs) > MAX_NESTING:
        raise DBusError(f"signature {signature!r} is nested too deep")
    letter = signature[start : start + 1]
    if letter in NUMBERS or (letter and letter in "sogv"):
        return start + 1
    if letter == "a":
        if signature[start + 1 : start + 2] == "{":
            return _entry_end(signature, start + 1, arrays + 1, structs)
        return _end(signature, start + 1, arrays + 1, structs)
    if letter == "(":
        at = _end(signature, start + 1, arrays, structs + 1)
        while signature[at : at + 1] != ")":
            at = _end(signature, at, arrays, structs + 1)
        return at + 1
    raise DBusError(f"{signature!r} is no signature")


def _entry_end(signature: str, start: int, arrays: int, structs: int) -> int:
    """Find where a dictionary's entry ends: a basic type, and any one type."""
    key = signature[start + 1 : start + 2]
    if key not in NUMBERS and key not in ("s", "o", "g"):
        raise DBusError(f"{signature!r} has a dictionary with no basic key")
    end = _end(signature, start + 2, arrays, structs + 1)
    if signature[end : end + 1] != "}":
        raise DBusError(f"{signature!r} has a dictionary's entry with no end")
    return end + 1
