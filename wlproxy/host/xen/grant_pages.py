"""Pages that a domain of Xen's has granted to ours, as fds for its compositor.

An extent's address is a grant reference times the page size, and so is the offset of an item: there
is one "file", which is the domain's grant table.  Xen knows whose a page is: nobody here could name
a page that this domain did not give us.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from wlproxy.host.config import DEFAULT_GRANT_FRAMES
from wlproxy.host.desktop.probe import try_shm_pool
from wlproxy.host.errors import (
    CompositorRefusedError,
    GrantError,
    GuestRamError,
    GuestRamWrongMapError,
    HostError,
    NoCompositorError,
)
from wlproxy.host.pages import PageSource, PageUser, Views, Vmm
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.xen.domain import Domain
from wlproxy.host.xen.gntdev import FIRST_REF, Granted, Run, map_pages
from wlproxy.memory.guest_memory import GuestMemory, RamItem, RamRegion
from wlproxy.protocol.channel.extents import GRANT_SIZE
from wlproxy.protocol.channel.frames import Extent, Feature, HelloAck
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.transport.fds import OwnedFd

REFS_PER_FRAME: Final = GRANT_SIZE // 8
"""Grant references in a frame of a grant table (grant_entry_v1, xen/interface/grant_table.h)."""
TRIAL_SECONDS: Final = 10.0
"""For a compositor to show a page."""
TRIAL_STRIDES, TRIAL_ROWS = (64,), 16
"""For a buffer that is in one page."""
NO_DMABUF: Final = "what Xen's gntdev makes is no dma-buf"


class GrantPages(PageSource):
    """Makes fds of the grants of one domain."""

    features = Feature.GRANTS

    def __init__(
        self,
        domain: Domain,
        granted: Granted,
        program: str,
        frames: int = DEFAULT_GRANT_FRAMES,
    ) -> None:
        """Map nothing yet.

        Args:
            domain: which.
            granted: makes fds of what that domain has granted.
            program: the name of the process at the channel's other end.
            frames: of the domain's grant table, at most.

        Raises:
            GrantError: no fd can be made at all; with the remedy.
        """
        self._domain = domain
        self._granted = granted
        self._vmm = Vmm(domain.pid, program)
        self._memory = grant_table(frames)
        self._limit = granted.limit()
        self._proved: Run | None = None
        self._refused = ""

    @property
    def memory(self) -> GuestMemory:
        """See `PageSource`: the references there can be."""
        return self._memory

    @property
    def vmm(self) -> Vmm:
        """See `PageSource`."""
        return self._vmm

    def __str__(self) -> str:
        pages = self.memory.size // GRANT_SIZE
        return f"{pages} grants of Xen's domain {self._domain.domid}, at most"

    def abilities(self, desktop: CompositorCapabilities) -> CompositorCapabilities:
        """See `PageSource`: mode A, if that is not known to fail, and never mode B."""
        return replace(
            desktop,
            shm_udmabuf=not self._refused,
            shm_udmabuf_reason=self._refused,
            shm_once=True,
            dmabuf_stride_alignment={},
            dmabuf_reason=NO_DMABUF,
            udmabuf_list_limit=self._limit,
            udmabuf_size_limit=self._limit * GRANT_SIZE,
        )

    def expect(self, agent: HelloAck) -> None:
        """See `PageSource`."""
        if Feature.GRANTS not in agent.features:
            raise GuestRamError(
                f"the guest agent grants no pages, and those of Xen's domain "
                f"{self._domain.domid} are had in no other way",
                remedy="In the guest it needs the kernel module gem_grant; "
                "`wlproxy-guest-agent doctor` says why it has none.",
                for_guest="the host is a domain of Xen's: the agent needs the kernel module "
                "gem_grant to grant it pages",
            )

    async def verify(self, address: int, token: bytes) -> None:
        """See `PageSource`: by a fd of its own, which only we map; in a thread."""
        [run] = _runs(self.memory.translate((Extent(address, GRANT_SIZE),)))
        await trio.to_thread.run_sync(self._check, run, token, abandon_on_cancel=True)
        self._proved = run

    def _check(self, run: Run, token: bytes) -> None:
        """Check that a page has a token.  Blocks.

        Raises:
            GuestRamError: it has not, or cannot be mapped.
        """
        with self._granted.open((run,)) as fd:
            try:
                page = map_pages(fd, 1)
            except GrantError as exc:
                raise self._wrong(run[0]) from exc
            with page:
                found = page[: len(token)]
        if found != token:
            raise self._wrong(run[0])

    async def try_out(self, compositor: Path) -> None:
        """See `PageSource`: by a pool of the page that was proved, in a window that nobody sees."""
        try_pool = partial(self._try_pool, compositor)
        self._refused = await trio.to_thread.run_sync(try_pool, abandon_on_cancel=True)

    def _try_pool(self, compositor: Path) -> str:
        """Say why a compositor does not take granted pages, or nothing.  Blocks."""
        assert self._proved is not None
        deadline = time.monotonic() + TRIAL_SECONDS
        try:
            with self._granted.open((self._proved,)) as fd:
                try_shm_pool(
                    *(compositor, fd.fileno(), deadline),
                    size=GRANT_SIZE,
                    strides=TRIAL_STRIDES,
                    rows=TRIAL_ROWS,
                )
        except NoCompositorError:
            pass  # the next one is tried with the next session
        except CompositorRefusedError as exc:
            return f"the compositor does not take granted pages: {exc.problem}"
        except GrantError as exc:
            return exc.problem
        except KeyError as exc:
            return f"the compositor has no {exc.args[0]}"
        return ""

    def is_slow(self, items: Sequence[RamItem]) -> bool:
        """See `PageSource`."""
        pages = sum(item.length for item in items) // GRANT_SIZE
        return pages > self._granted.at_once

    @contextmanager
    def holding(self, items: Sequence[RamItem]) -> Iterator[None]:
        """See `PageSource`: there is nothing to be kept."""
        yield

    def make(self, items: Sequence[RamItem]) -> OwnedFd | HostError:
        """See `PageSource`."""
        try:
            return self._granted.open(_runs(items))
        except HostError as exc:
            return exc

    def views(self) -> "GrantViews":
        """See `PageSource`."""
        return GrantViews(self._granted)

    async def follow(self, log: VmLog, user: Callable[[], PageUser | None]) -> None:
        """See `PageSource`: a grant table stays where it is."""

    def close(self) -> None:
        """See `PageSource`: each fd is its buffer's."""

    def _wrong(self, reference: int) -> GuestRamWrongMapError:
        domid = self._domain.domid
        return GuestRamWrongMapError(
            f"the guest's page is not what Xen's domain {domid} has granted us as "
            f"{reference}",
            remedy=f"Is it domain {domid} that this channel belongs to? `xl list` has the "
            "numbers; --xen-domid says which. And does its agent grant pages to this "
            "domain? (`backend=` of its module gem_grant, 0 for dom0.)",
        )


class GrantViews(Views):
    """Granted pages as bytes: each list of them is a mapping of its own."""

    __slots__ = ("_granted",)

    slow = True
    """A mapping of a 4K buffer takes milliseconds; a process that is to make its fd, seconds."""

    def __init__(self, granted: Granted) -> None:
        self._granted = granted

    def view(
        self, items: Sequence[RamItem]
    ) -> tuple[Sequence[RamItem], Mapping[int, memoryview]]:
        """See `Views`: one run, since they are mapped one after the other.

        Raises:
            GrantError: they cannot be mapped.
        """
        length = sum(item.length for item in items)
        with self._granted.open(_runs(items)) as fd:
            mapped = map_pages(fd, length // GRANT_SIZE)
        return (RamItem(0, 0, length),), {0: memoryview(mapped)}

    def close(self) -> None:
        """See `Views`: a mapping goes with the buffer that it is for."""


def grant_table(frames: int) -> GuestMemory:
    """Lay out a grant table of so many frames: what addresses may name."""
    first, end = FIRST_REF, frames * REFS_PER_FRAME
    start, length = first * GRANT_SIZE, (end - first) * GRANT_SIZE
    return GuestMemory((RamRegion(start, length, 0, start),), what="a grant")


def _runs(items: Iterable[RamItem]) -> list[Run]:
    return [(item.offset // GRANT_SIZE, item.length // GRANT_SIZE) for item in items]
