"""Encodes frames to bytes and decodes bytes to frames.

This module knows the header; `layouts` has the layout of every frame.  It does not know sessions: no
order, no direction, no credit.  Normative: `docs/channel-protocol.md`.
"""

import struct
from dataclasses import dataclass
from typing import Final

from wlproxy.protocol.channel.frames import (
    HEADER_SIZE,
    MAX_PAYLOAD,
    Frame,
    FrameFlags,
    FrameType,
)
from wlproxy.protocol.channel.layouts import LAYOUTS, Layout
from wlproxy.protocol.channel.rules import fault
from wlproxy.protocol.errors import ChannelError, LocalProtocolError

HEADER: Final = struct.Struct("<IHHI")
"""Payload length, type, flags, client id."""

_KNOWN_FLAGS: Final = int(FrameFlags.OPTIONAL)
_TYPES: Final = {layout.kind: number for number, layout in LAYOUTS.items()}


@dataclass(frozen=True, slots=True)
class Resync:
    """The peer starts over: a header of type 0, the first of RESYNC_PADDING zeros."""


RESYNC: Final = Resync()


class FrameDecoder:
    """Takes frames off the front of a stream of bytes.

    A `Resync` or an error is final: asked again, the decoder says the same again.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append what was received.  Parses nothing and never raises.

        Whoever drains `next_frame` after each call keeps less than one frame here.
        """
        self._buffer += data

    def next_frame(self) -> Frame | Resync | None:
        """Take the next frame, or None while it is incomplete.

        Raises:
            ChannelError: what comes next is no frame of this protocol.
        """
        while len(self._buffer) >= HEADER_SIZE:
            length, number, flags, client_id = HEADER.unpack_from(self._buffer)
            if number == FrameType.RESYNC:
                # The rest of the header may be the start of an interrupted one.
                return RESYNC
            layout = _check_header(length, number, flags, client_id)
            end = HEADER_SIZE + length
            if len(self._buffer) < end:
                return None
            if layout is not None:
                # No view may outlive this line, even in a traceback: a bytearray
                # with views cannot grow.
                with memoryview(self._buffer) as view, view[HEADER_SIZE:end] as payload:
                    frame = _decode(layout, client_id, payload)
                del self._buffer[:end]
                return frame
            del self._buffer[:end]
        return None

    def take_rest(self) -> bytes:
        """Hand over whatever was not decoded; the decoder is as new."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def encode_frame(frame: Frame) -> bytes:
    """Encode a frame, header included.

    Raises:
        LocalProtocolError: a value breaks a rule or does not fit its field.
    """
    if broken := fault(frame):
        raise LocalProtocolError(f"{type(frame).__name__}: {broken}")
    number = _TYPES[type(frame)]
    layout = LAYOUTS[number]
    client_id: int = getattr(frame, "client_id", 0)
    try:
        payload = layout.encode(frame)
        header = HEADER.pack(len(payload), number, 0, client_id)
    except (struct.error, UnicodeEncodeError) as exc:
        raise LocalProtocolError(f"{type(frame).__name__}: {exc}") from exc
    if len(payload) > MAX_PAYLOAD or layout.of_client != bool(client_id):
        raise LocalProtocolError(
            f"{type(frame).__name__}: {len(payload)} bytes for client {client_id}"
        )
    return header + payload


def _check_header(
    length: int, number: int, flags: int, client_id: int
) -> Layout | None:
    """Judge a header by itself; None is a frame to skip."""
    if length > MAX_PAYLOAD:
        raise ChannelError(f"frame of {length} bytes, limit {MAX_PAYLOAD}")
    if flags & ~_KNOWN_FLAGS:
        raise ChannelError(f"frame of type {number} with unknown flags {flags:#x}")
    layout = LAYOUTS.get(number)
    if layout is None:
        if flags & FrameFlags.OPTIONAL:
            return None
        raise ChannelError(f"required frame of unknown type {number}")
    if not layout.least <= length <= layout.most:
        raise ChannelError(f"{FrameType(number).name} of {length} bytes")
    if layout.of_client != bool(client_id):
        raise ChannelError(f"{FrameType(number).name} of client {client_id}")
    return layout


def _decode(layout: Layout, client_id: int, payload: memoryview) -> Frame:
    frame = layout.decode(client_id, payload)
    if broken := fault(frame):
        raise ChannelError(f"{type(frame).__name__}: {broken}")
    return frame
