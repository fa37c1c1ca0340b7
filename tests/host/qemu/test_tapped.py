"""RAM as the tap tells of it: found, checked, and followed while it changes."""

import os
import resource
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.host.fake_tap import PAGE, FakeTap, memory
from tests.open_fds import open_fds
from wlproxy.host import pages
from wlproxy.host.config import HostConfig
from wlproxy.host.errors import (
    GuestRamError,
    GuestRamLayoutError,
    GuestRamNotSharedError,
    GuestRamNotYetError,
    GuestRamSealError,
)
from wlproxy.host.pages import find_pages
from wlproxy.host.qemu import following, tapped
from wlproxy.host.qemu.discovery import qemu_ram
from wlproxy.host.qemu.following import follow_ram
from wlproxy.host.qemu.ram import MAX_RAM_FILES, GuestRam, told_ram
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.vhost_user.table import Table, identity
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


def test_ram_that_the_tap_leaves_out() -> None:
    """All of it: there is nothing to wait for."""
    with pytest.raises(GuestRamSealError, match=r"2 regions(.|\n)*share=on"):
        told_ram(Table(7, (), (), 2))


def test_ram_is_not_for_programs_that_we_start(
    tmp_path: Path, closing: ExitStack
) -> None:
    tap = FakeTap(tmp_path / "ram.sock")
    file = memory(closing)
    with ThreadPoolExecutor() as pool:
        served = pool.submit(tap.serve, (0, 4, file))
        with TapClient(tap.path) as client:
            told = client.receive()
        served.result()
    tap.close()
    for received in told.files:
        assert not os.get_inheritable(received.fileno())
        received.close()


def test_ram_of_which_the_tap_leaves_out_some(closing: ExitStack) -> None:
    told = replace(table((0, 4, memory(closing))), left_out=1)
    with told_ram(told) as ram:
        assert ram.memory.size == 4 * PAGE
        assert "less 1 regions" in ram.layout


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
        close(ram.update(table((0, 4, low))))
        with pytest.raises(ExtentError):
            ram.read(HIGH, 1)
        assert len(ram.files) == 1
        ram.update(table((0, 4, low), (HIGH, 4, other), (2 * HIGH, 4, dimm)))
        ram.verify(2 * HIGH, TOKEN)
        assert len(ram.files) == 3
    assert open_fds() == fds


def close(files: Sequence[OwnedFd]) -> None:
    for each in files:
        each.close()


def test_memory_is_plugged_for_ever(closing: ExitStack) -> None:
    """A file has the number of one that is not there any more: there are but 256."""
    low = memory(closing)
    with told_ram(table((0, 4, low))) as ram:
        fds = open_fds()
        for _ in range(MAX_RAM_FILES + 50):
            with memory(closing) as dimm:
                close(ram.update(table((0, 4, low), (HIGH, 4, dimm))))
            close(ram.update(table((0, 4, low))))
            assert ram.files.keys() == {0}
        assert open_fds() == fds


def test_what_windows_show_of_unplugged_memory_stays(closing: ExitStack) -> None:
    low, dimm, other = (memory(closing) for _ in range(3))
    with told_ram(table((0, 4, low), (HIGH, 4, dimm))) as ram:
        shown = ram.memory.translate([Extent(HIGH, PAGE)])
        assert shown.files == {1}
        ram.update(table((0, 4, low)), shown.files)
        ram.update(table((0, 4, low), (HIGH, 4, other)), shown.files)
        assert identity(ram.files[1]) == identity(dimm)
        assert ram.memory.translate([Extent(HIGH, PAGE)]).files == {2}
        # It comes back, and has the number that it had.
        ram.update(table((0, 4, low), (HIGH, 4, dimm)), shown.files | {2})
        assert ram.memory.translate([Extent(HIGH, PAGE)]) == shown
        assert ram.unplugged == {2}
        assert ram.drop_unplugged({2}) == []
        [gone] = ram.drop_unplugged(())
        assert identity(gone) == identity(other)
        gone.close()
        with pytest.raises(GuestRamError, match="unplugged"):
            ram.map(2)


def test_too_many_files_are_an_error(closing: ExitStack) -> None:
    low = memory(closing)
    with told_ram(table((0, 4, low))) as ram:
        before = ram.memory.regions
        dimm = memory(closing)
        fds = open_fds()
        with pytest.raises(GuestRamLayoutError, match="over 256 files"):
            ram.update(table((HIGH, 4, dimm)), range(MAX_RAM_FILES))
        assert ram.memory.regions == before
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
    with pytest.raises(GuestRamNotYetError, match=r"ENOENT(.|\n)*wlproxy ram-tap"):
        TapClient(tmp_path / "none")


def test_a_socket_that_nobody_listens_at_any_more(tap: FakeTap) -> None:
    tap.listener.close()
    with pytest.raises(GuestRamNotYetError, match="ECONNREFUSED"):
        TapClient(tap.path)


def test_what_can_never_be_a_tap(tmp_path: Path) -> None:
    """Whoever waits for that would wait for ever."""
    with pytest.raises(GuestRamError, match="ENOTDIR") as caught:
        TapClient(Path("/dev/null/tap"))
    assert not isinstance(caught.value, GuestRamNotYetError)


def test_a_tap_that_is_stopped(tap: FakeTap, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue may be full, or it takes the connection and says nothing."""
    monkeypatch.setattr(tapped, "ANSWER_SECONDS", 0.01)
    tap.listener.listen(0)
    with TapClient(tap.path) as client:
        with pytest.raises(GuestRamNotYetError, match="does not answer"):
            client.receive()
        with pytest.raises(GuestRamNotYetError, match="no tap"):
            TapClient(tap.path)


def test_what_is_no_table_is_an_error(tap: FakeTap) -> None:
    with TapClient(tap.path) as client, tap.accept() as proxy:
        proxy.send(b"hello")
        with pytest.raises(GuestRamError, match="same version"):
            client.receive()
        proxy.close()
        with pytest.raises(GuestRamNotYetError, match="hung up"):
            client.receive()


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
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
async def stream(channel: tuple[socket.socket, socket.socket]) -> FdStream:
    return FdStream(channel[0])


@pytest.fixture
def hang_up(channel: tuple[socket.socket, socket.socket]) -> Callable[[], None]:
    """Be QEMU, and end."""
    return channel[1].close


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
        ram = await find_pages(provide, stream, LOG)
        assert ram is not None
        with ram:
            assert ram.memory.size == 4 * PAGE
    assert trio.current_time() - began > pages.PATIENCE
    assert caplog.text.count("waiting for the guest's RAM") == 1


async def test_a_qemu_without_ram_is_not_waited_for(
    stream: FdStream, autojump_clock: trio.testing.MockClock
) -> None:
    def provide(_: FdStream) -> GuestRam:
        raise GuestRamNotSharedError("no memfd")

    async with stream:
        with pytest.raises(GuestRamNotSharedError):
            await find_pages(provide, stream, LOG)


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
        with pytest.raises(GuestRamNotYetError, match="hung up"):
            await trio.to_thread.run_sync(qemu_ram, config, stream)


async def test_a_tap_that_is_away_is_waited_for(
    tmp_path: Path,
    closing: ExitStack,
    stream: FdStream,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And that is said once, with what to do about it, for each thing that is wrong."""
    caplog.set_level("INFO")
    low = memory(closing)
    config = HostConfig(tmp_path, ram_tap=tmp_path / "tap")
    tap: FakeTap | None = None
    looks = 0

    def provide(stream: FdStream) -> GuestRam:
        nonlocal tap, looks
        looks += 1
        if looks == 10:
            tap = FakeTap(tmp_path / "tap")
            closing.callback(tap.listener.close)
        if tap is None:
            return qemu_ram(config, stream)
        # It answers in a thread of its own, as a process would.
        told = [(0, 4, low)] if looks == 20 else []
        with ThreadPoolExecutor() as threads:
            threads.submit(tap.serve, *told)
            return qemu_ram(config, stream)

    async with stream:
        ram = await find_pages(provide, stream, LOG)
        assert ram is not None
        with ram:
            assert ram.memory.size == 4 * PAGE
    assert looks == 20
    assert caplog.text.count("no tap that could be asked") == 1
    assert caplog.text.count("Is `wlproxy ram-tap` running") == 1
    assert caplog.text.count("has not told where") == 1


async def test_a_qemu_that_ends_meanwhile_is_not_waited_for(
    tmp_path: Path,
    stream: FdStream,
    hang_up: Callable[[], None],
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = HostConfig(tmp_path, ram_tap=tmp_path / "none")
    looks = 0

    def provide(stream: FdStream) -> GuestRam:
        nonlocal looks
        looks += 1
        if looks == 5:
            hang_up()
        return qemu_ram(config, stream)

    async with stream:
        assert await find_pages(provide, stream, LOG) is None
    assert looks == 5


async def test_a_tap_that_may_be_there(
    tap: FakeTap, closing: ExitStack, stream: FdStream
) -> None:
    """It is asked if it is there when the RAM is looked for, and QEMU's process is not."""
    config = HostConfig(Path("channel"), qemu_pid=1 << 22, ram_tap_if_there=tap.path)
    low = memory(closing)
    with ThreadPoolExecutor() as threads:
        threads.submit(tap.serve, (0, 4, low))
        with qemu_ram(config, stream) as ram:
            assert ram.layout == "as the VMM tells it"
    tap.close()
    with pytest.raises(GuestRamError, match="no process"):
        qemu_ram(config, stream)
    await stream.aclose()


async def wait_size(ram: GuestRam, pages: int) -> None:
    with trio.fail_after(10):
        while ram.memory.size != pages * PAGE:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)


class Session:
    """A user of the RAM, whose windows show what the test says."""

    def __init__(self) -> None:
        self.shown: set[int] = set()
        self.changes = 0

    def ram_shown(self) -> set[int]:
        return self.shown

    def ram_changed(self) -> None:
        self.changes += 1


async def test_changes_are_followed_and_a_tap_that_comes_back(
    tap: FakeTap,
    closing: ExitStack,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(following, "TAP_RETRY", 0.001)
    caplog.set_level("INFO")
    low, dimm = memory(closing), memory(closing, pages=2)
    unsealed = memory(closing, seals=0)
    with told_ram(table((0, 4, low))) as ram:
        nursery.start_soon(follow_ram, tap.path, ram, LOG, lambda: None)
        with await trio.to_thread.run_sync(tap.accept) as proxy:
            tap.tell(proxy, (0, 4, low), (HIGH, 2, dimm))
            await wait_size(ram, 6)
            tap.tell(proxy, (0, 4, low), (PAGE, 4, low))  # an odd map
            tap.tell(proxy)  # the VMM has gone: nothing follows from that here
            tap.tell(proxy, (0, 2, dimm), pid=8)  # nor from another one's RAM
            tap.tell(proxy, (0, 4, low), (HIGH, 2, unsealed))
            await wait_size(ram, 4)
            assert caplog.text.count("cannot be used") == 1
            tap.close()
        await trio.sleep(0.1)  # many attempts
        again = FakeTap(tap.path)
        closing.callback(again.listener.close)
        with await trio.to_thread.run_sync(again.accept) as proxy:
            assert "RAM is back" not in caplog.text
            again.tell(proxy, (0, 4, low), (HIGH, 2, dimm))
            await wait_size(ram, 6)
            again.tell(proxy, (0, 4, low))
            await wait_size(ram, 4)
        nursery.cancel_scope.cancel()
    assert caplog.text.count("will not be noticed") == 1
    assert caplog.text.count("RAM is back") == 1


async def test_files_of_unplugged_ram_are_closed_when_no_window_shows_them(
    tap: FakeTap,
    closing: ExitStack,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "LET_GO_AGAIN", 0.001)
    low, dimm = memory(closing), memory(closing, pages=2)
    session = Session()
    with told_ram(table((0, 4, low))) as ram:
        nursery.start_soon(follow_ram, tap.path, ram, LOG, lambda: session)
        with await trio.to_thread.run_sync(tap.accept) as proxy:
            fds = open_fds()
            tap.tell(proxy, (0, 4, low), (HIGH, 2, dimm))
            await wait_size(ram, 6)
            session.shown = {0, 1}
            tap.tell(proxy, (0, 4, low))
            await wait_size(ram, 4)
            await trio.sleep(0.02)  # many looks
            assert ram.unplugged == {1}
            assert session.changes == 2
            session.shown = {0}
            with trio.fail_after(10):
                while open_fds() != fds:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.001)
            assert not ram.unplugged
            assert session.changes == 3
        nursery.cancel_scope.cancel()
