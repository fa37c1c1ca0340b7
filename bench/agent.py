"""wlproxy's agent on the proxy's own kernel: the real one, but for where pages are.

    python -m bench.agent DIRECTORY -machine q35

To the proxy this process is the QEMU, too: it has the RAM, listens at DIRECTORY/channel, and its
command line names a machine.  So agent and proxy are joined by one socket, with nobody between.

Pages of an app are populated and pinned as where there is no kernel module.  Only their
addresses are made up, since the pagemap's are of no use here: a free range of the RAM, and at its
beginning a `Note` of whose memory is meant, for `bench.proxy`.
"""

import errno
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.note import Note
from tests.chaos.agent import Room
from tests.chaos.machine import RAM_SIZE, make_ram
from wlproxy.protocol.channel.frames import Extent, Feature, LocateStatus
from wlproxy.transport.fds import OwnedFd, duplicate
from wlproxy_guest import cli
from wlproxy_guest.locating.mapping import (
    PAGE_SIZE,
    AlignedMapping,
    round_down,
    round_up,
)
from wlproxy_guest.locating.page_locator import LocateError, PinnedRange, check_range
from wlproxy_guest.locating.pin import PipePin


@dataclass(slots=True)
class LentPin:
    """Pipes that hold an app's pages, an fd of its file, and the range that stands for it."""

    pipes: PipePin
    file: OwnedFd | None
    room: Room
    place: tuple[int, int] | None

    def close(self) -> None:
        """Let all of it go; again is harmless."""
        self.pipes.close()
        if self.file is not None:
            self.file.close()
        if self.place is not None:
            self.room.give_back(*self.place)
            self.place = None


class LendingLocator:
    """Stands in for `ModuleLocator`."""

    def __init__(self, ram: int) -> None:
        """Put notes into the file that is the RAM."""
        self._ram = ram
        self._room = Room(RAM_SIZE)

    def close(self) -> None:
        """Nothing is open but the RAM."""

    def find_features(self) -> Feature:
        """As where there is no module."""
        return Feature.LOCATE_MEMFD

    def place_token(self, token: bytes) -> PinnedRange:
        """Put a token into a page of the RAM."""
        return self._range(PipePin(), None, PAGE_SIZE, token)

    def locate(
        self, fd: int, offset: int, length: int, collapse_above: int
    ) -> PinnedRange:
        """Populate and pin; then say a range that nobody else has."""
        try:
            size = os.fstat(fd).st_size
            check_range(offset, length, size)
            start = round_down(offset, PAGE_SIZE)
            end = round_up(offset + length, PAGE_SIZE)
            pipes = PipePin()
            with AlignedMapping(fd, start, end) as mapping:
                mapping.populate(start, end)
                pipes.hold(fd, start, min(end, size))
            file = duplicate(fd)
        except EOFError:
            raise LocateError(LocateStatus.OUT_OF_RANGE) from None
        except OSError as exc:
            raise LocateError(LocateStatus.FAILED, exc.errno or errno.EIO) from exc
        note = Note(os.getpid(), file.fileno(), start)
        return self._range(pipes, file, end - start, note.encode())

    def _range(
        self, pipes: PipePin, file: OwnedFd | None, length: int, content: bytes
    ) -> PinnedRange:
        pin = LentPin(pipes, file, self._room, None)
        try:
            place = self._room.take(length)
        except LocateError:
            pin.close()
            raise
        pin.place = (place, length)
        os.pwrite(self._ram, content, place)
        return PinnedRange((Extent(place, length),), pin, pinned=length)


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
    assert "ModuleLocator" in vars(cli)  # else nothing is replaced
    vars(cli)["ModuleLocator"] = lambda: LendingLocator(ram)
    return cli.main(["--socket", str(directory / "wayland-0"), "--port", f"fd:{wire}"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
