"""What host and launcher tell each other, through the pipes of a `Launch`.

Lines of JSON: a `Request` and then signals one way, an `Outcome` the other.  Each side takes
the other for hostile, so whatever is no such line is an error, and keys that one does not
know are ignored.  Normative: section 12 of `docs/channel-protocol.md`.
"""

import json
from dataclasses import dataclass
from typing import Final

from wlproxy.protocol.errors import ChannelError, LocalProtocolError

MAX_LINE: Final = 64 * 1024
"""Longest line, bytes, its end included: what fits into a pipe at once."""
MAX_ENTRY: Final = 512 * 1024
"""The same of a desktop entry in a list: an icon of 256 x 256 pixels is in it."""
SIGNALS: Final = frozenset((1, 2, 3, 10, 12, 15))
"""What a command may be sent: HUP, INT, QUIT, USR1, USR2, TERM."""
BAD_REQUEST, CANNOT_START, NOT_THERE = 125, 126, 127
"""Statuses of what did not start, as env(1) has them."""

Fields = dict[str, object]


@dataclass(frozen=True, slots=True)
class Request:
    """What a launcher is to do: one of the first three.

    Attributes:
        command: to start: a program and its arguments.
        app: to start: the id of a desktop entry.
        apps: list desktop entries.
        icons: send theirs as well.
        detach: do not wait for what was started.
    """

    command: tuple[str, ...] = ()
    app: str = ""
    apps: bool = False
    icons: bool = False
    detach: bool = False

    def to_line(self) -> bytes:
        """Encode it.

        Raises:
            LocalProtocolError: it is too long, or does not ask for one thing.
        """
        fields = {
            name: value for name in self.__slots__ if (value := getattr(self, name))
        }
        if len(fields.keys() - {"detach", "icons"}) != 1:
            raise LocalProtocolError(f"a request for {', '.join(fields) or 'nothing'}")
        return encode_line(fields)

    @classmethod
    def read(cls, fields: Fields) -> "Request":
        """Judge what was asked.

        Raises:
            ChannelError: it is no request.
        """
        asked = [name for name in ("command", "app", "apps") if name in fields]
        if len(asked) != 1:
            raise ChannelError("a request is for a command, an app, or a list of apps")
        return cls(
            command=_texts(fields, "command"),
            app=_text(fields, "app"),
            apps=_switch(fields, "apps"),
            icons=_switch(fields, "icons"),
            detach=_switch(fields, "detach"),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request; one of the first four.

    Attributes:
        exited: with this status.
        killed: by this signal.
        started: as this process, which nobody waits for.
        error: why nothing was.
        status: with an error: what the host's command is to end with.
    """

    exited: int | None = None
    killed: int | None = None
    started: int | None = None
    error: str | None = None
    status: int = BAD_REQUEST

    def to_line(self) -> bytes:
        """Encode it."""
        fields = {
            name: value
            for name in ("exited", "killed", "started", "error")
            if (value := getattr(self, name)) is not None
        }
        if self.error is not None:
            fields |= {"error": self.error[:1024], "status": self.status}
        return encode_line(fields)

    @classmethod
    def read(cls, fields: Fields) -> "Outcome":
        """Judge what came back.

        Raises:
            ChannelError: it is no outcome.
        """
        match fields:
            case {"exited": status}:
                return cls(exited=_number(status, 0, 255))
            case {"killed": signal}:
                return cls(killed=_number(signal, 1, 64))
            case {"started": pid}:
                return cls(started=_number(pid, 1, (1 << 31) - 1))
            case {"error": str() as error}:
                status = _number(fields.get("status"), BAD_REQUEST, NOT_THERE)
                return cls(error=error, status=status)
            case _:
                raise ChannelError("an answer that says nothing")

    @property
    def exit_status(self) -> int:
        """What a shell would have for it."""
        if self.error is not None:
            return self.status
        if self.killed is not None:
            return 128 + self.killed
        return self.exited or 0


class LineReader:
    """Takes lines off the front of a stream of bytes."""

    __slots__ = ("_buffer", "_most")

    def __init__(self, most: int = MAX_LINE) -> None:
        """Take lines of at most so many bytes."""
        self._buffer = bytearray()
        self._most = most

    def feed(self, data: bytes) -> None:
        """Append what was received; drain `next_line` after each call."""
        self._buffer += data

    def next_line(self) -> Fields | None:
        """Take the next line, or None while it is incomplete.

        Raises:
            ChannelError: it is too long, or no object of JSON.
        """
        end = self._buffer.find(b"\n", 0, self._most)
        if end < 0:
            if len(self._buffer) >= self._most:
                raise ChannelError(f"a line of over {self._most} bytes")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            # A number of thousands of digits is a ValueError, too.
            fields = json.loads(line)
        except (ValueError, RecursionError):
            raise ChannelError("a line that is no JSON") from None
        if not isinstance(fields, dict):
            raise ChannelError("a line that is no object")
        return fields


def encode_line(fields: object, most: int = MAX_LINE) -> bytes:
    """Encode a line, of at most so many bytes.

    Raises:
        LocalProtocolError: it is too long.
    """
    line = json.dumps(fields).encode() + b"\n"
    if len(line) > most:
        raise LocalProtocolError(f"{len(line)} bytes are asked for, limit {most}")
    return line


def read_signal(fields: Fields) -> int:
    """Judge what comes after a request.

    Raises:
        ChannelError: it is no signal that a command may be sent.
    """
    number = fields.get("signal")
    if type(number) is not int or number not in SIGNALS:
        raise ChannelError("what follows a request is no signal")
    return number


def _text(fields: Fields, name: str) -> str:
    text = fields.get(name, "")
    if (
        not isinstance(text, str)
        or not _passable(text)
        or (name in fields and not text)
    ):
        raise ChannelError(f"no {name}")
    return text


def _texts(fields: Fields, name: str) -> tuple[str, ...]:
    texts = fields.get(name, [])
    if not isinstance(texts, list) or (name in fields and not texts):
        raise ChannelError(f"no {name}")
    for text in texts:
        if not isinstance(text, str) or not _passable(text):
            raise ChannelError(f"{name} is to be an array of strings")
    if name in fields and not texts[0]:
        raise ChannelError(f"no {name}")
    return tuple(texts)


def _passable(text: str) -> bool:
    """Whether it can be an argument: bytes that are no UTF-8 are surrogates, as in Python."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _switch(fields: Fields, name: str) -> bool:
    value = fields.get(name, False)
    if type(value) is not bool or (name == "apps" and name in fields and not value):
        raise ChannelError(f"{name} is to be true")
    return value


def _number(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ChannelError(f"a number within {least}..{most} is expected")
    return value
