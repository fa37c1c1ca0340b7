"""Gathers the commands that one client's messages have led to, in order.

Bytes for the compositor and for the guest are gathered into few large sends; a command
that is neither flushes both first, so that the order of the result is the order of the
calls.
"""

from collections.abc import Sequence
from typing import Final

from wlproxy.protocol.channel.frames import (
    ATTACHMENT_SIZE,
    MAX_PAYLOAD,
    Attachment,
    Data,
)
from wlproxy.protocol.fd_limits import MAX_FDS_OUT
from wlproxy.relay.commands import Command, SendFrame, SendToCompositor
from wlproxy.relay.handles import Handle

_DATA_BYTES: Final = MAX_PAYLOAD - ATTACHMENT_SIZE * (MAX_FDS_OUT + 1)
"""Bytes of one `Data` frame that always leave room for its attachments."""


class Outbox:
    """Gathers the commands of one client."""

    def __init__(self, client_id: int) -> None:
        self._client_id = client_id
        self._commands: list[Command] = []
        self._requests = bytearray()
        self._handles: list[Handle] = []
        self._events = bytearray()
        self._attachments: list[Attachment] = []

    def request(self, data: bytes | bytearray, handles: Sequence[Handle] = ()) -> None:
        """Add a whole request; its fds leave with its first byte."""
        if handles:
            if self._requests:
                self._flush_requests()
            self._handles.extend(handles)
        self._requests += data

    def event(
        self, data: bytes | bytearray, attachments: Sequence[Attachment] = ()
    ) -> None:
        """Add a whole event for the guest; its fds leave with its first byte."""
        if attachments or len(self._events) + len(data) > _DATA_BYTES:
            if self._events:
                self._flush_events()
            self._attachments.extend(attachments)
        self._events += data

    def command(self, command: Command) -> None:
        """Add a command, after all that was added before it."""
        self._flush()
        self._commands.append(command)

    def take(self) -> list[Command]:
        """Take everything gathered so far."""
        self._flush()
        commands, self._commands = self._commands, []
        return commands

    def _flush(self) -> None:
        if self._requests:
            self._flush_requests()
        if self._events:
            self._flush_events()

    def _flush_requests(self) -> None:
        data, handles = bytes(self._requests), tuple(self._handles)
        self._requests.clear()
        self._handles.clear()
        self._commands.append(SendToCompositor(self._client_id, data, handles))

    def _flush_events(self) -> None:
        events, attachments = bytes(self._events), tuple(self._attachments)
        self._events.clear()
        self._attachments.clear()
        for start in range(0, len(events), _DATA_BYTES):
            data = events[start : start + _DATA_BYTES]
            self._commands.append(SendFrame(Data(self._client_id, data, attachments)))
            attachments = ()
