"""XenStore: a tree of short texts that Xen's domains share, asked over the device of its driver.

Messages are those of Xen's xs_wire.h.  Each question has a fd of its own, and so has each watch: what
comes by it then is an answer to that question, or says that something changed.
"""

import errno
import os
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd

DEVICE: Final = Path("/dev/xen/xenbus")

DIRECTORY: Final = 1
READ: Final = 2
WATCH: Final = 4
REMOVE: Final = 13
WATCH_EVENT: Final = 15
ERROR: Final = 16
"""XS_DIRECTORY, XS_READ, XS_WATCH, XS_RM, XS_WATCH_EVENT, XS_ERROR (xen/interface/io/xs_wire.h)."""
HEADER: Final = struct.Struct("=IIII")
"""struct xsd_sockmsg: type, number of the request, transaction, bytes that follow."""
MAX_PAYLOAD: Final = 4096
"""XENSTORE_PAYLOAD_MAX."""
LABEL: Final = "wlproxy"
"""What watches are told apart by (a token, in xs_wire.h); each of ours has its fd."""


class Store:
    """XenStore, which is asked one thing at a time.  Blocks for a moment."""

    __slots__ = ("_device",)

    def __init__(self, device: Path = DEVICE) -> None:
        """Open nothing yet."""
        self._device = device

    def read(self, path: str) -> bytes | None:
        """Read a value; None: there is none.

        Raises:
            OSError: XenStore cannot be asked.
        """
        return self._ask(READ, path)

    def remove(self, path: str) -> None:
        """Remove a value, and what is below it; if it is not there, nothing happens.

        Raises:
            OSError: XenStore cannot be asked, or does not let us.
        """
        self._ask(REMOVE, path)

    def watch(self, path: str) -> "Watch":
        """Have a fd that tells when something at a path, or below it, changes.

        Raises:
            OSError: XenStore cannot be asked.
        """
        return Watch(self._device, path)

    def _ask(self, kind: int, path: str) -> bytes | None:
        with open_store(self._device) as store:
            try:
                return ask(store, kind, path)
            except FileNotFoundError:
                return None


class Watch(Closing):
    """Whether something has changed, or might have."""

    __slots__ = ("_fd",)

    def __init__(self, device: Path, path: str) -> None:
        """Begin; the first look is worth it already.

        Raises:
            OSError: XenStore cannot be asked.
        """
        with ExitStack() as unused:
            fd = unused.enter_context(open_store(device))
            os.write(fd.fileno(), encode(WATCH, path, LABEL))
            # The first event may come before the answer.
            receive(fd, WATCH, WATCH_EVENT)
            os.set_blocking(fd.fileno(), False)
            unused.pop_all()
        self._fd = fd

    def fileno(self) -> int:
        """Return what is readable when something has changed."""
        return self._fd.fileno()

    def drain(self) -> None:
        """Take note of all changes so far.

        Raises:
            OSError: XenStore has hung up.
        """
        while True:
            try:
                data = os.read(self._fd.fileno(), MAX_PAYLOAD)
            except BlockingIOError:
                return
            if not data:
                raise _hung_up()

    def close(self) -> None:
        """See `Closing`."""
        self._fd.close()


def open_store(device: Path = DEVICE) -> OwnedFd:
    """Open the device.

    Raises:
        OSError: it is not there, or not for this user.
    """
    return OwnedFd(os.open(device, os.O_RDWR | os.O_CLOEXEC))


def ask(store: OwnedFd, kind: int, path: str) -> bytes:
    """Ask about a path.  Blocks for a moment.

    Raises:
        OSError: XenStore refuses, or answers something else.
    """
    os.write(store.fileno(), encode(kind, path))
    return receive(store, kind)


def receive(store: OwnedFd, *kinds: int) -> bytes:
    """Receive a message of these kinds.

    Raises:
        OSError: what comes is an error, or of another kind.
    """
    failed, length = decode_header(_exactly(store, HEADER.size), *kinds)
    payload = _exactly(store, length)
    if failed:
        raise as_error(payload)
    return payload


def encode(kind: int, *texts: str) -> bytes:
    """Write a request."""
    payload = b"".join(text.encode() + b"\0" for text in texts)
    return HEADER.pack(kind, 0, 0, len(payload)) + payload


def decode_header(header: bytes, *kinds: int) -> tuple[bool, int]:
    """Read the header of an answer: whether it is an error, and the bytes that follow.

    Raises:
        OSError: EPROTO, if it answers something else, or is too long.
    """
    if len(header) == HEADER.size:
        answered, _, _, length = HEADER.unpack(header)
        if answered in (*kinds, ERROR) and length <= MAX_PAYLOAD:
            return answered == ERROR, length
    raise OSError(errno.EPROTO, "XenStore answers something else")


def as_error(payload: bytes) -> OSError:
    """Make an error of what XenStore says: the name of an errno."""
    name = payload.rstrip(b"\0").decode("ascii", "replace")
    number = getattr(errno, name, errno.EIO) if name.isidentifier() else errno.EIO
    return OSError(
        number if isinstance(number, int) else errno.EIO, f"XenStore: {name}"
    )


def _exactly(store: OwnedFd, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(store.fileno(), size - len(data))
        if not piece:
            raise _hung_up()
        data += piece
    return data


def _hung_up() -> OSError:
    return OSError(errno.EPROTO, "XenStore hung up")
