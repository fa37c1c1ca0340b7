"""VMMs that Debian does not have, as far as what they say: scripted from their sources.

None of them has run here.  Each script says what the VMM's front-end does from its start until the
guest's driver runs, checks of each answer what the VMM checks of it, and hangs up as it does.
"""

import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.host.vhost_user.front_end import (
    ADDRESS,
    AVAILABLE,
    DESCRIPTORS,
    GPA,
    RING_SIZE,
    SIZE,
    UNTOUCHED,
    USED,
    Guest,
    ask,
    u64,
)
from tests.peers.ram_tap import RamTap
from wlproxy.host.errors import GuestRamSealError
from wlproxy.host.qemu.ram import told_ram
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.host.vhost_user.messages import (
    HEADER,
    REPLY,
    VERSION,
    MemoryRegion,
    Request,
    encode_table,
)
from wlproxy.memory.guest_memory import RamRegion
from wlproxy.transport.fds import OwnedFd

GIB = 1 << 30
LOW = SIZE // 2
"""Bytes of the RAM below the gap for PCI; what is left begins at 4 GiB."""
REGIONS = (
    MemoryRegion(GPA, LOW, ADDRESS, 0),
    MemoryRegion(4 * GIB, SIZE - LOW, ADDRESS + GIB, LOW),
)
TOLD = (RamRegion(GPA, LOW, 0, 0), RamRegion(4 * GIB, SIZE - LOW, 0, LOW))

RO, BLK_SIZE, FLUSH, EVENT_IDX, PROTOCOL, VERSION_1 = 5, 6, 9, 29, 30, 32
"""Bits of features."""
MQ, LOG_SHMFD, REPLY_ACK, BACKEND_REQ, CONFIG = 0, 1, 3, 5, 9
INFLIGHT_SHMFD, MEM_SLOTS, DEVICE_STATE, SHMEM_MAP = 12, 15, 19, 20
"""Bits of protocol features."""
WRITABLE = 1
"""A flag of GET_CONFIG (VHOST_USER_CONFIG_F_WRITABLE in what the VMMs call it)."""
IO_ERROR = 1
SECONDS = 30


def bits(*numbers: int) -> int:
    return sum(1 << number for number in numbers)


class FrontEnd:
    """A VMM's end of the connection, with the guest's one ring."""

    def __init__(self, path: Path, closing: ExitStack) -> None:
        self._socket = closing.enter_context(socket.socket(socket.AF_UNIX))
        self._socket.settimeout(SECONDS)
        self._socket.connect(str(path))
        self.kick, self.call = (
            closing.enter_context(OwnedFd(os.eventfd(0, os.EFD_CLOEXEC)))
            for _ in range(2)
        )

    def tell(
        self, request: Request, payload: bytes = b"", fds: Sequence[int] = ()
    ) -> None:
        """Send a message that has no answer."""
        socket.send_fds(self._socket, [ask(request, payload)], list(fds))

    def get(self, request: Request, payload: bytes = b"") -> bytes:
        """Ask, and read the answer: of the same number, a reply, version 1, and whole."""
        self.tell(request, payload)
        head = self._read(HEADER.size)
        number, flags, size = HEADER.unpack(head)
        assert (number, flags) == (request, VERSION | REPLY)
        return self._read(size)

    def number(self, request: Request) -> int:
        (value,) = struct.unpack("<Q", self.get(request))
        return int(value)

    def config(self, offset: int, size: int) -> bytes:
        """Read the disk's configuration: as much as asked for, and from there."""
        head = struct.pack("<III", offset, size, WRITABLE)
        answer = self.get(Request.GET_CONFIG, head + bytes(size))
        assert struct.unpack_from("<II", answer) == (offset, size)
        assert len(answer) == len(head) + size
        return answer[len(head) :]

    def tell_memory(self, guest: Guest) -> None:
        table = encode_table(REGIONS)
        self.tell(Request.SET_MEM_TABLE, table, [guest.fd] * len(REGIONS))

    def tell_size(self) -> None:
        self.tell(Request.SET_VRING_NUM, struct.pack("<II", 0, RING_SIZE))

    def tell_ring(self) -> None:
        """Where it is, from where on, and its eventfds: the order in which all three do."""
        addresses = (ADDRESS + DESCRIPTORS, ADDRESS + USED, ADDRESS + AVAILABLE)
        told = struct.pack("<IIQQQQ", 0, 0, *addresses, 0)
        self.tell(Request.SET_VRING_ADDR, told)
        self.tell(Request.SET_VRING_BASE, struct.pack("<II", 0, 0))
        self.tell(Request.SET_VRING_CALL, u64(0), [self.call.fileno()])
        self.tell(Request.SET_VRING_KICK, u64(0), [self.kick.fileno()])

    def enable(self, on: int) -> None:
        self.tell(Request.SET_VRING_ENABLE, struct.pack("<II", 0, on))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            assert more, "the tap has hung up"
            data += more
        return data


def crosvm(vmm: FrontEnd, guest: Guest) -> None:
    """devices/src/virtio/vhost_user_frontend/mod.rs: new, read_config, ack_features, activate."""
    vmm.tell(Request.SET_OWNER)
    features = vmm.number(Request.GET_FEATURES)
    assert features & bits(PROTOCOL)
    known = bits(MQ, REPLY_ACK, BACKEND_REQ, CONFIG, DEVICE_STATE, SHMEM_MAP)
    agreed = vmm.number(Request.GET_PROTOCOL_FEATURES) & known
    vmm.tell(Request.SET_PROTOCOL_FEATURES, u64(agreed))
    # With any other it would ask for more: BACKEND_REQ has a socket of its own.
    assert agreed == bits(MQ, CONFIG)
    # It makes as many queues, an eventfd and an interrupt each, as are offered.
    assert vmm.number(Request.GET_QUEUE_NUM) == 1
    # Each access of the guest's is one question.
    assert vmm.config(0, 4) + vmm.config(4, 4) == bytes(8)
    assert vmm.config(20, 4) == (4096).to_bytes(4, "little")
    assert vmm.config(56, 4) == bytes(4)
    for half in (0xFFFF_FFFF, bits(VERSION_1)):
        acked = features & (half | bits(PROTOCOL))
        vmm.tell(Request.SET_FEATURES, u64(acked))
    vmm.tell_memory(guest)
    vmm.tell_size()
    vmm.tell_ring()
    vmm.enable(1)


def crosvm_stops(vmm: FrontEnd) -> None:
    """The same file: deactivate_vring, when the guest resets the device, or all is suspended."""
    vmm.enable(0)
    answer = vmm.get(Request.GET_VRING_BASE, struct.pack("<II", 0, 0))
    assert struct.unpack("<II", answer) == (0, 1)


def firecracker(vmm: FrontEnd, guest: Guest) -> None:
    """src/vmm/src/devices/virtio: block/vhost_user/device.rs, and vhost_user.rs."""
    vmm.tell(Request.SET_OWNER)
    known = bits(VERSION_1, EVENT_IDX, PROTOCOL, RO, FLUSH)
    features = vmm.number(Request.GET_FEATURES) & known
    assert features == bits(VERSION_1, PROTOCOL, RO)
    agreed = vmm.number(Request.GET_PROTOCOL_FEATURES) & bits(CONFIG)
    vmm.tell(Request.SET_PROTOCOL_FEATURES, u64(agreed))
    assert agreed
    assert vmm.config(0, 60)[:8] == bytes(8)
    vmm.tell(Request.SET_FEATURES, u64(features))
    vmm.tell_memory(guest)
    vmm.tell_size()
    vmm.tell_ring()
    vmm.enable(1)


def cloud_hypervisor(vmm: FrontEnd, guest: Guest) -> None:
    """virtio-devices/src/vhost_user: blk.rs, and vu_common_ctrl.rs."""
    vmm.tell(Request.SET_OWNER)
    known = bits(RO, BLK_SIZE, FLUSH, EVENT_IDX, PROTOCOL, VERSION_1)
    features = vmm.number(Request.GET_FEATURES) & known
    offered = vmm.number(Request.GET_PROTOCOL_FEATURES)
    known = bits(CONFIG, MQ, MEM_SLOTS, REPLY_ACK, INFLIGHT_SHMFD, LOG_SHMFD)
    vmm.tell(Request.SET_PROTOCOL_FEATURES, u64(offered & known))
    # With these it would ask for an answer to all, and for a file to note requests in.
    assert not offered & bits(REPLY_ACK, INFLIGHT_SHMFD)
    # It has as many queues as it is told to, which must not be more than there are.
    assert offered & bits(MQ)
    assert vmm.number(Request.GET_QUEUE_NUM) == 256
    assert vmm.config(0, 60)[20:24] == (4096).to_bytes(4, "little")
    vmm.tell(Request.SET_FEATURES, u64(features))
    vmm.tell_memory(guest)
    vmm.tell_size()
    vmm.tell_ring()
    vmm.enable(1)


@dataclass(frozen=True, slots=True)
class Bench:
    """A tap, a VMM's end, and a proxy's."""

    tap: RamTap
    vmm: FrontEnd
    proxy: TapClient


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    environ: Mapping[str, str] = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    with ExitStack() as closing:
        tap = RamTap(environ)
        closing.callback(tap.end_anyhow)
        proxy = closing.enter_context(TapClient(tap.table))
        with proxy.receive() as table:
            assert table.regions == ()
        vmm = FrontEnd(tmp_path / "wlproxy-work.ram", closing)
        yield Bench(tap, vmm, proxy)
        assert tap.end() == 0


def fail_a_request(vmm: FrontEnd, guest: Guest) -> None:
    """Firmware and kernels look at every disk: one that did not answer would hang them."""
    guest.request()
    os.eventfd_write(vmm.kick.fileno(), 1)
    while guest.status == UNTOUCHED:
        # The tap has made it one that is not waited for by reading.
        assert select.select([vmm.call], [], [], SECONDS)[0], "no answer"
        os.eventfd_read(vmm.call.fileno())
    assert guest.status == IO_ERROR


@pytest.mark.parametrize("start", [crosvm, firecracker, cloud_hypervisor])
def test_a_vmm_tells_where_the_ram_is(
    bench: Bench, guest: Guest, start: Callable[[FrontEnd, Guest], None]
) -> None:
    start(bench.vmm, guest)
    with bench.proxy.receive() as table:
        assert table.pid == os.getpid()
        assert table.regions == TOLD
        assert len(table.files) == 1
        told, own = os.fstat(table.files[0].fileno()), os.fstat(guest.fd)
        assert os.path.samestat(told, own)
    fail_a_request(bench.vmm, guest)


def test_crosvm_stops_a_ring_and_starts_it_again(bench: Bench, guest: Guest) -> None:
    crosvm(bench.vmm, guest)
    fail_a_request(bench.vmm, guest)
    crosvm_stops(bench.vmm)
    bench.vmm.tell_memory(guest)
    bench.vmm.tell_size()
    bench.vmm.tell_ring()
    bench.vmm.tell(Request.SET_VRING_BASE, struct.pack("<II", 0, 1))
    bench.vmm.enable(1)
    fail_a_request(bench.vmm, guest)


def test_the_ram_of_cloud_hypervisor_is_not_sealed(
    bench: Bench, unsealed: Guest
) -> None:
    """vmm/src/memory_manager.rs makes its memfd without MFD_ALLOW_SEALING."""
    cloud_hypervisor(bench.vmm, unsealed)
    with pytest.raises(GuestRamSealError, match="2 regions of shared memory"):
        told_ram(bench.proxy.receive())
    assert "left out" in bench.tap.wait_said("left out")
    # All the same it is served, and its guest does not wait for the disk.
    fail_a_request(bench.vmm, unsealed)
