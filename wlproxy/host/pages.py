"""The seam between the proxy and the hypervisor: where a guest's pages are, and who gets them how.

A *page source* knows how what the agent says of pages (extents) becomes an fd that the
compositor maps.  There is one for each way in which a VM shares its memory: files that are the
VM's RAM, of which udmabuf makes dma-bufs (`host.qemu`), and grants of Xen's (`host.xen`).  All
else in the proxy is the same for them, and asks none of them what it is.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import trio

from wlproxy.host.errors import (
    GuestRamNotSharedError,
    GuestRamNotYetError,
    HostError,
)
from wlproxy.host.report.vm_log import VmLog
from wlproxy.memory.guest_memory import GuestMemory, RamItem
from wlproxy.protocol.channel.frames import Feature, HelloAck
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

_Found = TypeVar("_Found")

PATIENCE: Final = 3.0
"""Seconds for a QEMU that listens to have its RAM, too."""
LOOK_AGAIN: Final = 0.2
"""Seconds between looks for RAM that is not there yet."""


@dataclass(frozen=True, slots=True)
class Vmm:
    """The process that runs the VM.

    Attributes:
        pid: its number; 0 if none is known.
        program: the name it was started by; empty if it has gone.
    """

    pid: int
    program: str


class PageUser(Protocol):
    """Who uses the guest's pages: a session."""

    def ram_shown(self) -> Collection[int]:
        """Which files something is in that is shown, or may be."""

    def ram_changed(self) -> None:
        """Take note that there is another map, and that files may be others."""


class Views(Protocol):
    """The guest's pages as bytes that we read, for mode C.

    Attributes:
        slow: `view` may take longer than others are to wait: it is for a thread.
    """

    slow: bool

    def view(
        self, items: Sequence[RamItem]
    ) -> tuple[Sequence[RamItem], Mapping[int, memoryview]]:
        """Map pages.

        Returns:
            Runs of bytes in what is mapped, in the order of `items`; and that, by what
            `RamItem.file` of these runs is.

        Raises:
            HostError: they cannot be mapped.
        """

    def close(self) -> None:
        """Let go of what is mapped, once nobody reads it.  Again: nothing happens."""


class PageSource(Protocol):
    """How a VM's pages are found, and passed on."""

    @property
    def memory(self) -> GuestMemory:
        """Translates extents, and says how much there is in all."""

    @property
    def features(self) -> Feature:
        """What agents are offered, and have to take, to tell of pages as this wants it."""

    @property
    def vmm(self) -> Vmm:
        """The process that runs the VM, as far as that is known."""

    def __str__(self) -> str:
        """Say what it is, in a few words."""

    def abilities(self, desktop: CompositorCapabilities) -> CompositorCapabilities:
        """Say what can be done with these pages at a compositor.

        Args:
            desktop: what the probe found of the compositor.
        """

    def expect(self, agent: HelloAck) -> None:
        """Check that an agent tells of pages as this needs it.

        Raises:
            GuestRamError: it does not; with the remedy.
        """

    async def verify(self, address: int, token: bytes) -> None:
        """Check that `token` is at an address that the agent has said.

        Others have their turns meanwhile, if it may take long.

        Raises:
            ExtentError: there is no such address.
            GuestRamError: something else is there, or it cannot be read.
        """

    async def try_out(self, compositor: Path) -> None:
        """Try out whether a compositor takes these pages, once they have been proved.

        What comes of it is in `abilities`.

        Args:
            compositor: its socket.
        """

    def is_slow(self, items: Sequence[RamItem]) -> bool:
        """Whether `make` takes longer than others are to wait."""

    def holding(self, items: Sequence[RamItem]) -> AbstractContextManager[None]:
        """Keep what `make` needs for these pages, while a thread makes an fd of them."""

    def make(self, items: Sequence[RamItem]) -> OwnedFd | HostError:
        """Make an fd of pages, for the compositor.  Blocks: if it is slow, for a thread."""

    def views(self) -> Views:
        """Begin to read pages, for one session."""

    async def follow(self, log: VmLog, user: Callable[[], PageUser | None]) -> None:
        """Have the map as it is told, until cancelled, or for as long as it may change.

        Args:
            log: written to.
            user: who uses the pages now; None: nobody does.
        """

    def close(self) -> None:
        """Close what is open.  Again: nothing happens."""


PageProvider = Callable[[FdStream], PageSource]
"""Finds the pages of the guest at the other end of a channel.  Blocks; HostError says why not."""


async def find_pages(
    provide: Callable[[FdStream], _Found], stream: FdStream, log: VmLog
) -> _Found | None:
    """Find the guest's pages, once they are there.

    A QEMU that has just been started makes its sockets first: it has no RAM yet, or has made the
    file and not mapped it.  One that tells of its RAM does so when the guest has booted, and whom
    it tells may be away for a moment.

    Args:
        provide: looks for them; a `PageProvider`.
        stream: the channel to the guest.
        log: told what is waited for, once.

    Returns:
        None: QEMU has closed the channel meanwhile.

    Raises:
        HostError: they cannot be had; with the remedy.
    """
    deadline = trio.current_time() + PATIENCE
    told: set[str] = set()
    while not stream.hung_up:
        try:
            return await trio.to_thread.run_sync(provide, stream)
        except GuestRamNotYetError as exc:
            if exc.problem not in told:
                log.info("waiting for the guest's RAM: %s", exc)
            told.add(exc.problem)
        except GuestRamNotSharedError:
            if trio.current_time() >= deadline:
                raise
        await trio.sleep(LOOK_AGAIN)
    log.warning("QEMU has closed the channel before the guest's RAM was found")
    return None
