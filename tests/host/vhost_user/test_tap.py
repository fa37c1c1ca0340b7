"""The tap between a VMM and proxies: real sockets, one step after the other."""

import os
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
from wlproxy.host.errors import GuestRamNotYetError
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.host.vhost_user.messages import MemoryRegion, Request
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.host.vhost_user.ring import Ring
from wlproxy.host.vhost_user.table import MAX_FILES, identity
from wlproxy.host.vhost_user.tap import (
    KICK_PAUSE,
    MAX_READERS,
    MESSAGES_AT_ONCE,
    QUIET,
    Tap,
)
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
        self.now = self.spent = 1000.0
        self.tap = Tap(
            vmms, readers, self.said.append, lambda: self.now, lambda: self.spent
        )

        self.stopped = False

    def run(self) -> None:
        """Have it do all that is to be done now, unless it is stopped."""
        for _ in range(0 if self.stopped else 8):
            self.tap.step(0)

    def settle(self) -> None:
        """Have it do all that is to be done, in any time."""
        self.run()
        self.now += 1
        self.run()

    def vmm(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(10)
        connected.connect(str(self.vmms))
        self.settle()
        return connected

    def tell(self, vmm: socket.socket, data: bytes, fds: tuple[int, ...] = ()) -> None:
        socket.send_fds(vmm, [data], fds)
        self.settle()

    def reader_now(self) -> TapClient:
        """A proxy that comes; the time stands still."""
        client = TapClient(self.readers)
        self.run()
        return client

    def reader(self) -> TapClient:
        client = self.reader_now()
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
    with client.receive() as table:
        return table.regions


def read_all(client: TapClient) -> None:
    while True:
        client.receive().close()


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


class Plugging:
    """A VMM that tells of its RAM region by region, as QEMU does."""

    def __init__(self, bench: Bench, vmm: socket.socket, file: OwnedFd) -> None:
        self._bench, self._vmm, self._file = bench, vmm, file
        self._told = 0

    def add(self) -> None:
        """Tell of one more."""
        region = MemoryRegion(self._told << 32, PAGE, self._told << 32, 0)
        socket.send_fds(self._vmm, [plug(region)], [self._file.fileno()])
        self._told += 1
        self._bench.run()


def file_number(file: OwnedFd) -> int:
    """An address that no other file has."""
    return identity(file)[1] * PAGE


def has_table(client: TapClient) -> bool:
    return bool(select.select([client], [], [], 0)[0])


def test_a_table_is_told_when_the_vmm_is_quiet(
    bench: Bench, new_memory: NewMemory
) -> None:
    """A part of it would be a guest whose other RAM is missing."""
    with bench.vmm() as vmm, bench.reader() as early:
        assert regions(early) == ()
        plugging = Plugging(bench, vmm, new_memory(PAGE))
        for _ in range(5):
            plugging.add()
            bench.now += QUIET * 0.9
            bench.run()
        with bench.reader_now() as late:
            assert not has_table(early)
            assert not has_table(late)
            bench.now += QUIET * 0.2
            bench.run()
            for each in (early, late):
                assert len(regions(each)) == 5
                assert not has_table(each)


def test_a_table_is_told_when_the_vmm_goes_on(
    bench: Bench, new_memory: NewMemory
) -> None:
    with bench.vmm() as vmm, bench.reader() as reader:
        assert regions(reader) == ()
        plugging = Plugging(bench, vmm, new_memory(PAGE))
        for _ in range(3):
            plugging.add()
        assert not has_table(reader)
        socket.send_fds(vmm, [ask(Request.GET_QUEUE_NUM)], [])
        bench.run()
        assert len(regions(reader)) == 3


def test_a_tap_that_was_stopped_tells_what_there_is_by_then(
    bench: Bench, new_memory: NewMemory
) -> None:
    """Much has come meanwhile, and its first half is as old as the rest."""
    with bench.vmm() as vmm, bench.reader() as reader:
        assert regions(reader) == ()
        plugging = Plugging(bench, vmm, new_memory(PAGE))
        bench.stopped = True
        vmm.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for _ in range(2 * MESSAGES_AT_ONCE):
            plugging.add()
        bench.now += 100
        bench.stopped = False
        bench.settle()
        assert len(regions(reader)) == 2 * MESSAGES_AT_ONCE
        assert not has_table(reader)


def test_what_is_left_out_is_said_once(
    bench: Bench, guest: Guest, new_memory: NewMemory
) -> None:
    shared = MemoryRegion(1 << 32, PAGE, 2 * ADDRESS, 0)
    with (
        bench.vmm() as vmm,
        bench.reader() as reader,
        OwnedFd(os.memfd_create("ivshmem")) as unsealed,
    ):
        assert regions(reader) == ()
        os.ftruncate(unsealed.fileno(), PAGE)
        bench.tell(vmm, plug(shared), (unsealed.fileno(),))
        assert regions(reader) == ()
        bench.tell(vmm, plug(Guest.region), (guest.fd,))
        assert regions(reader) == WHOLE
    assert sum("left out" in each for each in bench.said) == 1
    assert any("4 KiB" in each and "not sealed" in each for each in bench.said)


def test_ram_in_more_files_than_a_packet_has(
    bench: Bench, new_memory: NewMemory
) -> None:
    """Proxies hear no more, rather than of a part; what they know is right as far as it goes."""
    with bench.vmm() as vmm, bench.reader() as reader:
        assert regions(reader) == ()
        for _ in range(MAX_FILES + 1):
            with new_memory(PAGE) as file:
                region = MemoryRegion(file_number(file), PAGE, file_number(file), 0)
                bench.tell(vmm, plug(region), (file.fileno(),))
        with pytest.raises(GuestRamNotYetError, match="hung up"):
            read_all(reader)
        bench.tell(vmm, ask(Request.GET_QUEUE_NUM))
        assert answer_of(vmm.recv(100)) == u64(256)
    assert any("254 files" in each for each in bench.said)


@pytest.mark.parametrize("request_", [Request.SET_VRING_KICK, Request.SET_VRING_CALL])
def test_what_is_no_eventfd_is_not_waited_for(bench: Bench, request_: Request) -> None:
    """To read from it could take for ever."""
    fds = open_fds()
    reading, writing = map(OwnedFd, os.pipe())
    with reading, writing, bench.vmm() as vmm:
        bench.tell(vmm, ask(request_, u64(0)), (reading.fileno(),))
        assert hung_up(vmm)
    bench.settle()
    assert open_fds() == fds


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


class Disk:
    """A guest's ring, as the VMM has told of it."""

    def __init__(self, bench: Bench, guest: Guest, vmm: socket.socket) -> None:
        self.guest = guest
        self._bench = bench
        self._closing = ExitStack()
        self.kick, self.call = (
            self._closing.enter_context(OwnedFd(os.eventfd(0, os.EFD_NONBLOCK)))
            for _ in range(2)
        )
        bench.tell(vmm, guest.memory()[0], (guest.fd,))
        for message, fds in guest.ring(self.kick.fileno(), self.call.fileno()):
            bench.tell(vmm, message, tuple(fds))

    def __enter__(self) -> "Disk":
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def ask(self, requests: int = 1) -> None:
        for _ in range(requests):
            self.guest.request()
        os.eventfd_write(self.kick.fileno(), 1)

    def answered(self) -> int:
        """How many were, by now; the time stands still."""
        self._bench.run()
        return len(self.guest.used())


def test_requests_to_the_disk_fail_and_are_told_of(bench: Bench, guest: Guest) -> None:
    with bench.vmm() as vmm, Disk(bench, guest, vmm) as disk:
        call = disk.call.fileno()
        assert os.eventfd_read(call) == 1, "what came before may have been missed"
        disk.ask()
        assert disk.answered() == 1
        assert guest.status == 1
        assert os.eventfd_read(call) == 1


def test_what_was_asked_while_there_was_no_tap_is_answered(
    bench: Bench, guest: Guest
) -> None:
    """Nobody kicks again: the guest waits for its answer."""
    guest.request()
    with bench.vmm() as vmm, Disk(bench, guest, vmm) as disk:
        assert disk.answered() == 1


def test_a_guest_that_goes_on_asking_has_turns(bench: Bench, guest: Guest) -> None:
    with bench.vmm() as vmm, Disk(bench, guest, vmm) as disk:
        disk.ask()
        assert disk.answered() == 1
        disk.ask()
        assert disk.answered() == 1, "it is too early"
        bench.now += KICK_PAUSE * 0.9
        assert disk.answered() == 1
        bench.now += KICK_PAUSE * 0.2
        assert disk.answered() == 2


def test_a_pause_is_as_long_as_the_work_was(
    bench: Bench, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the guest asks for, it gets a twentieth of a processor."""
    with bench.vmm() as vmm, Disk(bench, guest, vmm) as disk:
        answer = Ring.answer

        def slowly(ring: Ring, ram: Ram, most: int) -> int:
            bench.spent += 0.1
            return answer(ring, ram, most)

        monkeypatch.setattr(Ring, "answer", slowly)
        disk.ask()
        assert disk.answered() == 1
        disk.ask()
        bench.now += 1.95
        assert disk.answered() == 1
        bench.now += 0.1
        assert disk.answered() == 2


def test_rings_share_a_turn(
    bench: Bench, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is full never keeps another from its own turn, and all have one bound."""
    monkeypatch.setattr("wlproxy.host.vhost_user.tap.DESCRIPTORS_AT_ONCE", 3)
    answer = Ring.answer
    turns: list[Ring] = []

    def counted(ring: Ring, ram: Ram, most: int) -> int:
        turns.append(ring)
        return answer(ring, ram, most)

    monkeypatch.setattr(Ring, "answer", counted)
    with (
        bench.vmm() as vmm,
        Disk(bench, guest, vmm) as disk,
        OwnedFd(os.eventfd(0, os.EFD_NONBLOCK)) as second,
    ):
        # The same ring once more, under another number: each request is answered twice.
        for message, fds in guest.ring(second.fileno(), disk.call.fileno(), 1):
            bench.tell(vmm, message, tuple(fds))
        turns.clear()
        disk.ask(4)
        os.eventfd_write(second.fileno(), 1)
        for number in range(1, 9):
            bench.run()
            assert len(turns) == number
            bench.now += 1
        assert len(set(turns[:2])) == 2
        assert turns == 4 * turns[:2]
        bench.run()
        assert len(turns) == 8


def test_a_ring_that_is_none_stops_and_nothing_else(bench: Bench, guest: Guest) -> None:
    with (
        bench.vmm() as vmm,
        bench.reader() as reader,
        Disk(bench, guest, vmm) as disk,
    ):
        assert regions(reader) == ()
        guest.describe(0, 0, 1, 2, 0)  # outside its RAM
        guest.offer(0)
        os.eventfd_write(disk.kick.fileno(), 1)
        bench.settle()
        assert any("stops answering" in each for each in bench.said)
        assert regions(reader) == WHOLE
        bench.tell(vmm, ask(Request.GET_FEATURES))
        assert vmm.recv(100)


def test_there_are_only_so_many_readers(bench: Bench) -> None:
    clients = [bench.reader() for _ in range(MAX_READERS)]
    with (
        bench.reader() as one_more,
        pytest.raises(GuestRamNotYetError, match="hung up"),
    ):
        one_more.receive()
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
        with pytest.raises(GuestRamNotYetError, match="hung up"):
            read_all(slow)
        with bench.reader() as other:
            assert regions(other) == WHOLE
