"""The guest's RAM: found in QEMU's process or told by the VMM, checked, and read.

This finds the memfds that back the guest's RAM, and the map from guest-physical addresses to
them.  A VMM that has a vhost-user device tells both, and again when they change (`host.vhost_user`).
The map is not trusted: `host.link` has it proved (`verify`).  No other module reads guest
memory.
"""

import mmap
import os
import socket
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from wlproxy.host.desktop.udmabuf_device import seal_error
from wlproxy.host.errors import (
    GuestRamError,
    GuestRamLayoutError,
    GuestRamNotSharedError,
    GuestRamNotYetError,
    GuestRamSealError,
    GuestRamUnreadableError,
    GuestRamWrongMapError,
)
from wlproxy.host.qemu.args import ram_options
from wlproxy.host.qemu.process import (
    PID_REMEDY,
    QMP_REMEDY,
    BackendFile,
    backend_files,
    machine_layout,
    machine_of,
    unreadable,
)
from wlproxy.host.qemu.qmp import QmpClient, parse_memory_map, parse_ram_blocks
from wlproxy.host.vhost_user.table import Table, identity
from wlproxy.memory.extents import round_out
from wlproxy.memory.guest_memory import (
    FILE_BITS,
    HOST_PAGE_SIZE,
    GuestMemory,
    RamRegion,
)
from wlproxy.protocol.channel.frames import Extent
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.transport.closable import Closing, closed_on_error
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.peer import peer_credentials

MAX_RAM_FILES: Final = 1 << FILE_BITS
_SHARE_REMEDY: Final = (
    f"Add to QEMU's command line (`wlproxy qemu-args` has all of it):\n"
    f"  {ram_options()}\n"
    "libvirt: <memoryBacking><source type='memfd'/><access mode='shared'/>"
    "</memoryBacking>"
)


def peer_pid(channel: socket.socket) -> int:
    """Ask who listens at the other end of a channel: QEMU, if it made the socket itself.

    Raises:
        GuestRamUnreadableError: the kernel does not say.
    """
    pid = peer_credentials(channel).pid
    if pid <= 0:
        raise GuestRamUnreadableError(
            "who made the channel's socket is not visible from here (another pid "
            "namespace?)",
            tried="SO_PEERCRED",
            remedy="Run wlproxy where QEMU runs, or name its process with --qemu-pid.",
        )
    return pid


def open_guest_ram(pid: int, qmp: Path | None = None) -> "GuestRam":
    """Find, open and check the RAM of the guest that QEMU process `pid` runs.

    Args:
        pid: QEMU's process, from `peer_pid` or `--qemu-pid`.
        qmp: QEMU's monitor socket, which knows the map of any machine.

    Raises:
        GuestRamError: or a subclass, with the remedy.
        QmpError: the monitor was named but does not answer.
    """
    backends = _shared_backends(pid)
    if qmp is None:
        layout = "of the machine type on QEMU's command line"
        if len(backends) > 1:
            raise GuestRamLayoutError(
                f"the guest's RAM is {len(backends)} separate backends (NUMA nodes, "
                "DIMMs), and where each of them goes is not known",
                remedy=QMP_REMEDY,
            )
        regions = machine_layout(machine_of(pid), backends[0].size)
    else:
        layout = "from QEMU's monitor"
        regions = _monitor_layout(qmp, backends)
    try:
        memory = GuestMemory(regions)
    except LocalProtocolError as exc:
        raise GuestRamLayoutError(f"QEMU's map of the RAM is odd: {exc}") from exc
    files = dict(enumerate(_open_all(pid, backends)))
    return GuestRam(pid, files, memory, layout)


def told_ram(table: Table) -> "GuestRam":
    """Check the RAM that the VMM has told of.

    Args:
        table: as the tap has it; its files are the RAM's, or closed.

    Raises:
        GuestRamNotYetError: the VMM has not told, or is not there.
        GuestRamError: or a subclass, with the remedy.
    """
    with closed_on_error(table):
        if not table.regions and not table.left_out:
            raise GuestRamNotYetError(
                "the VMM has not told where the guest's RAM is",
                remedy="It does when the guest has started its driver for virtio disks. Is "
                "the device there? (`wlproxy qemu-args --ram-tap` prints it.)",
            )
        if not table.regions and table.left_out:
            raise GuestRamSealError(
                f"the VMM has told of {table.left_out} regions of shared memory, and no "
                "dma-buf can be made of any (the log of `wlproxy ram-tap` says why)",
                remedy=_SHARE_REMEDY,
            )
        layout = "as the VMM tells it"
        if table.left_out:
            layout += f", less {table.left_out} regions that cannot be used"
        ram = GuestRam(table.pid, {}, GuestMemory(()), layout)
        ram.update(table)
    return ram


@dataclass(frozen=True, slots=True)
class GuestRam(Closing):
    """RAM files of a guest and the map of them.

    Attributes:
        pid: QEMU's process.
        files: the memfds, open for reading and writing as udmabuf wants them, by
            what `RamItem.file` and `RamRegion.file` are.
        memory: the map.
        layout: where the map is from, for people.
    """

    pid: int
    files: dict[int, OwnedFd]
    memory: GuestMemory
    layout: str

    def update(self, table: Table, shown: Collection[int] = ()) -> list[OwnedFd]:
        """Have the map that the VMM tells now: RAM was plugged, or unplugged.

        Args:
            table: its files are ours, or closed.
            shown: files that windows still show, whether they are plugged or not.

        Returns:
            The files of RAM that was unplugged, for the caller to close.  It takes the
            kernel a second to give back what is large.

        Raises:
            GuestRamError: it cannot be the guest's RAM; then all is as it was.
        """
        known = {identity(file): index for index, file in self.files.items()}
        with closed_on_error(table):
            told = [identity(file) for file in table.files]
            kept = {known[each] for each in told if each in known}.union(shown)
            free = (index for index in range(MAX_RAM_FILES) if index not in kept)
            new: dict[int, OwnedFd] = {}
            for each, file in zip(told, table.files, strict=True):
                _check_seals(file.fileno())
                if known.get(each) in kept:
                    continue
                index = next(free, None)
                if index is None:
                    raise GuestRamLayoutError(
                        f"the guest's RAM is in over {MAX_RAM_FILES} files, with those "
                        "that were unplugged and that windows still show"
                    )
                known[each] = index
                kept.add(index)
                new[index] = file
            try:
                self.memory.replace(
                    replace(each, file=known[told[each.file]]) for each in table.regions
                )
            except LocalProtocolError as exc:
                raise GuestRamLayoutError(
                    f"the VMM's map of the RAM is odd: {exc}"
                ) from exc
        unplugged = [
            self.files.pop(index)
            for index in tuple(self.files)
            if index not in kept or index in new
        ]
        self.files.update(new)
        for file in table.files:
            if file not in new.values():
                file.close()
        return unplugged

    @property
    def unplugged(self) -> set[int]:
        """The files of RAM that was unplugged while windows showed what is in them."""
        return self.files.keys() - {region.file for region in self.memory.regions}

    def drop_unplugged(self, shown: Collection[int]) -> list[OwnedFd]:
        """Let go of files of unplugged RAM that windows do not show any more.

        Returns:
            As `update`.
        """
        return [self.files.pop(index) for index in self.unplugged.difference(shown)]

    def read(self, gpa: int, length: int) -> bytes:
        """Read guest memory.

        Raises:
            ExtentError: the range is not in RAM.
            GuestRamError: the file could not be read.
        """
        start, size = round_out(gpa, length, HOST_PAGE_SIZE)
        pieces = []
        for item in self.memory.translate((Extent(start, size),)):
            fd = self._file(item.file).fileno()
            with GuestRamError.explaining("guest RAM cannot be read", tried="pread"):
                pieces.append(os.pread(fd, item.length, item.offset))
        return b"".join(pieces)[gpa - start :][:length]

    def verify(self, gpa: int, token: bytes) -> None:
        """Check that `token` is at `gpa`.

        Raises:
            ExtentError: `gpa` is not in RAM.
            GuestRamWrongMapError: something else is there.
        """
        if self.read(gpa, len(token)) != token:
            raise GuestRamWrongMapError(
                f"the guest's page at {gpa:#x} is not where the map says (the map is "
                f"{self.layout}, process {self.pid})",
                remedy=f"Is {self.pid} the QEMU of this guest?\n{PID_REMEDY}\n"
                f"{QMP_REMEDY}",
            )

    def map(self, file: int) -> mmap.mmap:
        """Map a whole RAM file, shared and read-only.  The caller closes it.

        Raises:
            GuestRamError: it cannot be mapped.
        """
        fd = self._file(file).fileno()
        with GuestRamError.explaining("guest RAM cannot be mapped", tried="mmap"):
            return mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)

    def close(self) -> None:
        """Close the files.  Again: nothing happens."""
        for file in self.files.values():
            file.close()

    def _file(self, index: int) -> OwnedFd:
        try:
            return self.files[index]
        except KeyError:
            raise GuestRamError("the RAM that it was in has been unplugged") from None


def _shared_backends(pid: int) -> list[BackendFile]:
    backends = backend_files(pid)
    if not backends:
        machine = machine_of(pid)
        raise GuestRamNotSharedError(
            f"process {pid} ({machine.program}) has no memfd that could be guest RAM",
            remedy=f"{_SHARE_REMEDY}\n{PID_REMEDY}",
        )
    if not all(backend.shared for backend in backends):
        raise GuestRamNotSharedError(
            f"QEMU (process {pid}) has mapped guest RAM privately: what the guest "
            "writes stays in QEMU",
            remedy=_SHARE_REMEDY,
        )
    return backends


def _open_all(pid: int, backends: list[BackendFile]) -> tuple[OwnedFd, ...]:
    with ExitStack() as opened:
        files: list[OwnedFd] = []
        try:
            for backend in backends:
                fd = OwnedFd(os.open(backend.link, os.O_RDWR | os.O_CLOEXEC))
                files.append(opened.enter_context(fd))
                _check_file(fd.fileno(), backend)
        except OSError as exc:
            raise unreadable(pid, exc) from exc
        opened.pop_all()
    return tuple(files)


def _check_file(fd: int, backend: BackendFile) -> None:
    if os.fstat(fd).st_ino != backend.inode:
        raise GuestRamError(f"QEMU changed its files meanwhile ({backend.link})")
    _check_seals(fd)


def _check_seals(fd: int) -> None:
    if unsuitable := seal_error(fd):
        raise GuestRamSealError(
            f"guest RAM cannot be made into dma-bufs: {unsuitable}",
            remedy="Leave seal=on, the default of -object memory-backend-memfd, as it "
            "is.",
        )


def _monitor_layout(qmp: Path, backends: list[BackendFile]) -> tuple[RamRegion, ...]:
    with QmpClient(qmp) as monitor:
        blocks = parse_ram_blocks(monitor.monitor("info ramblock"))
        pieces = parse_memory_map(monitor.monitor("info mtree -f"))
    # A block is the file that is mapped at the block's address.
    file_of = {
        block.name: index
        for block in blocks
        for index, backend in enumerate(backends)
        if any(each.start <= block.hva < each.end for each in backend.mappings)
    }
    regions = tuple(
        RamRegion(piece.gpa, piece.length, file_of[piece.block], piece.offset)
        for piece in pieces
        if piece.block in file_of
    )
    if not regions:
        raise GuestRamLayoutError(
            f"the monitor at {qmp} does not know the RAM of process "
            f"{backends[0].link.parent.parent.name}",
            remedy="Is it the monitor of the same QEMU?",
        )
    return regions
