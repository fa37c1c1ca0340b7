"""Turns values into the bytes of a D-Bus message and back (its specification, "Marshaling").

What a peer sends is read within bounds: depth, size, and how many values there are, for an array of
bytes could else become one of objects that are fifty times as large.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from wlproxy.protocol.dbus.signatures import (
    ALIGNMENTS,
    MAX_NESTING,
    NUMBERS,
    all_at_once,
    complete_types,
)
from wlproxy.protocol.errors import DBusError, LocalProtocolError

FdT = TypeVar("FdT")
"""What stands for an fd: the caller's choice."""

MAX_ARRAY: Final = 1 << 26
"""Bytes of an array: the specification's bound, and those of a screen of 4096 x 4096."""
MAX_VALUES: Final = 1 << 14
"""Values of a message, those of a string or of an array of bytes not counted."""

_OBJECT_PATH: Final = re.compile(r"/|(/[A-Za-z0-9_]+)+")

Value = Any
"""A number is an int, a float or a bool; a string, path or signature a str; an array a list, one
of bytes `bytes`, one of entries a dict; a struct a tuple; an fd whatever stands for one."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A value that says of which type it is."""

    signature: str
    value: Value


class Reader(Generic[FdT]):
    """Reads values off a message."""

    def __init__(
        self, data: bytes, order: str, fds: Sequence[FdT] = (), start: int = 0
    ) -> None:
        """Begin at `start`, from which alignment is counted, too.

        Args:
            data: of which values are read, up to its end.
            order: how `struct` calls the byte order, `<` or `>`.
            fds: those of the message.
            start: offset of the first value.
        """
        self._data = data
        self._order = order
        self._fds = fds
        self._start = start
        self._left = MAX_VALUES
        self.at = start

    def body(self, signature: str) -> tuple[Value, ...]:
        """Read one value of each type of `signature`; there must be no more bytes.

        Raises:
            DBusError: the bytes are not what `signature` says.
        """
        types = complete_types(signature)
        at_once = all_at_once(signature, self._order)
        if at_once is not None and at_once.size == len(self._data) - self.at:
            return at_once.unpack_from(self._data, self.at)
        values = tuple(self.value(each) for each in types)
        if self.at != len(self._data):
            raise DBusError(
                f"{len(self._data) - self.at} bytes more than {signature!r}"
            )
        return values

    def value(self, kind: str, depth: int = 0) -> Value:
        """Read a value of one complete type.

        Raises:
            DBusError: the bytes are none.
        """
        self._left -= 1
        if self._left < 0:
            raise DBusError(f"a message of more than {MAX_VALUES} values")
        letter = kind[0]
        if letter in NUMBERS:
            return self._number(letter)
        if letter == "a":
            return self._array(kind[1:], depth)
        if letter == "(":
            self.align(8)
            inner = complete_types(kind[1:-1])
            return tuple(self.value(each, depth + 1) for each in inner)
        if letter == "v":
            return self._variant(depth)
        if letter == "g":
            return self._text(self._number("y"))
        text = self._text(self._number("u"))
        if letter == "o" and not _OBJECT_PATH.fullmatch(text):
            raise DBusError(f"{text[:80]!r} is no object path")
        return text

    def align(self, size: int) -> None:
        """Skip padding, which must be zeros.

        Raises:
            DBusError: it is not, or not there.
        """
        padding = -(self.at - self._start) % size
        if padding and self._take(padding).strip(b"\0"):
            raise DBusError("padding that is not zero")

    def _number(self, letter: str) -> Value:
        self.align(ALIGNMENTS[letter])
        layout = self._order + NUMBERS[letter]
        (number,) = struct.unpack(layout, self._take(struct.calcsize(layout)))
        if letter == "b":
            if number > 1:
                raise DBusError(f"a bool of {number}")
            return bool(number)
        if letter == "h":
            if number >= len(self._fds):
                raise DBusError(f"fd {number} of {len(self._fds)}")
            return self._fds[number]
        return number

    def _text(self, length: int) -> str:
        taken = self._take(length + 1)
        if taken.find(0) != length:
            raise DBusError("a string must have one NUL, at its end")
        try:
            return taken[:-1].decode()
        except UnicodeDecodeError as exc:
            raise DBusError("a string that is not UTF-8") from exc

    def _variant(self, depth: int) -> Variant:
        if depth > MAX_NESTING:
            raise DBusError("variants are nested too deep")
        signature = self._text(self._number("y"))
        types = complete_types(signature)
        if len(types) != 1:
            raise DBusError(f"a variant of {len(types)} types")
        return Variant(signature, self.value(signature, depth + 1))

    def _array(self, kind: str, depth: int) -> Value:
        length = self._number("u")
        if length > MAX_ARRAY:
            raise DBusError(f"an array of {length} bytes")
        self.align(ALIGNMENTS[kind[0]])
        end = self.at + length
        if end > len(self._data):
            raise DBusError(f"an array of {length} bytes exceeds its message")
        if kind == "y":
            return self._take(length)
        found: Value
        if kind[0] == "{":
            key, inner = kind[1], kind[2:-1]
            found = {}
            while self.at < end:
                self.align(8)
                name = self.value(key, depth + 1)
                found[name] = self.value(inner, depth + 1)
        else:
            found = []
            while self.at < end:
                found.append(self.value(kind, depth + 1))
        if self.at != end:
            raise DBusError("an array whose last value exceeds it")
        return found

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._data):
            raise DBusError(f"{size} bytes wanted, {len(self._data) - self.at} left")
        taken = self._data[self.at : end]
        self.at = end
        return taken


class Writer(Generic[FdT]):
    """Writes values, in little-endian order; what it refuses is a mistake of ours."""

    def __init__(self) -> None:
        """Nothing is written yet."""
        self.data = bytearray()
        self.fds: list[FdT] = []

    def body(self, signature: str, values: Sequence[Value]) -> None:
        """Write one value of each type of `signature`.

        Raises:
            LocalProtocolError: they are not what it says.
        """
        try:
            types = complete_types(signature)
            for kind, value in zip(types, values, strict=True):
                self.value(kind, value)
        except (
            AttributeError,
            DBusError,
            struct.error,
            TypeError,
            ValueError,
        ) as exc:
            raise LocalProtocolError(
                f"{signature!r} cannot carry {values}: {exc}"
            ) from exc

    def align(self, size: int) -> None:
        """Write padding."""
        self.data += bytes(-len(self.data) % size)

    def value(self, kind: str, value: Value) -> None:
        """Write a value of one complete type."""
        letter = kind[0]
        if letter == "h":
            self.fds.append(value)
            value = len(self.fds) - 1
        if letter in NUMBERS:
            self.align(ALIGNMENTS[letter])
            self.data += struct.pack("<" + NUMBERS[letter], value)
        elif letter in "so":
            self._text("u", value)
        elif letter == "g":
            self._text("y", value)
        elif letter == "v":
            self._text("y", value.signature)
            self.value(value.signature, value.value)
        elif letter == "(":
            self.align(8)
            for each, part in zip(complete_types(kind[1:-1]), value, strict=True):
                self.value(each, part)
        else:
            self._array(kind[1:], value)

    def _text(self, length_kind: str, text: str) -> None:
        encoded = text.encode()
        if b"\0" in encoded:
            raise ValueError("a NUL in a string")
        self.value(length_kind, len(encoded))
        self.data += encoded + b"\0"

    def _array(self, kind: str, value: Value) -> None:
        self.value("u", 0)
        length_at = len(self.data) - 4
        self.align(ALIGNMENTS[kind[0]])
        start = len(self.data)
        if kind == "y":
            self.data += value
        elif kind[0] == "{":
            self._entries(kind[1], kind[2:-1], value)
        else:
            write: Callable[[str, Value], None] = self.value
            for each in value:
                write(kind, each)
        struct.pack_into("<I", self.data, length_at, len(self.data) - start)

    def _entries(self, key: str, inner: str, entries: Mapping[Value, Value]) -> None:
        for name, value in entries.items():
            self.align(8)
            self.value(key, name)
            self.value(inner, value)
