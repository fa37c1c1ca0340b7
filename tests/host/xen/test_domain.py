"""Which domain a channel belongs to, by the command line of who listens there."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.host.config import MAX_DOMID
from wlproxy.host.errors import NotQemuError
from wlproxy.host.xen import domain
from wlproxy.host.xen.domain import Domain, find_domain, parse_domid
from wlproxy.transport.peer import Credentials

QEMU = [
    "qemu-system-i386",
    "-xen-domid",
    "5",
    "-no-shutdown",
    "-chardev",
    "socket,id=c",
]


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    """A channel whose other end is this very process."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def proc(directory: Path, *arguments: str) -> Path:
    process = directory / str(os.getpid())
    process.mkdir()
    (process / "cmdline").write_bytes("\0".join(arguments).encode() + b"\0")
    return directory


def test_the_toolstacks_qemu(channel: socket.socket, tmp_path: Path) -> None:
    assert find_domain(channel, proc(tmp_path, *QEMU)) == Domain(5, os.getpid())


def test_a_qemu_of_kvms(channel: socket.socket, tmp_path: Path) -> None:
    ours = proc(tmp_path, "qemu-system-x86_64", "-m", "4G")
    assert find_domain(channel, ours) is None


def test_a_process_that_has_gone(channel: socket.socket, tmp_path: Path) -> None:
    assert find_domain(channel, tmp_path) is None


def test_a_process_that_is_not_seen(
    channel: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = Credentials(0, 0, 0)
    monkeypatch.setattr(domain, "peer_credentials", lambda _: unseen)
    assert find_domain(channel) is None


def test_another_users_process_is_not_believed(
    channel: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may call a program qemu, and give it any options."""
    other = Credentials(os.getpid(), 4711, 4711)
    monkeypatch.setattr(domain, "peer_credentials", lambda _: other)
    with pytest.raises(NotQemuError, match="user 4711") as caught:
        find_domain(channel, proc(tmp_path, *QEMU))
    assert "--xen-domid 5" in caught.value.remedy


def test_a_vsock_says_nothing() -> None:
    with socket.socket(socket.AF_INET) as other:
        assert find_domain(other) is None


@pytest.mark.parametrize(
    ("arguments", "domid"),
    [
        (QEMU, 5),
        (["qemu", "--xen-domid", "17"], 17),
        (["qemu", "-xen-domid", "1", "-xen-domid", "2"], 2),
        (["qemu", "-xen-domid"], None),
        (["qemu", "-xen-domid", "0"], None),
        (["qemu", "-xen-domid", "-1"], None),
        (["qemu", "-xen-domid", "x"], None),
        (["qemu", "-xen-domid", "٣"], None),
        (["qemu", "-xen-domid", str(MAX_DOMID)], MAX_DOMID),
        (["qemu", "-xen-domid", str(MAX_DOMID + 1)], None),
        (["qemu", "-xen-domid", "9" * 5000], None),
        (["-xen-domid", "3"], None),
        (["wlproxy", "xen-vchan", "--domid", "5", "--user", "me"], 5),
        (["python3", "/usr/bin/wlproxy", "xen-vchan", "--domid=5"], 5),
        (["wlproxy", "xen-vchan", "--socket=--domid=7", "--domid=5"], 5),
        (["wlproxy", "xen-vchan", "--domid=0"], None),
        (["wlproxy", "xen-gntdev", "--domid", "5"], None),
        ([], None),
    ],
)
def test_command_lines(arguments: list[str], domid: int | None) -> None:
    assert parse_domid(arguments) == domid


@given(
    st.lists(
        st.text()
        | st.sampled_from([*domain.OPTIONS, domain.VCHAN, domain.VCHAN_OPTION])
    )
)
def test_any_command_line(arguments: list[str]) -> None:
    found = parse_domid(arguments)
    assert found is None or 0 < found <= MAX_DOMID
