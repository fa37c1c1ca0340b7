"""A vchan of Xen's: two rings in pages that one domain shares with another, by libxenvchan.

The domain that *serves* grants the pages, and says in XenStore where they are; the other one maps
them.  Each has a fd, an event channel's, which is readable when the other has read, written or gone.
What the other domain writes into the pages that are shared, the library has to take care of: it copies
the sizes of the rings once, and takes a position that cannot be for an empty, or full, ring (XSA-86).

No call here waits.  The library's name has Xen's version in it, and its only constant is its header,
libxenvchan.h, so it is loaded when it is needed.
"""

import ctypes
import ctypes.util
import errno
from typing import Final, Protocol

from wlproxy.transport.closable import Closing

RING: Final = 64 * 1024
"""Bytes of each of the two rings, so that both are 33 grants."""
NODE: Final = "data/wlproxy"
"""In XenStore, below the directory of the domain that serves, which may write to its `data`.  Names there
have no dots, so this is not the channel's own name."""
REMEDY: Final = (
    "Install the package that has it (Debian: libxenmisc, with Xen's version)."
)


class VchanClosedError(Exception):
    """The other domain has closed it, or nobody is there any more."""


class Vchan(Protocol):
    """One end of a vchan: it carries bytes both ways, and never waits."""

    def fileno(self) -> int:
        """Return the fd that is readable when the other end has done something."""

    def acknowledge(self) -> None:
        """Take note of what made the fd readable, which it has to be.

        Raises:
            VchanClosedError: there will be no more.
        """

    def read(self, size: int) -> bytes:
        """Read what is there.  Nothing: the fd will tell when there is more.

        Raises:
            VchanClosedError: there is nothing more to come.
        """

    def write(self, data: bytes) -> int:
        """Write as much as there is room for.  If that is not all, the fd will tell of more.

        Raises:
            VchanClosedError: nobody reads it any more.
        """

    def close(self) -> None:
        """Close it; the other end can still read what was written.  Again: nothing happens."""


class _Ring(ctypes.Structure):
    """struct libxenvchan_ring."""

    _fields_ = (
        ("shared", ctypes.c_void_p),
        ("buffer", ctypes.c_void_p),
        ("order", ctypes.c_int),
    )


class _Control(ctypes.Structure):
    """struct libxenvchan."""

    _fields_ = (
        ("grants", ctypes.c_void_p),
        ("ring", ctypes.c_void_p),
        ("event", ctypes.c_void_p),
        ("event_port", ctypes.c_uint32),
        ("is_server", ctypes.c_int, 1),
        ("server_persist", ctypes.c_int, 1),
        ("blocking", ctypes.c_int, 1),
        ("read", _Ring),
        ("write", _Ring),
        ("path", ctypes.c_char_p),
    )


_Pointer = ctypes.POINTER(_Control)


class Library:
    """libxenvchan, loaded."""

    def __init__(self, name: str = "") -> None:
        """Load it.

        Args:
            name: of the file; by default what the system has.

        Raises:
            OSError: it is not there.
        """
        found = name or ctypes.util.find_library("xenvchan")
        if not found:
            raise OSError(errno.ENOENT, f"libxenvchan is not here. {REMEDY}")
        try:
            self.calls = calls = ctypes.CDLL(found, use_errno=True)
        except OSError as exc:  # of the loader, which has no number for it
            raise OSError(errno.ELIBACC, f"{exc}. {REMEDY}") from exc
        size, text = ctypes.c_size_t, ctypes.c_char_p
        start = (ctypes.c_void_p, ctypes.c_int, text)
        calls.libxenvchan_server_init.argtypes = (*start, size, size)
        calls.libxenvchan_server_init.restype = _Pointer
        calls.libxenvchan_client_init.argtypes = start
        calls.libxenvchan_client_init.restype = _Pointer
        calls.libxenvchan_read.argtypes = (_Pointer, ctypes.c_void_p, size)
        calls.libxenvchan_write.argtypes = (_Pointer, text, size)
        for call in (
            calls.libxenvchan_wait,
            calls.libxenvchan_is_open,
            calls.libxenvchan_fd_for_select,
            calls.libxenvchan_close,
        ):
            call.argtypes = (_Pointer,)
        calls.libxenvchan_close.restype = None

    def serve(self, domid: int, path: str) -> "LibraryVchan":
        """Make rings for another domain.

        Args:
            domid: the other domain.
            path: in XenStore, of what that one has to know; relative to our own domain's.

        Raises:
            OSError: they cannot be made.
        """
        control = self.calls.libxenvchan_server_init(
            None, domid, path.encode(), RING, RING
        )
        return self._made(control, "cannot make a vchan", serves=True)

    def connect(self, domid: int, path: str) -> "LibraryVchan":
        """Map the rings of another domain, which may have stopped serving them.

        Args:
            domid: the other domain.
            path: in XenStore, where that one says what has to be known.

        Raises:
            OSError: they cannot be mapped.
        """
        control = self.calls.libxenvchan_client_init(None, domid, path.encode())
        return self._made(control, "cannot map the domain's vchan", serves=False)

    def _made(
        self,
        control: "ctypes._Pointer[_Control]",
        problem: str,
        *,
        serves: bool,
    ) -> "LibraryVchan":
        if not control:  # type: ignore[truthy-bool]  # NULL is false
            raise OSError(ctypes.get_errno() or errno.EIO, problem)
        made = LibraryVchan(self, control)
        if bool(control.contents.is_server) is not serves:
            made.close()
            raise OSError(errno.EPROTO, "this libxenvchan is none that is known here")
        control.contents.blocking = 0
        return made


class LibraryVchan(Closing):
    """A vchan that the library has made; see `Vchan`."""

    def __init__(self, library: Library, control: "ctypes._Pointer[_Control]") -> None:
        """Take it over."""
        self._calls = library.calls
        self._control: ctypes._Pointer[_Control] | None = control
        self._buffer = ctypes.create_string_buffer(RING)

    @property
    def _handle(self) -> "ctypes._Pointer[_Control]":
        """What the library knows it by; after `close` that is freed memory.

        Raises:
            VchanClosedError: it is closed.
        """
        if self._control is None:
            raise VchanClosedError
        return self._control

    @property
    def is_open(self) -> bool:
        """Whether the other end is there, or may still come."""
        return bool(self._calls.libxenvchan_is_open(self._handle))

    def fileno(self) -> int:
        """See `Vchan`."""
        return int(self._calls.libxenvchan_fd_for_select(self._handle))

    def acknowledge(self) -> None:
        """See `Vchan`.

        Raises:
            VchanClosedError: the event channel is broken.
        """
        if self._calls.libxenvchan_wait(self._handle) < 0:
            raise VchanClosedError

    def read(self, size: int) -> bytes:
        """See `Vchan`.

        Raises:
            VchanClosedError: there is nothing more to come.
        """
        size = min(size, RING)
        got = self._calls.libxenvchan_read(self._handle, self._buffer, size)
        if got < 0:
            raise VchanClosedError
        return ctypes.string_at(self._buffer, got)

    def write(self, data: bytes) -> int:
        """See `Vchan`.

        Raises:
            VchanClosedError: nobody reads it any more.
        """
        put = int(self._calls.libxenvchan_write(self._handle, data, len(data)))
        if put < 0:
            raise VchanClosedError
        return put

    def close(self) -> None:
        """See `Vchan`."""
        control, self._control = self._control, None
        if control is not None:
            self._calls.libxenvchan_close(control)
