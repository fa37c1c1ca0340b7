"""Bounds-checked reading and writing of little-endian fields.

`Reader` takes a peer's bytes and raises `ChannelError` for whatever is not there.
`Writer` takes our own values: one that does not fit its field is a bug of ours, and so a
`LocalProtocolError`. Neither knows a frame or a message, and neither aligns anything.
"""

import struct
from typing import Final, Self

from wlproxy.protocol.errors import ChannelError, LocalProtocolError

_U8: Final = struct.Struct("<B")
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_I32: Final = struct.Struct("<i")

MAX_STRING: Final = 0xFFFF
"""Most bytes of UTF-8 in a string: its length prefix is a u16."""


class Reader:
    """Takes fields off the front of a buffer, which must not change meanwhile."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self._offset = 0

    @property
    def remaining(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self._offset

    def u8(self) -> int:
        """Read one byte.

        Raises:
            ChannelError: the buffer has ended.
        """
        return self._number(_U8)

    def u16(self) -> int:
        """Read an unsigned 16-bit number.

        Raises:
            ChannelError: fewer bytes are left.
        """
        return self._number(_U16)

    def u32(self) -> int:
        """Read an unsigned 32-bit number.

        Raises:
            ChannelError: fewer bytes are left.
        """
        return self._number(_U32)

    def u64(self) -> int:
        """Read an unsigned 64-bit number.

        Raises:
            ChannelError: fewer bytes are left.
        """
        return self._number(_U64)

    def i32(self) -> int:
        """Read a signed 32-bit number.

        Raises:
            ChannelError: fewer bytes are left.
        """
        return self._number(_I32)

    def raw(self, length: int) -> bytes:
        """Read `length` bytes, as a copy.

        Raises:
            ChannelError: fewer bytes are left, or `length` is negative.
        """
        start = self._take(length)
        return self._data[start : self._offset].tobytes()

    def rest(self) -> bytes:
        """Read everything that is left, as a copy; perhaps nothing."""
        return self.raw(self.remaining)

    def string(self) -> str:
        """Read a u16 length and that many bytes of UTF-8.

        Raises:
            ChannelError: fewer bytes are left, or they are not UTF-8.
        """
        encoded = self.raw(self.u16())
        try:
            return encoded.decode()
        except UnicodeDecodeError as exc:
            raise ChannelError(f"string is not UTF-8: {exc}") from exc

    def expect_end(self) -> None:
        """Check that everything has been read.

        Raises:
            ChannelError: bytes are left over.
        """
        if self.remaining:
            raise ChannelError(f"{self.remaining} bytes left over at {self._offset}")

    def _number(self, field: struct.Struct) -> int:
        value: int = field.unpack_from(self._data, self._take(field.size))[0]
        return value

    def _take(self, length: int) -> int:
        """Step over `length` bytes; return where they start."""
        if not 0 <= length <= self.remaining:
            raise ChannelError(
                f"{length} bytes wanted at {self._offset}, {self.remaining} left"
            )
        start = self._offset
        self._offset += length
        return start


class Writer:
    """Collects fields; `getvalue()` has them all. Every method returns the writer."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = bytearray()

    def __len__(self) -> int:
        return len(self._data)

    def u8(self, value: int) -> Self:
        """Write one byte.

        Raises:
            LocalProtocolError: `value` does not fit.
        """
        return self._number(_U8, value)

    def u16(self, value: int) -> Self:
        """Write an unsigned 16-bit number.

        Raises:
            LocalProtocolError: `value` does not fit.
        """
        return self._number(_U16, value)

    def u32(self, value: int) -> Self:
        """Write an unsigned 32-bit number.

        Raises:
            LocalProtocolError: `value` does not fit.
        """
        return self._number(_U32, value)

    def u64(self, value: int) -> Self:
        """Write an unsigned 64-bit number.

        Raises:
            LocalProtocolError: `value` does not fit.
        """
        return self._number(_U64, value)

    def i32(self, value: int) -> Self:
        """Write a signed 32-bit number.

        Raises:
            LocalProtocolError: `value` does not fit.
        """
        return self._number(_I32, value)

    def raw(self, value: bytes | bytearray | memoryview) -> Self:
        """Write bytes as they are: the format must tell the reader how many."""
        self._data += value
        return self

    def string(self, value: str) -> Self:
        """Write a u16 length and `value` in UTF-8.

        Raises:
            LocalProtocolError: over `MAX_STRING` bytes, or a lone surrogate.
        """
        try:
            encoded = value.encode()
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(f"string is not Unicode: {exc}") from exc
        if len(encoded) > MAX_STRING:
            raise LocalProtocolError(
                f"string of {len(encoded)} bytes, limit {MAX_STRING}"
            )
        return self.u16(len(encoded)).raw(encoded)

    def getvalue(self) -> bytes:
        """Copy out everything written so far."""
        return bytes(self._data)

    def _number(self, field: struct.Struct, value: int) -> Self:
        try:
            self._data += field.pack(value)
        except struct.error as exc:
            raise LocalProtocolError(f"{value} in {field.size} bytes: {exc}") from exc
        return self
