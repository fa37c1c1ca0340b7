"""Buffers of a client: made, discarded before they are, closed with it."""

import os
from collections.abc import Sequence

import pytest

from tests.host.scripted import guest_ram
from wlproxy.host.client.buffers import Buffers
from wlproxy.host.client.handles import Handles
from wlproxy.host.desktop.udmabuf_device import UdmabufDevice, UdmabufItem
from wlproxy.host.errors import UdmabufError
from wlproxy.host.qemu.ram_pages import SLOW_ITEMS, RamPages
from wlproxy.host.report.metrics import Metrics
from wlproxy.memory.guest_memory import RamItem
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.commands import CreateCopyBuffer, CreateUdmabuf
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import BufferCreated, BufferFailed
from wlproxy.transport.fds import FdState, OwnedFd

ITEMS = (RamItem(0, 0, 4096),)
FEW = CreateUdmabuf(1, Handle(2), ITEMS)
MANY = CreateUdmabuf(1, Handle(2), ITEMS * (SLOW_ITEMS + 1))
CREATED = BufferCreated(1, Handle(2))


class Memfds(UdmabufDevice):
    """Makes files where there is no driver."""

    def __init__(self) -> None:
        self.made: list[OwnedFd] = []
        self.fails = False

    def create(self, items: Sequence[UdmabufItem | tuple[int, int, int]]) -> OwnedFd:
        if self.fails:
            raise UdmabufError("no", errno=5)
        self.made.append(OwnedFd(os.memfd_create("dma-buf", os.MFD_CLOEXEC)))
        return self.made[-1]


class Bench:
    def __init__(self) -> None:
        self.device = Memfds()
        self.ram = guest_ram()
        self.metrics = Metrics()
        self.handles = Handles()
        self.buffers = Buffers(
            1, self.handles, RamPages(self.ram, lambda: self.device), self.metrics
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_is_made_has_a_handle_until_it_is_closed(bench: Bench) -> None:
    assert bench.buffers.create_udmabuf(FEW) == CREATED
    made = bench.handles.get(Handle(2))
    assert bench.metrics.udmabufs_alive == bench.metrics.udmabufs_created == 1
    bench.buffers.close(Handle(2))
    assert made.state is FdState.CLOSED
    assert bench.metrics.udmabufs_alive == 0
    with pytest.raises(LocalProtocolError):
        bench.buffers.close(Handle(2))
    bench.ram.close()


async def test_what_takes_long_is_for_a_thread(bench: Bench) -> None:
    assert bench.buffers.create_udmabuf(MANY) is None
    assert not bench.device.made
    assert await bench.buffers.create_slowly(MANY) == CREATED
    assert Handle(2) in bench.handles
    bench.buffers.close_all()
    assert bench.device.made[0].state is FdState.CLOSED
    assert bench.metrics.udmabufs_alive == 0
    bench.ram.close()


async def test_ram_that_is_unplugged_while_a_thread_works_on_it(bench: Bench) -> None:
    """What nobody waits for any more: its file stays open until the thread is done."""
    [file] = bench.ram.files.values()

    def create(items: Sequence[UdmabufItem | tuple[int, int, int]]) -> OwnedFd:
        file.close()
        assert file.state is FdState.CLOSING
        assert {fd for fd, _, _ in items} == {file.fileno()}
        return OwnedFd(os.memfd_create("dma-buf", os.MFD_CLOEXEC))

    bench.device.create = create  # type: ignore[method-assign]
    bench.buffers.create_udmabuf(MANY)
    assert await bench.buffers.create_slowly(MANY) == CREATED
    assert file.state is FdState.CLOSED
    bench.buffers.close_all()


async def test_ram_that_was_unplugged_before(bench: Bench) -> None:
    bench.ram.files.pop(0).close()
    answer = bench.buffers.create_udmabuf(FEW)
    assert isinstance(answer, BufferFailed)
    assert answer.message == "the RAM was unplugged"


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("how", ["discarded", "its client has ended"])
async def test_what_nobody_waits_for_any_more(
    bench: Bench, how: str, *, fails: bool
) -> None:
    bench.device.fails = fails
    bench.buffers.create_udmabuf(MANY)
    if how == "discarded":
        bench.buffers.close(Handle(2))
    else:
        bench.buffers.close_all()
    assert await bench.buffers.create_slowly(MANY) is None
    assert len(bench.handles) == bench.metrics.udmabufs_alive == 0
    assert all(fd.state is FdState.CLOSED for fd in bench.device.made)
    counted = bench.metrics.udmabufs_failed, bench.metrics.udmabufs_created
    assert counted == ((1, 0) if fails else (0, 1))
    bench.ram.close()


async def test_what_cannot_be_made_is_answered(bench: Bench) -> None:
    bench.device.fails = True
    failed = BufferFailed(1, Handle(2), 5, "no")
    assert bench.buffers.create_udmabuf(FEW) == failed
    bench.device.fails = False
    assert bench.buffers.create_udmabuf(FEW) == CREATED
    bench.buffers.close_all()
    bench.ram.close()


async def test_memory_to_copy_into(bench: Bench) -> None:
    created = bench.buffers.create_copy(CreateCopyBuffer(1, Handle(4), 4096))
    assert created == BufferCreated(1, Handle(4))
    assert bench.buffers.copy_target(Handle(4)).fd is bench.handles.get(Handle(4))
    bench.buffers.close(Handle(4))
    with pytest.raises(KeyError):
        bench.buffers.copy_target(Handle(4))
    impossible = bench.buffers.create_copy(CreateCopyBuffer(1, Handle(4), 1 << 62))
    assert isinstance(impossible, BufferFailed)
    bench.ram.close()
