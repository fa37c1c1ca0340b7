"""The answers of a disk without a sector to a VMM, without I/O of its own but on the guest's RAM.

The order in which a VMM asks: features, then the memory when the guest's driver starts, and its
rings; and the memory again whenever some is plugged or unplugged.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, TypeAlias

from wlproxy.host.vhost_user.messages import (
    CONFIG,
    MAX_PAYLOAD,
    NO_FD,
    RING_MASK,
    U64,
    VRING_ADDRESS,
    VRING_STATE,
    Message,
    ProtocolFeature,
    Request,
    VhostUserError,
    encode_reply,
    parse_single,
    parse_table,
)
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.host.vhost_user.ring import MAX_SIZE, Ring
from wlproxy.transport.closable import Closing
from wlproxy.transport.fds import OwnedFd

FEATURES: Final = 1 << 5 | 1 << 6 | 1 << 26 | 1 << 30 | 1 << 32
"""VIRTIO_BLK_F_RO, VIRTIO_BLK_F_BLK_SIZE, VHOST_F_LOG_ALL, VHOST_USER_F_PROTOCOL_FEATURES, VIRTIO_F_VERSION_1.

Logging is for migration and `virsh save`, which QEMU refuses without: pages that a device has
written are to be noted.  What little a failed request writes is not, as no guest asks for anything
once it has seen how large the disk is.
"""
PROTOCOL_FEATURES: Final = (
    ProtocolFeature.MQ
    | ProtocolFeature.LOG_SHMFD
    | ProtocolFeature.CONFIG
    | ProtocolFeature.RESET_DEVICE
    | ProtocolFeature.CONFIGURE_MEM_SLOTS
    | ProtocolFeature.STATUS
)
"""Not REPLY_ACK: with it QEMU waits for us when memory is plugged, and would for a tap that is stopped."""
SECTOR: Final = 4096
"""Bytes: SeaBIOS boots from no disk with such sectors, so that it does not take this one for the first."""
CONFIGURATION: Final = bytes(20) + SECTOR.to_bytes(4, "little")
"""struct virtio_blk_config, as far as it is not 0: no capacity; blk_size."""
MAX_RINGS: Final = 256
"""QEMU asks for one for each processor of the guest; RING_MASK can name no more."""
FEW_RINGS: Final = 1
"""For a front-end without memory slots: crosvm, which makes as many as there are, each with an eventfd
and an interrupt, and has place for 256 interrupts, that of the configuration among them
(devices/src/virtio/virtio_pci_device.rs).  QEMU before 5.1 wants no more than one either, unless
told to.
"""
MAX_REGIONS: Final = 509
"""Pieces of RAM, DIMMs and their like: as many as the kernel's KVM_USER_MEM_SLOTS on x86, so that
QEMU plugs as many with this device as without."""

EVENTFD: Final = "anon_inode:[eventfd]"
"""What /proc calls one."""

_OF_MEMORY: Final = (Request.SET_MEM_TABLE, Request.ADD_MEM_REG, Request.REM_MEM_REG)
_Act: TypeAlias = "Callable[[Backend, Message, list[OwnedFd]], bytes | None]"


class Backend(Closing):
    """The device, for one connection of a VMM's.

    Attributes:
        ram: what the VMM has told of the guest's RAM.
        rings: by their index.
        changed: whether `ram` has, since somebody set this to False.
        settled: whether the VMM has gone on to something else than its memory since then.
    """

    def __init__(self) -> None:
        """Nothing is known."""
        self.ram = Ram()
        self.rings: dict[int, Ring] = {}
        self.changed = False
        self.settled = False
        self._status = 0
        self._agreed = int(PROTOCOL_FEATURES)

    def close(self) -> None:
        """Close every fd."""
        self.ram.close()
        for ring in self.rings.values():
            ring.close()
        self.rings.clear()

    def receive(self, message: Message, fds: Sequence[OwnedFd]) -> bytes:
        """Take a message, and own what came with it; return the reply, which may be empty.

        Raises:
            VhostUserError: the VMM broke the protocol: this connection is to be closed.
        """
        rest = list(fds)
        try:
            answer = self._answer(message, rest)
        finally:
            for fd in rest:
                fd.close()
        # A table comes in pieces, two messages for each region that moves.
        self.settled = message.request not in _OF_MEMORY
        return b"" if answer is None else encode_reply(message.request, answer)

    def _answer(self, message: Message, fds: list[OwnedFd]) -> bytes | None:
        """Do as told; return the answer, if there is to be one.  What is kept leaves `fds`."""
        told = _TOLD.get(message.request)
        if told is not None:
            return U64.pack(told)
        act = self._acts.get(message.request)
        if act is None:
            raise VhostUserError(f"request {message.request} was not agreed on")
        return act(self, message, fds)

    def _ignore(self, _message: Message, _fds: list[OwnedFd]) -> None:
        """Features that cannot be but ours, an owner, a log of what is never written."""

    def _take_log(self, _message: Message, _fds: list[OwnedFd]) -> bytes:
        """Answer SET_LOG_BASE, as it must be with LOG_SHMFD."""
        return U64.pack(0)

    def _agree(self, message: Message, _fds: list[OwnedFd]) -> None:
        (self._agreed,) = message.unpack(U64)

    def _count_rings(self, _message: Message, _fds: list[OwnedFd]) -> bytes:
        slots = self._agreed & ProtocolFeature.CONFIGURE_MEM_SLOTS
        return U64.pack(MAX_RINGS if slots else FEW_RINGS)

    def _take_table(self, message: Message, fds: list[OwnedFd]) -> None:
        regions = parse_table(message.payload)
        if len(regions) != len(fds):
            raise VhostUserError(f"{len(regions)} regions with {len(fds)} fds")
        self.ram.close()
        self.changed = True
        for region in regions:
            self.ram.add(region, fds.pop(0))

    def _add_region(self, message: Message, fds: list[OwnedFd]) -> None:
        region = parse_single(message.payload)
        if len(fds) != 1 or len(self.ram) >= MAX_REGIONS:
            raise VhostUserError(f"region {len(self.ram) + 1} with {len(fds)} fds")
        self.changed = True
        self.ram.add(region, fds.pop())

    def _remove_region(self, message: Message, _fds: list[OwnedFd]) -> None:
        self.ram.remove(parse_single(message.payload))
        self.changed = True

    def _answer_config(self, message: Message, _fds: list[OwnedFd]) -> bytes:
        offset, size, _flags = message.unpack(CONFIG)
        if CONFIG.size + size > len(message.payload) or offset > MAX_PAYLOAD:
            raise VhostUserError(f"{size} bytes of a configuration, from {offset}")
        found = CONFIGURATION[offset : offset + size].ljust(size, b"\0")
        return message.payload[: CONFIG.size] + found

    def _take_size(self, message: Message, _fds: list[OwnedFd]) -> None:
        index, size = message.unpack(VRING_STATE)
        if size > MAX_SIZE:
            raise VhostUserError(f"a ring of {size} entries")
        self._ring(index).size = size

    def _take_addresses(self, message: Message, _fds: list[OwnedFd]) -> None:
        index, _flags, descriptors, used, available, _log = message.unpack(
            VRING_ADDRESS
        )
        self._ring(index).addresses = (descriptors, used, available)

    def _take_base(self, message: Message, _fds: list[OwnedFd]) -> None:
        index, base = message.unpack(VRING_STATE)
        self._ring(index).next = base & 0xFFFF

    def _give_base(self, message: Message, _fds: list[OwnedFd]) -> bytes:
        """Answer GET_VRING_BASE, which stops the ring."""
        index, _number = message.unpack(VRING_STATE)
        ring = self._ring(index)
        ring.set_kick(None)
        return VRING_STATE.pack(index, ring.next)

    def _take_kick(self, message: Message, fds: list[OwnedFd]) -> None:
        index, fd = _named_fd(message, fds)
        self._ring(index).set_kick(fd)

    def _take_call(self, message: Message, fds: list[OwnedFd]) -> None:
        index, fd = _named_fd(message, fds)
        self._ring(index).set_call(fd)

    def _take_status(self, message: Message, _fds: list[OwnedFd]) -> None:
        (self._status,) = message.unpack(U64)

    def _give_status(self, _message: Message, _fds: list[OwnedFd]) -> bytes:
        return U64.pack(self._status)

    def _reset(self, _message: Message, _fds: list[OwnedFd]) -> None:
        """Stop all rings; the guest's RAM is where it was."""
        for ring in self.rings.values():
            ring.close()
        self.rings.clear()
        self._status = 0

    def _ring(self, index: int) -> Ring:
        if index >= MAX_RINGS:
            raise VhostUserError(f"no ring {index}")
        return self.rings.setdefault(index, Ring())

    _acts: ClassVar[Mapping[int, _Act]] = {
        Request.SET_FEATURES: _ignore,
        Request.SET_OWNER: _ignore,
        Request.SET_LOG_FD: _ignore,
        Request.SET_VRING_ERR: _ignore,
        Request.SET_VRING_ENABLE: _ignore,
        Request.SET_CONFIG: _ignore,
        Request.SET_LOG_BASE: _take_log,
        Request.SET_PROTOCOL_FEATURES: _agree,
        Request.GET_QUEUE_NUM: _count_rings,
        Request.SET_MEM_TABLE: _take_table,
        Request.ADD_MEM_REG: _add_region,
        Request.REM_MEM_REG: _remove_region,
        Request.GET_CONFIG: _answer_config,
        Request.SET_VRING_NUM: _take_size,
        Request.SET_VRING_ADDR: _take_addresses,
        Request.SET_VRING_BASE: _take_base,
        Request.GET_VRING_BASE: _give_base,
        Request.SET_VRING_KICK: _take_kick,
        Request.SET_VRING_CALL: _take_call,
        Request.SET_STATUS: _take_status,
        Request.GET_STATUS: _give_status,
        Request.RESET_OWNER: _reset,
        Request.RESET_DEVICE: _reset,
    }
    """Request -> what is done."""


def _named_fd(message: Message, fds: list[OwnedFd]) -> tuple[int, OwnedFd | None]:
    """Read which ring an eventfd is for, and take it; None if there is none.

    Raises:
        VhostUserError: it is no eventfd: reading it might have to wait for its maker.
    """
    (value,) = message.unpack(U64)
    if value & NO_FD or not fds:
        return value & RING_MASK, None
    number = fds[0].fileno()
    try:
        kind = str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError as exc:
        raise VhostUserError(f"what kind an fd is: {exc.strerror}") from exc
    if kind != EVENTFD:
        raise VhostUserError(f"{kind} where an eventfd belongs")
    # The open file is the VMM's, too.  Those of QEMU, Firecracker and cloud-hypervisor are so anyway;
    # crosvm's are read by the kernel, or after epoll.
    os.set_blocking(number, False)
    return value & RING_MASK, fds.pop(0)


_TOLD: Final[Mapping[int, int]] = {
    Request.GET_FEATURES: FEATURES,
    Request.GET_PROTOCOL_FEATURES: int(PROTOCOL_FEATURES),
    Request.GET_MAX_MEM_SLOTS: MAX_REGIONS,
}
"""Request -> what is answered, always."""
