"""The table of RAM arrives as it was sent, or is an error that says what is wrong."""

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.open_fds import open_fds
from wlproxy.host.errors import GuestRamError
from wlproxy.host.vhost_user.messages import MemoryRegion
from wlproxy.host.vhost_user.ram import Ram
from wlproxy.host.vhost_user.table import MAX_FILES, Table, decode, encode
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
        packet = encode(7, ram)
        assert packet.left_out == []
        table = decode(packet.data, [OwnedFd(os.dup(fd)) for fd in packet.fds])
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
        packet = encode(0, ram)
    assert packet.fds == []
    with decode(packet.data, []) as table:
        assert table == Table(0, (), (), 0)


def test_memory_that_no_dma_buf_can_be_made_of_is_left_out(
    new_memory: NewMemory, tmp_path: Path
) -> None:
    """An ivshmem, an NVDIMM, a file: what is RAM is used all the same."""
    low = new_memory(4 * PAGE)
    with ExitStack() as closing, Ram() as ram:
        on_disk = closing.enter_context((tmp_path / "nvdimm").open("w+b"))
        on_disk.truncate(PAGE)
        unsealed = closing.enter_context(OwnedFd(os.memfd_create("ivshmem")))
        os.ftruncate(unsealed.fileno(), PAGE)
        device = closing.enter_context(Path("/dev/zero").open("r+b", buffering=0))
        others = [each.fileno() for each in (on_disk, unsealed, device)]
        for number, fd in enumerate((*others, low.fileno()), 1):
            region = MemoryRegion(number << 32, PAGE, number * PAGE, 0)
            ram.add(region, OwnedFd(os.dup(fd)))
        packet = encode(7, ram)
        whys = {each.region.gpa >> 32: each.why for each in packet.left_out}
        assert whys.keys() == {1, 2, 3}
        assert "not sealed" in whys[2]
        assert "not a memfd" in whys[3]
        files = [OwnedFd(os.dup(fd)) for fd in packet.fds]
    with decode(packet.data, files) as table:
        assert table.regions == (RamRegion(4 << 32, PAGE, 0, 0),)
        assert (len(table.files), table.left_out) == (1, 3)


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
        packet = encode(1, ram)
    with pytest.raises(GuestRamError, match=r"without its file(.|\n)*same version"):
        decode(packet.data, [])


@given(st.binary(max_size=120), st.integers(0, 3))
def test_garbage_is_refused_and_its_files_closed(data: bytes, count: int) -> None:
    before = open_fds()
    with OwnedFd(os.memfd_create("any")) as any_file, suppress(GuestRamError):
        files = [any_file.duplicate() for _ in range(count)]
        decode(data, files).close()
    assert open_fds() == before
