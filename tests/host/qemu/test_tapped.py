"""RAM as the tap tells of it: found, checked, and followed while it changes."""

import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.host.fake_tap import PAGE, FakeTap, memory
from tests.open_fds import open_fds
from wlproxy.host.config import HostConfig
from wlproxy.host.errors import (
    GuestRamError,
    GuestRamLayoutError,
    GuestRamNotSharedError,
    GuestRamNotYetError,
    GuestRamSealError,
)
from wlproxy.host.qemu import following
from wlproxy.host.qemu.discovery import qemu_ram
from wlproxy.host.qemu.following import find_ram, follow_ram
from wlproxy.host.qemu.ram import GuestRam, told_ram
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.vhost_user.table import Table
from wlproxy.memory.guest_memory import ExtentError, RamRegion
from wlproxy.protocol.channel.frames import Extent
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

TOKEN = bytes(range(32))
HIGH = 1 << 32
LOG = VmLog("test")


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def table(*regions: tuple[int, int, OwnedFd]) -> Table:
    """A table of regions: guest address, pages, file."""
    files = [file.duplicate() for _, _, file in regions]
    return Table(
        7,
        tuple(
            RamRegion(gpa, pages * PAGE, index, 0)
            for index, (gpa, pages, _) in enumerate(regions)
        ),
        tuple(files),
    )


def test_it_is_read_at_the_guests_addresses(closing: ExitStack) -> None:
    low, high = memory(closing), memory(closing)
    os.pwrite(high.fileno(), TOKEN, PAGE)
    fds = open_fds()
    with told_ram(table((0, 4, low), (HIGH, 4, high))) as ram:
        assert ram.pid == 7
        assert ram.memory.size == 8 * PAGE
        ram.verify(HIGH + PAGE, TOKEN)
    assert open_fds() == fds


def test_a_vmm_that_has_not_told_yet() -> None:
    with pytest.raises(GuestRamNotYetError, match="has not told"):
        told_ram(Table(0, (), ()))


def test_ram_that_udmabuf_would_not_take(closing: ExitStack) -> None:
    unsealed = memory(closing, seals=0)
    fds = open_fds()
    with pytest.raises(GuestRamSealError, match="seal=on"):
        told_ram(table((0, 4, unsealed)))
    assert open_fds() == fds


def test_a_map_that_cannot_be(closing: ExitStack) -> None:
    with pytest.raises(GuestRamLayoutError, match="odd"):
        told_ram(table((0, 4, memory(closing)), (PAGE, 4, memory(closing))))


def test_memory_is_plugged_and_unplugged(closing: ExitStack) -> None:
    low, dimm, other = memory(closing), memory(closing), memory(closing)
    os.pwrite(dimm.fileno(), TOKEN, 0)
    fds = open_fds()
    with told_ram(table((0, 4, low))) as ram:
        [before] = ram.memory.translate([Extent(0, PAGE)])
        # The same file is another fd in each table, and anywhere in it.
        ram.update(table((HIGH, 4, dimm), (0, 4, low)))
        ram.verify(HIGH, TOKEN)
        assert [*ram.memory.translate([Extent(0, PAGE)])] == [before]
        assert len(ram.files) == 2
        ram.update(table((0, 4, low)))
        with pytest.raises(ExtentError):
            ram.read(HIGH, 1)
        ram.update(table((0, 4, low), (HIGH, 4, other), (2 * HIGH, 4, dimm)))
        ram.verify(2 * HIGH, TOKEN)
        assert len(ram.files) == 3
    assert open_fds() == fds


def test_a_change_that_cannot_be_leaves_all_as_it_was(closing: ExitStack) -> None:
    low = memory(closing)
    unsealed = memory(closing, seals=0)
    with told_ram(table((0, 4, low))) as ram:
        fds = open_fds()
        for bad in (
            table((0, 4, low), (HIGH, 4, unsealed)),
            table((0, 4, low), (PAGE, 4, low)),
        ):
            with pytest.raises(GuestRamError):
                ram.update(bad)
        assert ram.memory.regions == (RamRegion(0, 4 * PAGE, 0, 0),)
        assert open_fds() == fds


@pytest.fixture
def tap(tmp_path: Path, closing: ExitStack) -> FakeTap:
    tap = FakeTap(tmp_path / "tap")
    closing.callback(tap.listener.close)
    return tap


def test_no_tap_is_an_error_that_says_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(GuestRamError, match=r"ENOENT(.|\n)*wlproxy ram-tap"):
        TapClient(tmp_path / "none")


def test_what_is_no_table_is_an_error(tap: FakeTap) -> None:
    with TapClient(tap.path) as client, tap.accept() as proxy:
        proxy.send(b"hello")
        with pytest.raises(GuestRamError, match="same version"):
            client.receive()
        proxy.close()
        assert client.receive() is None


def test_a_table_whose_files_do_not_fit_is_an_error(
    tap: FakeTap, closing: ExitStack
) -> None:
    """The kernel drops the fds that a process may not have."""
    low = memory(closing)
    with TapClient(tap.path) as client, tap.accept() as proxy:
        tap.tell(proxy, (0, 4, low))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(GuestRamError, match="did not come whole"):
                client.receive()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


Provide = Callable[[FdStream], GuestRam]


@pytest.fixture
async def stream() -> FdStream:
    ours, theirs = socket.socketpair()
    theirs.close()
    return FdStream(ours)


async def test_ram_is_waited_for_until_the_guest_has_booted(
    tap: FakeTap,
    closing: ExitStack,
    stream: FdStream,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Longer than any patience with a QEMU that has none."""
    low = memory(closing)
    caplog.set_level("INFO")
    asked = 0

    def provide(_: FdStream) -> GuestRam:
        nonlocal asked
        asked += 1
        told = [(0, 4, low)] if asked > 100 else []
        return told_ram(table(*told))

    began = trio.current_time()
    async with stream:
        with await find_ram(provide, stream, LOG) as ram:
            assert ram.memory.size == 4 * PAGE
    assert trio.current_time() - began > following.PATIENCE
    assert caplog.text.count("waiting for the guest's RAM") == 1


async def test_a_qemu_without_ram_is_not_waited_for(
    stream: FdStream, autojump_clock: trio.testing.MockClock
) -> None:
    def provide(_: FdStream) -> GuestRam:
        raise GuestRamNotSharedError("no memfd")

    async with stream:
        with pytest.raises(GuestRamNotSharedError):
            await find_ram(provide, stream, LOG)


async def test_the_tap_is_asked_if_there_is_one(
    tap: FakeTap, closing: ExitStack, stream: FdStream, nursery: trio.Nursery
) -> None:
    low = memory(closing)

    def answer() -> None:
        with tap.accept() as proxy:
            tap.tell(proxy, (0, 4, low))

    nursery.start_soon(trio.to_thread.run_sync, answer)
    config = HostConfig(Path("channel"), ram_tap=tap.path)
    async with stream:
        with await trio.to_thread.run_sync(qemu_ram, config, stream) as ram:
            assert ram.memory.size == 4 * PAGE
            assert ram.layout == "as the VMM tells it"


async def test_a_tap_that_hangs_up_at_once(
    tap: FakeTap, stream: FdStream, nursery: trio.Nursery
) -> None:
    nursery.start_soon(trio.to_thread.run_sync, lambda: tap.accept().close())
    config = HostConfig(Path("channel"), ram_tap=tap.path)
    async with stream:
        with pytest.raises(GuestRamError, match="hung up"):
            await trio.to_thread.run_sync(qemu_ram, config, stream)


async def wait_size(ram: GuestRam, pages: int) -> None:
    with trio.fail_after(10):
        while ram.memory.size != pages * PAGE:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)


async def test_changes_are_followed_and_a_tap_that_comes_back(
    tap: FakeTap,
    closing: ExitStack,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(following, "TAP_RETRY", 0.01)
    low, dimm = memory(closing), memory(closing, pages=2)
    unsealed = memory(closing, seals=0)
    with told_ram(table((0, 4, low))) as ram:
        nursery.start_soon(follow_ram, tap.path, ram, LOG)
        with await trio.to_thread.run_sync(tap.accept) as proxy:
            tap.tell(proxy, (0, 4, low), (HIGH, 2, dimm))
            await wait_size(ram, 6)
            tap.tell(proxy, (0, 4, low), (HIGH, 2, unsealed))
            tap.tell(proxy)  # the VMM has gone: nothing follows from that here
            tap.tell(proxy, (0, 2, dimm), pid=8)  # nor from another one's RAM
            tap.tell(proxy, (0, 4, low))
            await wait_size(ram, 4)
            assert "cannot be used" in caplog.text
            tap.close()
        again = FakeTap(tap.path)
        closing.callback(again.listener.close)
        with await trio.to_thread.run_sync(again.accept) as proxy:
            again.tell(proxy, (0, 4, low), (HIGH, 2, dimm))
            await wait_size(ram, 6)
        nursery.cancel_scope.cancel()
