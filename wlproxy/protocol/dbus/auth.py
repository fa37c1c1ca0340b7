"""The client's half of how two peers of D-Bus begin: SASL with EXTERNAL, by the socket's user.

(D-Bus specification, "Authentication Protocol".)  All of it is sent at once, for a server that
would wait for it, as QEMU does with all else standing still, then waits for nothing.
"""

from typing import Final

from wlproxy.protocol.errors import DBusError

MAX_ANSWER: Final = 512
"""Bytes of the server's two lines; an OK has a GUID of 32 digits."""


def client_half(uid: int) -> bytes:
    """Write all that a client says before its first message.

    Args:
        uid: whose socket it is, as the server sees it (SO_PEERCRED).
    """
    name = str(uid).encode().hex().encode()
    return b"\0AUTH EXTERNAL " + name + b"\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n"


class ServerAnswer:
    """What the server says to that: `feed` it until it is `done`."""

    def __init__(self, *, done: bool = False) -> None:
        """Nothing has come yet, or all."""
        self._pending = b""
        self._lines = 0
        self.done = done

    def feed(self, data: bytes) -> bytes:
        """Read the server's lines; return what follows them.

        Raises:
            DBusError: it refuses us, or fds, or says something else.
        """
        self._pending += data
        while not self.done:
            line, found, rest = self._pending.partition(b"\r\n")
            if len(line) > MAX_ANSWER:
                raise DBusError("no D-Bus server: it answers with no line")
            if not found:
                return b""
            self._pending = rest
            self._read(line)
        rest, self._pending = self._pending, b""
        return rest

    def _read(self, line: bytes) -> None:
        expected = b"AGREE_UNIX_FD" if self._lines else b"OK"
        if line.split(b" ")[0] != expected:
            raise DBusError(f"authentication: {line[:80]!r} instead of {expected!r}")
        self._lines += 1
        self.done = self._lines == 2
