"""A domain's vchan, as dom0 has it: the guest serves it, and dom0 maps what it grants.

In XenStore the guest says which grant its rings are, and which event channel goes with it.  Whoever
maps them takes that away at once: a grant's number is soon another grant's, for example one of the
guest's disk, if the guest's process dies, and nobody is to map that for a ring.  So a vchan is good for
one connection, and the guest makes another one for the next.
"""

import logging
import os
from typing import Final, Protocol

from wlproxy.host.errors import HostError
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.vchan import NODE, LibraryVchan
from wlproxy.transport.xenstore import Store

RING_KEY: Final = "ring-ref"
"""What the guest's library writes, below the path, when its rings can be mapped."""

log = logging.getLogger(__name__)


class Connects(Protocol):
    """Maps vchans: the library (`transport.vchan.Library`)."""

    def connect(self, domid: int, path: str) -> LibraryVchan:
        """Map the rings of another domain.

        Raises:
            OSError: they cannot be mapped.
        """


class DomainGoneError(HostError):
    """There is no domain of that number, or not any more."""


class DomainVchans(Closing):
    """The vchans that a domain makes, one after the other (see `transport.vchan_bridge.Source`)."""

    def __init__(self, domid: int, library: Connects, store: Store) -> None:
        """Watch the domain.

        Args:
            domid: its number.
            library: maps what it grants.
            store: where it says what that is.

        Raises:
            DomainGoneError: there is none of that number.
            OSError: XenStore cannot be asked.
        """
        self._domid = domid
        self._library = library
        self._store = store
        self._complaint = ""
        self._domain = f"/local/domain/{domid}"
        self._path = f"{self._domain}/{NODE}"
        # All of it, so that its end is noticed, too.
        self._watch = store.watch(self._domain)
        with closed_on_error(self._watch):
            self._check_there()

    def open(self) -> LibraryVchan | None:
        """See `Source`.

        Raises:
            OSError: XenStore cannot be asked.
        """
        if self._store.read(f"{self._path}/{RING_KEY}") is None:
            return None
        try:
            vchan = self._library.connect(self._domid, self._path)
        except OSError as exc:
            self._complain(f"{exc.strerror}: {os.strerror(exc.errno or 0)}")
            return None
        with closed_on_error(vchan):
            if vchan.is_open:
                self._store.remove(f"{self._path}/{RING_KEY}")
                self._complaint = ""
                return vchan
        vchan.close()
        self._complain("who made the domain's vchan has gone")
        return None

    def _complain(self, complaint: str) -> None:
        """Say it once: the guest may cause it as often as it likes."""
        if complaint != self._complaint:
            log.warning("%s; waiting for the guest to make another", complaint)
        self._complaint = complaint

    def fileno(self) -> int:
        """See `Source`."""
        return self._watch.fileno()

    def look(self) -> None:
        """See `Source`.

        Raises:
            DomainGoneError: the domain has gone.
            OSError: XenStore cannot be asked.
        """
        self._watch.drain()
        self._check_there()

    def close(self) -> None:
        """Watch it no more."""
        self._watch.close()

    def _check_there(self) -> None:
        if self._store.read(self._domain) is None:
            raise DomainGoneError(
                f"there is no domain {self._domid}, or not any more",
                remedy="A domain that is started anew has another number (`xl domid NAME`).",
            )
