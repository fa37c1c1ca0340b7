"""What the device answers a VMM, in the order in which QEMU asks."""

import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host.vhost_user.front_end import (
    ADDRESS,
    GPA,
    PAGE,
    RING_SIZE,
    Guest,
    answer_of,
    ask,
    plug,
    u64,
    unplug,
)
from tests.open_fds import open_fds
from wlproxy.host.vhost_user.backend import (
    CONFIGURATION,
    FEATURES,
    MAX_REGIONS,
    PROTOCOL_FEATURES,
    Backend,
)
from wlproxy.host.vhost_user.messages import (
    Incoming,
    MemoryRegion,
    Message,
    ProtocolFeature,
    Request,
    VhostUserError,
)
from wlproxy.transport.fds import OwnedFd

NewMemory = Callable[[int], OwnedFd]


def send(device: Backend, data: bytes, fds: Sequence[int] = ()) -> bytes:
    """Give the device one message, with duplicates of the fds; return its reply."""
    incoming = Incoming()
    message = incoming.feed(data[: incoming.wanted])
    if message is None:
        message = incoming.feed(data[12:])
    assert message is not None
    return device.receive(message, [OwnedFd(os.dup(fd)) for fd in fds])


def test_features_are_those_that_qemu_needs() -> None:
    with Backend() as device:
        assert answer_of(send(device, ask(Request.GET_FEATURES))) == u64(FEATURES)
        assert answer_of(send(device, ask(Request.GET_PROTOCOL_FEATURES))) == u64(
            PROTOCOL_FEATURES
        )
        # Without these QEMU takes as many DIMMs as the device has, and refuses to save a VM.
        assert answer_of(send(device, ask(Request.GET_MAX_MEM_SLOTS))) == u64(509)
        assert FEATURES & 1 << 26
        assert ProtocolFeature.LOG_SHMFD in PROTOCOL_FEATURES


@pytest.mark.parametrize(
    ("agreed", "rings"),
    [(None, 256), (ProtocolFeature.CONFIGURE_MEM_SLOTS, 256), (ProtocolFeature.MQ, 1)],
)
def test_who_takes_all_rings_there_are_is_offered_one(
    agreed: ProtocolFeature | None, rings: int
) -> None:
    with Backend() as device:
        if agreed is not None:
            send(device, ask(Request.SET_PROTOCOL_FEATURES, u64(agreed)))
        assert answer_of(send(device, ask(Request.GET_QUEUE_NUM))) == u64(rings)


def test_a_disk_without_a_sector() -> None:
    with Backend() as device:
        asked = struct.pack("<III", 0, 60, 0) + bytes(60)
        config = answer_of(send(device, ask(Request.GET_CONFIG, asked)))
        assert config[:12] == asked[:12]
        capacity, *_, sector = struct.unpack_from("<QIIII", config, 12)
        assert (capacity, sector) == (0, 4096)
        part = struct.pack("<III", 20, 4, 0) + bytes(4)
        assert (
            answer_of(send(device, ask(Request.GET_CONFIG, part)))[12:]
            == (CONFIGURATION[20:])
        )


@pytest.mark.parametrize("payload", [b"", struct.pack("<III", 0, 60, 0) + bytes(59)])
def test_a_configuration_that_is_not_asked_for_properly(payload: bytes) -> None:
    with Backend() as device, pytest.raises(VhostUserError):
        send(device, ask(Request.GET_CONFIG, payload))


def test_a_table_is_kept_and_replaced(guest: Guest, new_memory: NewMemory) -> None:
    fds = open_fds()
    with Backend() as device:
        send(device, *guest.memory())
        assert device.changed
        assert [region for region, _ in device.ram] == [Guest.region]
        other = new_memory(PAGE)
        device.changed = False
        table = struct.pack("<IIQQQQ", 1, 0, 0, PAGE, ADDRESS, 0)
        send(device, ask(Request.SET_MEM_TABLE, table), [other.fileno()])
        assert device.changed
        [(region, file)] = device.ram
        assert region == MemoryRegion(0, PAGE, ADDRESS, 0)
        assert os.path.samestat(os.fstat(file.fileno()), os.fstat(other.fileno()))
    assert open_fds().keys() - {other.fileno()} == fds.keys()


def test_memory_is_plugged_and_unplugged(guest: Guest, new_memory: NewMemory) -> None:
    fds = open_fds()
    dimm = MemoryRegion(1 << 32, 4 * PAGE, ADDRESS * 2, PAGE)
    with new_memory(8 * PAGE) as file, Backend() as device:
        send(device, *guest.memory())
        plugged = open_fds().keys()
        send(device, plug(dimm), [file.fileno()])
        assert {region for region, _ in device.ram} == {Guest.region, dimm}
        device.changed = False
        # QEMU passes the file with this, too.
        send(device, unplug(dimm), [file.fileno()])
        assert device.changed
        assert open_fds().keys() == plugged
        assert {region for region, _ in device.ram} == {Guest.region}
        with pytest.raises(VhostUserError, match="no region"):
            send(device, unplug(dimm))
        with pytest.raises(VhostUserError, match="already"):
            send(device, plug(Guest.region), [guest.fd])
    assert open_fds() == fds


def test_there_are_only_so_many_regions(guest: Guest) -> None:
    with Backend() as device:
        for number in range(MAX_REGIONS):
            region = MemoryRegion(number * PAGE, PAGE, number * PAGE, 0)
            send(device, plug(region), [guest.fd])
        with pytest.raises(VhostUserError, match="region 510"):
            send(device, plug(MemoryRegion(2**40, PAGE, 0, 0)), [guest.fd])


@pytest.mark.parametrize(
    "region",
    [
        MemoryRegion(GPA, PAGE, ADDRESS, 1 << 63),
        MemoryRegion(GPA, 65 * PAGE, ADDRESS, 0),
        MemoryRegion((1 << 64) - 1, PAGE, ADDRESS, 0),
    ],
)
def test_a_region_is_in_its_file_and_in_64_bits(
    guest: Guest, region: MemoryRegion
) -> None:
    before = open_fds()
    with Backend() as device, pytest.raises(VhostUserError, match="not in its file"):
        send(device, plug(region), [guest.fd])
    assert open_fds() == before


@pytest.mark.parametrize("fds", [0, 2])
def test_regions_have_a_file_each(guest: Guest, fds: int) -> None:
    before = open_fds()
    with Backend() as device:
        for message in (guest.memory()[0], plug(Guest.region)):
            with pytest.raises(VhostUserError):
                send(device, message, [guest.fd] * fds)
    assert open_fds() == before


def test_qemu_waits_for_nothing_when_memory_is_plugged() -> None:
    """Or a tap that is stopped would stop the VM."""
    assert not PROTOCOL_FEATURES & 1 << 3  # VHOST_USER_PROTOCOL_F_REPLY_ACK


def test_a_ring_answers_and_stops_where_it_is(guest: Guest) -> None:
    kick, call = os.eventfd(0), os.eventfd(0)
    fds = open_fds()
    with Backend() as device:
        send(device, *guest.memory())
        for message, passed in guest.ring(kick, call):
            send(device, message, passed)
        [ring] = device.rings.values()
        guest.request()
        assert ring.answer(device.ram, 1 << 16) == 3
        stopped = answer_of(
            send(device, ask(Request.GET_VRING_BASE, struct.pack("<II", 0, 0)))
        )
        assert struct.unpack("<II", stopped) == (0, 1)
        assert ring.kick is None
        send(device, ask(Request.RESET_DEVICE))
        assert device.rings == {}
        assert len(device.ram) == 1
    assert open_fds() == fds
    os.close(kick)
    os.close(call)


def test_a_kick_without_an_fd_is_none(guest: Guest) -> None:
    with Backend() as device:
        send(device, ask(Request.SET_VRING_KICK, u64(3 | 1 << 8)))
        assert device.rings[3].kick is None


def test_status_is_given_back() -> None:
    with Backend() as device:
        send(device, ask(Request.SET_STATUS, u64(0xF)))
        assert answer_of(send(device, ask(Request.GET_STATUS))) == u64(0xF)


def test_the_log_of_a_migration_is_answered(guest: Guest) -> None:
    """SET_LOG_BASE is answered even if nobody asked to: vhost-user.rst, "Communication"."""
    with Backend() as device:
        reply = send(device, ask(Request.SET_LOG_BASE, u64(4096) + u64(0)), [guest.fd])
        assert answer_of(reply) == u64(0)


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (Request.SET_VRING_NUM, struct.pack("<II", 0, 1 << 20)),
        (Request.SET_VRING_NUM, struct.pack("<II", 256, RING_SIZE)),
        (Request.SET_MEM_TABLE, struct.pack("<II", 9, 0)),
        (Request.SET_VRING_ADDR, b""),
        (Request.SET_PROTOCOL_FEATURES, b""),
    ],
)
def test_what_cannot_be_is_refused(request_: Request, payload: bytes) -> None:
    with Backend() as device, pytest.raises(VhostUserError):
        send(device, ask(request_, payload))


def test_an_unknown_request_is_refused() -> None:
    with Backend() as device, pytest.raises(VhostUserError, match="request 4711"):
        device.receive(Message(4711), [])


REGION = struct.pack("<QQQQ", GPA, PAGE, ADDRESS, 0)
PAYLOADS = st.one_of(
    st.binary(max_size=80),
    st.sampled_from([u64(0), struct.pack("<II", 0, RING_SIZE), bytes(8) + REGION]),
)
SENT = st.tuples(
    st.one_of(st.sampled_from(Request), st.integers(0, 60)),
    PAYLOADS,
    st.integers(0, 8),
)


@given(st.lists(SENT, max_size=30))
def test_garbage_is_answered_or_refused_and_nothing_stays_open(
    sent: list[tuple[int, bytes, int]],
) -> None:
    before = open_fds()
    with OwnedFd(os.memfd_create("any")) as fd, Backend() as device:
        with suppress(VhostUserError):
            for request, payload, count in sent:
                fds = [OwnedFd(os.dup(fd.fileno())) for _ in range(count)]
                device.receive(Message(request, payload), fds)
        assert len(device.ram) <= MAX_REGIONS
        assert len(device.rings) <= 256
    assert open_fds() == before
