"""How devices of our modules are opened and read; the modules themselves are in the lab."""

import errno
import os
import struct
from array import array
from ctypes import c_uint32, c_uint64

import pytest

from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.locating.gem_grant import (
    GEM_GRANT_INFO,
    GEM_GRANT_RUNS,
    RUNS,
    GemGrant,
    read_runs,
)
from wlproxy_guest.locating.gem_locate import (
    EXTENTS,
    GEM_LOCATE_EXTENTS,
    GEM_LOCATE_VERSION,
    GemLocate,
    read_extents,
)

Device = type[GemGrant] | type[GemLocate]


@pytest.mark.parametrize("device", [GemGrant, GemLocate])
def test_another_device(device: Device) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is what counts
        device("/dev/null")
    assert caught.value.errno == errno.ENOTTY


@pytest.mark.parametrize(
    ("device", "number"), [(GemGrant, GEM_GRANT_INFO), (GemLocate, GEM_LOCATE_VERSION)]
)
def test_an_old_driver(
    monkeypatch: pytest.MonkeyPatch, device: Device, number: int
) -> None:
    asked: list[int] = []

    def ioctl(_fd: int, number: int, request: bytearray) -> int:
        asked.append(number)
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    with pytest.raises(OSError, match="version 0") as caught:
        device("/dev/null")
    assert caught.value.errno == errno.EPROTONOSUPPORT
    assert asked == [number]


def test_what_a_domain_grants_to_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def ioctl(_fd: int, _number: int, request: bytearray) -> int:
        request[:] = struct.pack("=II", 1, 7)
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    device = GemGrant("/dev/null")
    assert device.domid == 7
    device.close()


def driver(monkeypatch: pytest.MonkeyPatch, there_are: int) -> None:
    """Has 1, 2, 3 and 4, and says so as both modules do; `there_are` is how many pairs."""

    def ioctl(_fd: int, number: int, request: bytearray) -> int:
        word = {GEM_GRANT_RUNS: c_uint32, GEM_LOCATE_EXTENTS: c_uint64}[number]
        layout = {GEM_GRANT_RUNS: RUNS, GEM_LOCATE_EXTENTS: EXTENTS}[number]
        address, room, _ = layout.unpack(request)
        assert room == 2
        (word * 4).from_address(address)[:] = [1, 2, 3, 4]
        request[:] = layout.pack(address, there_are, 0)
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)


def test_pairs_of_either_size(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, there_are=2)
    with OwnedFd(os.memfd_create("kept")) as kept:
        assert read_runs(kept, 2) == array("I", [1, 2, 3, 4])
        assert read_extents(kept, 2) == array("Q", [1, 2, 3, 4])


def test_other_pairs_than_were_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, there_are=3)
    with OwnedFd(os.memfd_create("kept")) as kept:
        for read in read_runs, read_extents:
            with pytest.raises(OSError, match="rotoc"):
                read(kept, 2)
