"""wlproxy's agent on the proxy's own kernel: the real one, but for where pages are.

    python -m bench.agent DIRECTORY -machine q35

To the proxy this process is the QEMU, too: it has the RAM, listens at DIRECTORY/channel, and its
command line names a machine.  So agent and proxy are joined by one socket, with nobody between.

Pages of an app are populated, pinned and looked up as where there is no kernel module (looked up
by root alone).  Only the addresses that the proxy is told are made up, since the real ones are of no
use here: a free range of the RAM, and at its beginning a `Note` of whose memory is meant, for
`bench.proxy`.
"""

import os
import socket
import sys
from pathlib import Path

from bench.note import Note
from tests.chaos.agent import RangePin, StandIn, run_agent
from tests.chaos.machine import make_ram
from wlproxy.protocol.channel.frames import Extent, LocateStatus
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fds import duplicate
from wlproxy_guest.hanging_files import close_large
from wlproxy_guest.locating.mapping import PAGE_SIZE, pages_of
from wlproxy_guest.locating.page_locator import LocateError, PageLocator, PinnedRange


class LendingLocator(StandIn):
    """Has a note in the range of the RAM, where others have a copy of the pages."""

    def __init__(self, ram: int) -> None:
        """Use the file that is the RAM, which stays open."""
        super().__init__(ram)
        self._pages = PageLocator()

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """Look the pages up, and pin them; then say a range that nobody else has."""
        try:
            found = self._pages.locate(fd, offset, length, collapse_above)
        except LocateError as exc:
            if exc.status is not LocateStatus.NOT_PERMITTED:
                raise
            return super().locate(fd, offset, length, collapse_above)
        pin = RangePin(self.room, found.pin)
        with closed_on_error(pin):
            start, end = pages_of(offset, length)
            place = pin.take(end - start)
            self.fill(pin, fd, start, end)
        return PinnedRange((Extent(place, end - start),), pin, pinned=end - start)

    def place_token(self, token: bytes) -> PinnedRange:
        """Put a token into a page of the RAM itself."""
        pin = RangePin(self.room)
        with closed_on_error(pin):
            place = pin.take(PAGE_SIZE)
            os.pwrite(self.ram, token, place)
        return PinnedRange((Extent(place, PAGE_SIZE),), pin, pinned=PAGE_SIZE)

    def fill(self, pin: RangePin, fd: int, start: int, _end: int) -> None:
        """Say whose memory is meant, and keep that open."""
        assert pin.place is not None
        place, _ = pin.place
        pin.file = duplicate(fd, close_large)
        note = Note(os.getpid(), pin.file.fileno(), start)
        os.pwrite(self.ram, note.encode(), place)


def accept_proxy(path: Path) -> int:
    """Wait for a proxy at a path; return the fd of the wire to it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        connected, _ = listening.accept()
        return connected.detach()


def main(directory: Path) -> int:
    """Be the machine, and the agent in it."""
    ram, _mapping = make_ram()
    wire = accept_proxy(directory / "channel")
    options = ("--socket", str(directory / "wayland-0"), "--port", f"fd:{wire}")
    return run_agent(lambda: LendingLocator(ram), *options)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
