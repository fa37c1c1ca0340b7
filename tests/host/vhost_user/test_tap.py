"""The tap between a VMM and proxies: real sockets, one step after the other."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.vhost_user.front_end import (
    ADDRESS,
    PAGE,
    SIZE,
    Guest,
    answer_of,
    ask,
    plug,
    u64,
    unplug,
)
from tests.open_fds import open_fds
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.host.vhost_user.messages import MemoryRegion, Request
from wlproxy.host.vhost_user.tap import MAX_READERS, Tap
from wlproxy.memory.guest_memory import RamRegion
from wlproxy.transport.fds import OwnedFd

NewMemory = Callable[[int], OwnedFd]
WHOLE = (RamRegion(0x10_0000, SIZE, 0, 0),)


def listening(path: Path, kind: socket.SocketKind) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(str(path))
    listener.listen()
    return listener


class Bench:
    """A tap whose steps the test takes; whom it serves are the test's."""

    def __init__(self, directory: Path) -> None:
        self.vmms, self.readers = directory / "vmm", directory / "table"
        self.said: list[str] = []
        vmms = listening(self.vmms, socket.SOCK_STREAM)
        readers = listening(self.readers, socket.SOCK_SEQPACKET)
        self.tap = Tap(vmms, readers, self.said.append)

    def settle(self) -> None:
        """Have it do all that is to be done now."""
        for _ in range(8):
            self.tap.step(0)

    def vmm(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(10)
        connected.connect(str(self.vmms))
        self.settle()
        return connected

    def tell(self, vmm: socket.socket, data: bytes, fds: tuple[int, ...] = ()) -> None:
        socket.send_fds(vmm, [data], fds)
        self.settle()

    def reader(self) -> TapClient:
        client = TapClient(self.readers)
        self.settle()
        return client


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    with bench.tap:
        yield bench


def hung_up(connected: socket.socket) -> bool:
    """Whether the tap has closed a connection; what was not read by then resets it."""
    try:
        return connected.recv(1) == b""
    except ConnectionResetError:
        return True


def regions(client: TapClient) -> tuple[RamRegion, ...]:
    table = client.receive()
    assert table is not None
    with table:
        return table.regions


def test_a_proxy_is_told_at_once_and_whenever_it_changes(
    bench: Bench, guest: Guest, new_memory: NewMemory
) -> None:
    dimm = MemoryRegion(1 << 32, PAGE, 2 * ADDRESS, 0)
    with bench.vmm() as vmm, bench.reader() as early:
        assert regions(early) == ()
        message, fds = guest.memory()
        bench.tell(vmm, message, tuple(fds))
        assert regions(early) == WHOLE
        with bench.reader() as late:
            assert regions(late) == WHOLE
            bench.tell(vmm, plug(dimm), (new_memory(PAGE).fileno(),))
            for each in (early, late):
                assert regions(each) == (*WHOLE, RamRegion(1 << 32, PAGE, 1, 0))
            bench.tell(vmm, unplug(dimm))
            for each in (early, late):
                assert regions(each) == WHOLE


def test_a_vmm_that_has_gone_has_no_ram(bench: Bench, guest: Guest) -> None:
    fds = open_fds()
    with bench.reader() as reader:
        assert regions(reader) == ()
        with bench.vmm() as vmm:
            message, passed = guest.memory()
            bench.tell(vmm, message, tuple(passed))
            assert regions(reader) == WHOLE
        bench.settle()
        assert regions(reader) == ()
        with bench.vmm() as again:
            message, passed = guest.memory()
            bench.tell(again, message, tuple(passed))
            assert regions(reader) == WHOLE
        bench.settle()
        assert regions(reader) == ()
    bench.settle()
    assert open_fds() == fds


def test_a_second_vmm_is_turned_away(bench: Bench) -> None:
    with bench.vmm() as first:
        with bench.vmm() as second:
            assert hung_up(second)
        bench.tell(first, ask(Request.GET_QUEUE_NUM))
        assert answer_of(first.recv(100)) == u64(256)
    assert any("turned away" in each for each in bench.said)


def test_what_is_no_vmm_is_hung_up_on(bench: Bench) -> None:
    with bench.vmm() as other:
        bench.tell(other, b"GET / HTTP/1.0\r\n\r\n")
        assert hung_up(other)
    assert any("keeps the protocol" in each for each in bench.said)
    with bench.vmm() as vmm:
        bench.tell(vmm, ask(Request.GET_FEATURES))
        assert vmm.recv(100)


def test_more_fds_than_a_message_has(bench: Bench, guest: Guest) -> None:
    fds = open_fds()
    with bench.vmm() as vmm:
        bench.tell(vmm, ask(Request.SET_OWNER), (guest.fd,) * 9)
        assert hung_up(vmm)
    assert open_fds() == fds


def test_a_vmm_that_reads_no_answers_is_hung_up_on(bench: Bench) -> None:
    with bench.vmm() as vmm:
        for _ in range(2000):
            try:
                bench.tell(vmm, ask(Request.GET_FEATURES) * 16)
            except (BrokenPipeError, ConnectionResetError):
                break
        else:
            pytest.fail("it is still answered")
    assert any("does not read" in each or "send" in each for each in bench.said)


def test_a_message_may_come_in_pieces(bench: Bench) -> None:
    with bench.vmm() as vmm:
        for byte in ask(Request.SET_FEATURES, u64(0)) + ask(Request.GET_FEATURES):
            bench.tell(vmm, bytes([byte]))
        assert vmm.recv(100)


def test_requests_to_the_disk_fail_and_are_told_of(bench: Bench, guest: Guest) -> None:
    kick, call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
    with bench.vmm() as vmm, OwnedFd(kick), OwnedFd(call):
        bench.tell(vmm, guest.memory()[0], (guest.fd,))
        for message, fds in guest.ring(kick, call):
            bench.tell(vmm, message, tuple(fds))
        assert os.eventfd_read(call) == 1, "what came before may have been missed"
        guest.request()
        os.eventfd_write(kick, 1)
        bench.settle()
        assert guest.status == 1
        assert os.eventfd_read(call) == 1
        # A guest that goes on asking has its turn again a little later.
        guest.request()
        os.eventfd_write(kick, 1)
        bench.tap.step(10)
        bench.tap.step(10)
        assert guest.used() == [(0, 1), (0, 1)]


def test_a_ring_that_is_none_stops_and_nothing_else(bench: Bench, guest: Guest) -> None:
    kick, call = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
    with bench.vmm() as vmm, OwnedFd(kick), OwnedFd(call), bench.reader() as reader:
        assert regions(reader) == ()
        bench.tell(vmm, guest.memory()[0], (guest.fd,))
        for message, fds in guest.ring(kick, call):
            bench.tell(vmm, message, tuple(fds))
        guest.describe(0, 0, 1, 2, 0)  # outside its RAM
        guest.offer(0)
        os.eventfd_write(kick, 1)
        bench.settle()
        assert any("stops answering" in each for each in bench.said)
        assert regions(reader) == WHOLE
        bench.tell(vmm, ask(Request.GET_FEATURES))
        assert vmm.recv(100)


def test_there_are_only_so_many_readers(bench: Bench) -> None:
    clients = [bench.reader() for _ in range(MAX_READERS)]
    with bench.reader() as one_more:
        assert one_more.receive() is None
    clients.pop().close()
    bench.settle()
    clients.append(bench.reader())
    for each in clients:
        assert regions(each) == ()
        each.close()


def test_a_reader_that_does_not_read_is_left_behind(bench: Bench, guest: Guest) -> None:
    with bench.vmm() as vmm, bench.reader() as slow:
        message, fds = guest.memory()
        for _ in range(2000):
            bench.tell(vmm, message, tuple(fds))
            if any("cannot be told" in each for each in bench.said):
                break
        else:
            pytest.fail("it is still told")
        while (table := slow.receive()) is not None:
            table.close()
        with bench.reader() as other:
            assert regions(other) == WHOLE
