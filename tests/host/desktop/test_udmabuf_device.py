import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.conftest import nobody
from wlproxy.host.desktop import udmabuf_device as udmabuf_module
from wlproxy.host.desktop.udmabuf_device import (
    F_SEAL_FUTURE_WRITE,
    UdmabufDevice,
    UdmabufItem,
    UdmabufLimits,
    explain_refusal,
    find_parameters,
    read_limits,
)
from wlproxy.host.errors import (
    UdmabufError,
    UdmabufListLimitError,
    UdmabufMissingError,
    UdmabufPermissionError,
    UdmabufRangeError,
    UdmabufSealError,
    UdmabufSizeLimitError,
)
from wlproxy.transport.fds import OwnedFd

PAGE = 4096
PAGES = 16
F_ADD_SEALS = 1033
LIMITS = UdmabufLimits(list_limit=8, size_limit=PAGES * PAGE)


def memfd(seals: int = fcntl.F_SEAL_SHRINK, pages: int = PAGES) -> OwnedFd:
    fd = OwnedFd(
        os.memfd_create("test", os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if seals else 0))
    )
    os.ftruncate(fd.fileno(), pages * PAGE)
    if seals:
        fcntl.fcntl(fd.fileno(), F_ADD_SEALS, seals)
    return fd


@pytest.fixture
def memory() -> Iterator[int]:
    with memfd() as fd:
        yield fd.fileno()


@pytest.fixture
def not_udmabuf() -> Iterator[UdmabufDevice]:
    """A device that knows none of the driver's ioctls."""
    with UdmabufDevice(Path("/dev/null")) as device:
        yield device


def test_missing_device_says_what_to_load(tmp_path: Path) -> None:
    with pytest.raises(UdmabufMissingError, match="\n  modprobe udmabuf\n") as caught:
        UdmabufDevice(tmp_path / "udmabuf")
    assert "\n  modprobe udmabuf_compat" in caught.value.remedy
    assert caught.value.errno == errno.ENOENT


def test_forbidden_device_gives_the_udev_rule(tmp_path: Path) -> None:
    device = tmp_path / "udmabuf"
    device.touch(0)
    for directory in (tmp_path, *tmp_path.parents[:2]):  # for nobody to pass
        directory.chmod(0o755)
    with (
        nobody(),
        pytest.raises(UdmabufPermissionError, match=r'TAG\+="uaccess"') as caught,
    ):
        UdmabufDevice(device)
    assert caught.value.errno == errno.EACCES


def test_unopenable_device(tmp_path: Path) -> None:
    with pytest.raises(UdmabufError, match="EISDIR"):
        UdmabufDevice(tmp_path)


def test_limits_are_read_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udmabuf_module, "SYS_MODULES", tmp_path)
    parameters = tmp_path / "udmabuf" / "parameters"
    parameters.mkdir(parents=True)
    assert read_limits() == UdmabufLimits(1024, 64 << 20)
    (parameters / "list_limit").write_text("65536\n")
    (parameters / "size_limit_mb").write_text("512\n")
    assert read_limits() == UdmabufLimits(65536, 512 << 20)
    (parameters / "list_limit").write_text("-1\n")
    (parameters / "size_limit_mb").write_text("lots\n")
    with UdmabufDevice(Path("/dev/null")) as device:
        assert device.limits() == UdmabufLimits(1024, 64 << 20)


@pytest.mark.parametrize(
    ("loaded", "found"),
    [
        ([], "udmabuf"),
        (["udmabuf"], "udmabuf"),
        (["udmabuf_compat"], "udmabuf_compat"),
        (["udmabuf", "udmabuf_compat"], "udmabuf"),
    ],
)
def test_the_driver_may_be_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[str], found: str
) -> None:
    monkeypatch.setattr(udmabuf_module, "SYS_MODULES", tmp_path)
    for name in loaded:
        (tmp_path / name / "parameters").mkdir(parents=True)

    assert find_parameters() == tmp_path / found / "parameters"


def test_the_remedy_is_of_the_driver_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int
) -> None:
    parameters = tmp_path / "udmabuf_compat" / "parameters"
    parameters.mkdir(parents=True)
    (parameters / "list_limit").write_text("2\n")
    monkeypatch.setattr(udmabuf_module, "SYS_MODULES", tmp_path)

    assert read_limits().list_limit == 2
    error = explain_refusal([(memory, 0, PAGE)] * 3, read_limits())
    assert error is not None
    assert f"> {parameters}/list_limit" in error.remedy
    assert "> /etc/modprobe.d/udmabuf_compat.conf" in error.remedy
    assert "command line" not in error.remedy  # it is never built in


@pytest.mark.parametrize("items", [1, 2])
def test_other_refusals_tell_the_errno(
    not_udmabuf: UdmabufDevice, memory: int, items: int
) -> None:
    with pytest.raises(UdmabufError, match="not udmabuf's device") as caught:
        not_udmabuf.create([UdmabufItem(memory, 0, PAGE)] * items)
    assert caught.value.errno == errno.ENOTTY


def test_no_items(not_udmabuf: UdmabufDevice) -> None:
    with pytest.raises(UdmabufRangeError):
        not_udmabuf.create([])


def test_good_items_are_not_blamed(memory: int) -> None:
    items = [(memory, PAGE * number, PAGE) for number in range(8)]
    assert explain_refusal(items, LIMITS) is None
    assert explain_refusal([(memory, 0, PAGES * PAGE)], LIMITS) is None


def test_too_many_items(memory: int) -> None:
    error = explain_refusal([(memory, 0, PAGE)] * 9, LIMITS)
    assert isinstance(error, UdmabufListLimitError)
    assert "9 separate runs" in error.problem
    assert f"> {find_parameters()}/list_limit" in error.remedy
    assert "udmabuf.list_limit=" in error.remedy


def test_too_many_bytes(memory: int) -> None:
    items = [(memory, 0, PAGES * PAGE), (memory, 0, PAGE)]
    error = explain_refusal(items, LIMITS)
    assert isinstance(error, UdmabufSizeLimitError)
    assert f"echo 256 > {find_parameters()}/size_limit_mb" in error.remedy


@pytest.mark.parametrize(
    ("seals", "complaint"),
    [
        (0, "not sealed with F_SEAL_SHRINK"),  # sealed against seals
        (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE, "sealed with F_SEAL_WRITE"),
        (fcntl.F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, "sealed with F_SEAL_WRITE"),
    ],
)
def test_wrong_seals(seals: int, complaint: str) -> None:
    with memfd(seals) as fd:
        error = explain_refusal([(fd.fileno(), 0, PAGE)], LIMITS)
    assert isinstance(error, UdmabufSealError)
    assert complaint in error.problem


def test_not_a_memfd(tmp_path: Path) -> None:
    read, write = (OwnedFd(number) for number in os.pipe())
    with read, write:
        error = explain_refusal([(read.fileno(), 0, PAGE)], LIMITS)
    assert isinstance(error, UdmabufSealError)
    assert "not a memfd" in error.problem


@pytest.mark.parametrize(
    ("offset", "length", "complaint"),
    [
        (0, 0, "whole pages"),
        (1, PAGE, "whole pages"),
        (0, PAGE + 1, "whole pages"),
        (PAGES * PAGE, PAGE, "not inside"),
        (PAGE, (PAGES - 1) * PAGE + PAGE, "not inside"),
    ],
)
def test_wrong_ranges(memory: int, offset: int, length: int, complaint: str) -> None:
    error = explain_refusal([(memory, offset, length)], LIMITS)
    assert isinstance(error, UdmabufRangeError)
    assert complaint in error.problem


# ---- the real driver, in the lab


@pytest.fixture
def raised_limits(udmabuf: UdmabufDevice) -> Iterator[UdmabufLimits]:
    """The test may change the limits; they are put back."""
    names = ("list_limit", "size_limit_mb")
    before = {name: (find_parameters() / name).read_text() for name in names}
    yield udmabuf.limits()
    for name, value in before.items():
        (find_parameters() / name).write_text(value)


def numbered_pages(fd: int) -> None:
    for page in range(PAGES):
        os.pwrite(fd, bytes([page]) * PAGE, page * PAGE)


def first_bytes(udmabuf: OwnedFd, size: int) -> list[int]:
    with mmap.mmap(udmabuf.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ) as view:
        return list(view[::PAGE])


@pytest.mark.lab
def test_pages_in_any_order(udmabuf: UdmabufDevice, memory: int) -> None:
    numbered_pages(memory)
    order = [3, 1, 2, 15, 0, 3]
    with udmabuf.create([(memory, page * PAGE, PAGE) for page in order]) as made:
        assert fcntl.fcntl(made.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert first_bytes(made, len(order) * PAGE) == order
        os.pwrite(memory, b"\xff", PAGE)  # the same pages, not copies of them
        assert first_bytes(made, len(order) * PAGE)[1] == 0xFF


@pytest.mark.lab
def test_one_run(udmabuf: UdmabufDevice, memory: int) -> None:
    numbered_pages(memory)
    with udmabuf.create([UdmabufItem(memory, 4 * PAGE, 2 * PAGE)]) as made:
        assert first_bytes(made, 2 * PAGE) == [4, 5]


@pytest.mark.lab
def test_scattered_4k_frame(
    udmabuf: UdmabufDevice, raised_limits: UdmabufLimits, memory: int
) -> None:
    items = [(memory, index % PAGES * PAGE, PAGE) for index in range(8101)]
    (find_parameters() / "list_limit").write_text("1024")
    with pytest.raises(UdmabufListLimitError, match="8101 separate runs"):
        udmabuf.create(items)
    (find_parameters() / "list_limit").write_text("65536")
    udmabuf.create(items).close()


@pytest.mark.lab
def test_driver_and_explanations_agree(
    udmabuf: UdmabufDevice, raised_limits: UdmabufLimits, memory: int
) -> None:
    (find_parameters() / "size_limit_mb").write_text("1")
    with pytest.raises(UdmabufSizeLimitError):
        udmabuf.create([(memory, 0, PAGES * PAGE)] * 17)
    with pytest.raises(UdmabufRangeError):
        udmabuf.create([(memory, 1, PAGE)])
    with pytest.raises(UdmabufRangeError):
        udmabuf.create([(memory, 0, PAGE), (memory, PAGES * PAGE, PAGE)])
    for seals in (
        0,
        fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE,
        fcntl.F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE,
    ):
        with memfd(seals) as fd, pytest.raises(UdmabufSealError):
            udmabuf.create([(fd.fileno(), 0, PAGE)])
