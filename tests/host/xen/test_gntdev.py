"""The argument of gntdev's ioctl, as the kernel's header has it; and what is no grant."""

import errno
import os
import re
import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.host.config import MAX_DOMID
from wlproxy.host.errors import GrantError
from wlproxy.host.xen import gntdev
from wlproxy.host.xen.gntdev import (
    DEFAULT_LIMIT,
    FIRST_REF,
    MAX_LIMIT,
    MAX_REF,
    Gntdev,
    check_runs,
    map_argument,
    map_pages,
    open_device,
    read_limit,
)
from wlproxy.transport.fds import OwnedFd

HEADER = Path("/usr/include/xen/gntdev.h")
TYPES = {"__u32": "I", "__u64": "Q"}

runs = st.lists(
    st.tuples(st.integers(FIRST_REF, MAX_REF - 1000), st.integers(1, 1000)),
    min_size=1,
    max_size=20,
)


def header() -> str:
    if not HEADER.exists():
        pytest.skip(f"no {HEADER}: apt-get install linux-libc-dev")
    return re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)


def fields(name: str) -> str:
    """The fields of a structure in the header, as `struct` writes them."""
    found = re.search(rf"struct {name} \{{(.*?)\n\}};", header(), re.DOTALL)
    assert found is not None
    return "".join(
        TYPES.get(kind, "")
        for kind in re.findall(r"^\s*(__u\d\d|struct \w+) \w+", found[1], re.MULTILINE)
    )


def test_the_ioctl_is_that_of_the_header() -> None:
    number = re.search(
        r"IOCTL_GNTDEV_MAP_GRANT_REF \\\s*_IOC\(_IOC_NONE, 'G', (\d+), "
        r"sizeof\(struct ioctl_gntdev_map_grant_ref\)\)",
        header(),
    )
    assert number is not None
    # With one reference at its end, which the header has in place of an array.
    size = struct.calcsize("=" + fields("ioctl_gntdev_map_grant_ref") + "II")
    assert size << 16 | ord("G") << 8 | int(number[1]) == gntdev.MAP_GRANT_REF


def test_the_structures_are_those_of_the_header() -> None:
    assert "=" + fields("ioctl_gntdev_map_grant_ref") == gntdev.MAP_FIELDS.format
    assert fields("ioctl_gntdev_grant_ref") == "II"


@given(st.integers(1, MAX_DOMID), runs)
def test_each_reference_comes_with_its_domain(
    domid: int, given_runs: list[tuple[int, int]]
) -> None:
    argument = map_argument(domid, given_runs)
    count, padding, index = gntdev.MAP_FIELDS.unpack_from(argument)
    words = array("I", bytes(argument[gntdev.MAP_FIELDS.size :]))
    assert list(words[1::2]) == [
        ref for first, many in given_runs for ref in range(first, first + many)
    ]
    assert set(words[::2]) == {domid}
    assert (count, padding, index) == (len(words) // 2, 0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [(FIRST_REF, 0)],
        [(FIRST_REF, -1)],
        [(FIRST_REF - 1, 1)],
        [(0, 1)],
        [(-1, 4)],
        [(MAX_REF, 2)],
        [(MAX_REF + 1, 1)],
        [(FIRST_REF, MAX_LIMIT + 1)],
        [(FIRST_REF, MAX_LIMIT), (FIRST_REF, 1)],
    ],
)
def test_what_no_domain_grants(wrong: list[tuple[int, int]]) -> None:
    with pytest.raises(GrantError) as caught:
        map_argument(1, wrong)
    assert caught.value.errno == errno.EINVAL


@given(st.lists(st.tuples(st.integers(), st.integers()), max_size=5))
def test_any_numbers_are_checked(numbers: list[tuple[int, int]]) -> None:
    try:
        total = check_runs(numbers)
    except GrantError:
        return
    assert 0 < total <= MAX_LIMIT
    assert all(FIRST_REF <= first <= first + n - 1 <= MAX_REF for first, n in numbers)


def test_the_last_reference() -> None:
    assert check_runs([(MAX_REF, 1)]) == 1
    assert check_runs([(FIRST_REF, MAX_LIMIT)]) == MAX_LIMIT


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GrantError, match="cannot be opened") as caught:
        Gntdev(1, tmp_path / "gntdev").open([(8, 1)])
    assert "modprobe xen-gntdev" in caught.value.remedy
    with pytest.raises(GrantError):
        Gntdev(1, tmp_path / "gntdev").limit()


def test_a_device_that_is_for_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(GrantError) as caught:
        open_device(tmp_path)
    assert "wlproxy xen-gntdev --domid N" in caught.value.remedy


def test_a_device_that_is_another() -> None:
    """Whatever refuses the ioctl: the fd is closed again."""
    with pytest.raises(GrantError, match="takes no grants") as caught:
        Gntdev(1, Path("/dev/null")).open([(8, 1)])
    assert caught.value.errno == errno.ENOTTY
    assert Gntdev(1, Path("/dev/null")).limit() == read_limit()


def test_a_driver_that_has_the_pages_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_fd: int, _number: int, argument: bytearray) -> int:
        argument[8:16] = (4096).to_bytes(8, "little")
        return 0

    monkeypatch.setattr("fcntl.ioctl", answer)
    with pytest.raises(GrantError, match="not at 0"):
        Gntdev(1, Path("/dev/null")).open([(8, 1)])


def test_a_fd_of_what_was_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bytes]] = []

    def answer(_fd: int, number: int, argument: bytearray) -> int:
        asked.append((number, bytes(argument)))
        return 0

    monkeypatch.setattr("fcntl.ioctl", answer)
    with Gntdev(7, Path("/dev/null")).open([(20, 2), (9, 1)]):
        pass
    [(number, argument)] = asked
    assert number == gntdev.MAP_GRANT_REF
    assert struct.unpack("=IIQ6I", argument) == (3, 0, 0, 7, 20, 7, 21, 7, 9)


def test_pages_that_were_not_granted() -> None:
    reading, writing = os.pipe()
    with (
        OwnedFd(reading) as fd,
        OwnedFd(writing),
        pytest.raises(GrantError, match="not granted"),
    ):
        map_pages(fd, 1)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("65536\n", 65536),
        ("12", 12),
        ("0", DEFAULT_LIMIT),
        ("-3", DEFAULT_LIMIT),
        ("many", DEFAULT_LIMIT),
        ("4294967295", MAX_LIMIT),
    ],
)
def test_the_limit(tmp_path: Path, text: str, limit: int) -> None:
    (tmp_path / "limit").write_text(text)
    assert read_limit(tmp_path / "limit") == limit
    assert read_limit(tmp_path / "none") == DEFAULT_LIMIT
