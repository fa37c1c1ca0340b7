"""The table of RAM arrives as it was sent, or is an error that says what is wrong."""

import os
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.open_fds import open_fds
from wlproxy.host.errors import GuestRamError
from wlproxy.host.vhost_user.messages import MemoryRegion
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.host.vhost_user.table import MAX_FILES, decode, encode
from wlproxy.memory.guest_memory import RamRegion
from wlproxy.transport.fds import OwnedFd

NewMemory = Callable[[int], OwnedFd]
PAGE = 4096


def test_a_file_is_sent_once(new_memory: NewMemory) -> None:
    low, dimm = new_memory(4 * PAGE), new_memory(PAGE)
    with Ram() as ram:
        for region, file in (
            (MemoryRegion(0, PAGE, 0x1000, 0), low),
            (MemoryRegion(1 << 32, 3 * PAGE, 0x9000, PAGE), low),
            (MemoryRegion(2 << 32, PAGE, 0x20000, 0), dimm),
        ):
            ram.add(region, file.duplicate())
        packet, fds = encode(7, ram)
        table = decode(packet, [OwnedFd(os.dup(fd)) for fd in fds])
    with table:
        assert table.pid == 7
        assert table.regions == (
            RamRegion(0, PAGE, 0, 0),
            RamRegion(1 << 32, 3 * PAGE, 0, PAGE),
            RamRegion(2 << 32, PAGE, 1, 0),
        )
        inodes = [os.fstat(each.fileno()).st_ino for each in table.files]
        assert inodes == [os.fstat(each.fileno()).st_ino for each in (low, dimm)]


def test_no_vmm_is_an_empty_table() -> None:
    with Ram() as ram:
        packet, fds = encode(0, ram)
    assert fds == []
    with decode(packet, []) as table:
        assert (table.pid, table.regions, table.files) == (0, (), ())


def test_more_files_than_a_packet_has(new_memory: NewMemory) -> None:
    with Ram() as ram:
        for number in range(MAX_FILES + 1):
            region = MemoryRegion(number * PAGE, PAGE, 0, 0)
            ram.add(region, new_memory(PAGE).duplicate())
        with pytest.raises(GuestRamError, match="254 files"):
            encode(1, ram)


def test_a_region_without_its_file(new_memory: NewMemory) -> None:
    with Ram() as ram:
        ram.add(MemoryRegion(0, PAGE, 0, 0), new_memory(PAGE).duplicate())
        packet, _ = encode(1, ram)
    with pytest.raises(GuestRamError, match=r"without its file(.|\n)*same version"):
        decode(packet, [])


@given(st.binary(max_size=120), st.integers(0, 3))
def test_garbage_is_refused_and_its_files_closed(data: bytes, count: int) -> None:
    before = open_fds()
    with OwnedFd(os.memfd_create("any")) as any_file, suppress(GuestRamError):
        files = [any_file.duplicate() for _ in range(count)]
        decode(data, files).close()
    assert open_fds() == before
