"""Grants in place of RAM: what the relay is told, what a proof shows, what hostile domains get."""

import errno
import os
import threading
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.host.conftest import Weston
from tests.host.xen.fake_domain import PAGE, FakeDomain
from wlproxy.host.client.pixels import Copy, CopyBuffer, PixelCopier
from wlproxy.host.errors import (
    GrantError,
    GuestRamError,
    GuestRamWrongMapError,
    HostError,
)
from wlproxy.host.pages import Vmm
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.xen import grant_pages
from wlproxy.host.xen.domain import Domain
from wlproxy.host.xen.gntdev import FIRST_REF
from wlproxy.host.xen.grant_pages import NO_DMABUF, GrantPages, grant_table
from wlproxy.memory.guest_memory import ExtentError, RamItem
from wlproxy.protocol.channel.frames import Extent, Feature, HelloAck
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import CopyRows
from wlproxy.relay.handles import Handle
from wlproxy.transport.fds import OwnedFd

TOKEN = bytes(range(32))
LAST = 64 * 512 - 1
"""The last reference of a table of the usual size."""


class Bench:
    def __init__(self) -> None:
        self.domain = FakeDomain()
        self.pages = GrantPages(Domain(5, 77), self.domain, "qemu-system-i386")

    def items(self, *refs: int) -> tuple[RamItem, ...]:
        extents = [Extent(ref * PAGE, PAGE) for ref in refs]
        return tuple(self.pages.memory.translate(extents))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def ack(features: Feature) -> HelloAck:
    return HelloAck(bytes(16), (1, 2), features, 4096, 65536, 65536, 0, "agent")


def test_what_is_said_of_it(bench: Bench) -> None:
    assert str(bench.pages) == "32760 grants of Xen's domain 5, at most"
    assert bench.pages.vmm == Vmm(77, "qemu-system-i386")
    assert bench.pages.features is Feature.GRANTS


def test_a_compositor_with_grants(bench: Bench) -> None:
    """Mode A only, whatever the probe found of udmabufs; what else it found holds."""
    desktop = CompositorCapabilities(
        shm_udmabuf=False,
        shm_udmabuf_reason="no /dev/udmabuf",
        dmabuf_stride_alignment={1: 4},
        shm_formats=frozenset({0}),
        global_versions={"wl_shm": 2},
    )
    found = bench.pages.abilities(desktop)
    assert (found.shm_udmabuf, found.shm_udmabuf_reason) == (True, "")
    assert found.shm_once
    assert (found.dmabuf_stride_alignment, found.dmabuf_reason) == ({}, NO_DMABUF)
    assert found.udmabuf_list_limit == 65536
    assert found.udmabuf_size_limit == 65536 * PAGE
    assert found.shm_formats == desktop.shm_formats
    assert found.global_versions == desktop.global_versions


def test_an_agent_has_to_grant(bench: Bench) -> None:
    bench.pages.expect(ack(Feature.LOCATE_MEMFD | Feature.GRANTS))
    with pytest.raises(GuestRamError, match="grants no pages") as caught:
        bench.pages.expect(ack(Feature.LOCATE_MEMFD | Feature.LOCATE_DMABUF))
    assert "gem_grant" in caught.value.remedy
    assert "gem_grant" in caught.value.for_guest
    assert "5" not in caught.value.for_guest


def test_no_gntdev_is_said_at_once() -> None:
    domain = FakeDomain()
    domain.fails = errno.ENOENT
    with pytest.raises(GrantError, match="no gntdev"):
        GrantPages(Domain(5), domain, "")


# ---------------------------------------------------------------- proof


async def test_a_proof_is_a_granted_page(bench: Bench) -> None:
    bench.domain.grant(300, TOKEN)
    await bench.pages.verify(300 * PAGE, TOKEN)
    assert bench.domain.asked == [((300, 1),)]


async def test_a_page_of_another_domain(bench: Bench) -> None:
    """Or one that nobody granted, or not any more: Xen maps none of them."""
    with pytest.raises(GuestRamWrongMapError, match="domain 5") as caught:
        await bench.pages.verify(300 * PAGE, TOKEN)
    assert "xl list" in caught.value.remedy


async def test_a_page_with_something_else(bench: Bench) -> None:
    bench.domain.grant(300, TOKEN[::-1])
    with pytest.raises(GuestRamWrongMapError):
        await bench.pages.verify(300 * PAGE, TOKEN)


async def test_a_proof_where_gntdev_fails(bench: Bench) -> None:
    bench.domain.fails = errno.ENOMEM
    with pytest.raises(GrantError, match="takes no grants"):
        await bench.pages.verify(300 * PAGE, TOKEN)


@pytest.mark.parametrize(
    "address", [0, 7 * PAGE, (LAST + 1) * PAGE, 2**63, 300 * PAGE + 8]
)
async def test_addresses_that_are_no_grants(bench: Bench, address: int) -> None:
    with pytest.raises(ExtentError):
        await bench.pages.verify(address, TOKEN)
    assert not bench.domain.asked


# ---------------------------------------------------------------- extents of a hostile domain


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_any_extent_is_in_the_table_or_none(gpa: int, length: int) -> None:
    try:
        items = grant_table(64).translate((Extent(gpa, length),))
    except ExtentError:
        return
    [item] = items
    assert (item.file, item.offset, item.length) == (0, gpa, length)
    assert gpa >= FIRST_REF * PAGE
    assert gpa + length <= (LAST + 1) * PAGE


def test_a_million_grants_are_more_than_a_table_has(bench: Bench) -> None:
    with pytest.raises(ExtentError, match="not a grant"):
        bench.pages.memory.translate((Extent(FIRST_REF * PAGE, 10**6 * PAGE),))


# ---------------------------------------------------------------- fds


def test_a_fd_of_pages_in_their_order(bench: Bench) -> None:
    for ref in (9, 10, 30):
        bench.domain.grant(ref, b"%d" % ref)
    made = bench.pages.make(bench.items(30, 9, 10))
    assert isinstance(made, OwnedFd)
    with made:
        assert [os.pread(made.fileno(), 2, at * PAGE) for at in range(3)] == [
            *(b"30", b"9\0", b"10")
        ]
    assert bench.domain.asked == [((30, 1), (9, 2))]


def test_a_driver_that_refuses_is_an_answer(bench: Bench) -> None:
    bench.domain.fails = errno.ENOMEM
    made = bench.pages.make(bench.items(9))
    assert isinstance(made, HostError)
    assert made.errno == errno.ENOMEM


def test_many_pages_are_for_a_thread(bench: Bench) -> None:
    few, many = (RamItem(0, 0, 512 * PAGE),), (RamItem(0, 0, 513 * PAGE),)
    assert not bench.pages.is_slow(few)
    assert bench.pages.is_slow(many)
    with bench.pages.holding(many):
        pass


async def test_nothing_changes_meanwhile(bench: Bench) -> None:
    with trio.fail_after(30):
        await trio.lowlevel.checkpoint()
        await bench.pages.follow(VmLog("test"), lambda: None)
    bench.pages.close()


# ---------------------------------------------------------------- mode C


async def test_copies_are_read_by_a_mapping_of_its_own(bench: Bench) -> None:
    for ref in (40, 11):
        bench.domain.grant(ref, bytes([ref]) * PAGE)
    target = CopyBuffer(2 * PAGE)
    copier = PixelCopier(bench.pages.views())
    items = bench.items(40, 11)
    command = CopyRows(1, Handle(2), items, 100, PAGE, 50, 2)
    copy = Copy(Handle(2), target)
    for _ in range(2):
        copier.find(command, target)
        copy.add(command)
    assert not bench.domain.asked
    assert copier.copy_at_once(copy) is None  # what maps it may take long
    assert await copier.copy_some(copy) == 100
    copy.release()
    assert bench.domain.asked == [((40, 1), (11, 1))]  # once for a buffer
    assert target.pages is not None
    assert b"".join(target.pages.runs(100, 150)) == bytes([40]) * 50
    assert b"".join(target.pages.runs(PAGE - 1, PAGE + 1)) == bytes([40, 11])
    copier.close()
    target.fd.close()


async def test_nobody_waits_while_pages_are_mapped(bench: Bench) -> None:
    """Nor for a process that is to make the fd and hangs."""
    bench.domain.grant(9, b"slow")
    bench.domain.hangs = threading.Event()
    target, other = CopyBuffer(PAGE), CopyBuffer(PAGE)
    copier = PixelCopier(bench.pages.views())
    slow, fast = Copy(Handle(2), target), Copy(Handle(3), other)
    for copy, buffer in ((slow, target), (fast, other)):
        command = CopyRows(1, copy.handle, bench.items(9), 0, PAGE, PAGE, 1)
        copier.find(command, buffer)
        copy.add(command)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(copier.copy_some, slow)
        await trio.to_thread.run_sync(bench.domain.reached.acquire)
        hangs, bench.domain.hangs = bench.domain.hangs, None
        assert await copier.copy_some(fast) == PAGE
        assert [slow.done] == [False]
        hangs.set()
    assert slow.done
    for copy, buffer in ((slow, target), (fast, other)):
        copy.release()
        buffer.fd.close()


async def test_a_proof_that_hangs_is_given_up(bench: Bench) -> None:
    """The loop goes on meanwhile, and does not wait for it when it is stopped."""
    bench.domain.grant(300, TOKEN)
    bench.domain.hangs = hangs = threading.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.pages.verify, 300 * PAGE, TOKEN)
            await trio.to_thread.run_sync(bench.domain.reached.acquire)
            nursery.cancel_scope.cancel()
    finally:
        hangs.set()
    await trio.to_thread.run_sync(bench.domain.left.acquire)


async def test_pages_that_are_not_granted_cannot_be_copied(bench: Bench) -> None:
    target = CopyBuffer(PAGE)
    copier = PixelCopier(bench.pages.views())
    command = CopyRows(1, Handle(2), bench.items(9), 0, 4, 4, 1)
    copier.find(command, target)
    copy = Copy(Handle(2), target)
    copy.add(command)
    with pytest.raises(GrantError, match="not granted"):
        await copier.copy_some(copy)
    copy.release()
    target.fd.close()


# ---------------------------------------------------------------- what a compositor takes


async def proved(bench: Bench) -> None:
    bench.domain.grant(300, TOKEN)
    await bench.pages.verify(300 * PAGE, TOKEN)


def can_show(bench: Bench) -> tuple[bool, str]:
    found = bench.pages.abilities(CompositorCapabilities(shm_udmabuf=False))
    return found.shm_udmabuf, found.shm_udmabuf_reason


async def test_a_compositor_that_takes_the_page(bench: Bench, weston: Weston) -> None:
    await proved(bench)
    await bench.pages.try_out(weston.socket)
    assert can_show(bench) == (True, "")
    assert bench.domain.asked == [((300, 1),)] * 2  # each fd is mapped once


async def test_a_compositor_that_cannot_map_the_page(
    bench: Bench, weston: Weston
) -> None:
    await proved(bench)
    bench.domain.pages.clear()
    await bench.pages.try_out(weston.socket)
    able, why = can_show(bench)
    assert not able
    assert why.startswith("the compositor does not take granted pages: ")


async def test_a_gntdev_that_fails_meanwhile(bench: Bench, tmp_path: Path) -> None:
    await proved(bench)
    bench.domain.fails = errno.ENOMEM
    await bench.pages.try_out(tmp_path / "none")
    assert can_show(bench) == (False, "the driver takes no grants")


async def test_a_compositor_that_has_gone(bench: Bench, tmp_path: Path) -> None:
    """The one that follows may take them."""
    await proved(bench)
    await bench.pages.try_out(tmp_path / "none")
    assert can_show(bench) == (True, "")


async def test_a_compositor_without_wl_shm(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(*_: object, **__: object) -> None:
        raise KeyError("wl_shm")

    await proved(bench)
    monkeypatch.setattr(grant_pages, "try_shm_pool", lack)
    await bench.pages.try_out(tmp_path)
    assert can_show(bench) == (False, "the compositor has no wl_shm")
