"""XenStore, as a thread at the other end of a terminal that stands for its device."""

import errno
import os
import pty
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy_guest.xenstore import (
    DIRECTORY,
    ERROR,
    HEADER,
    MAX_CONSOLES,
    MAX_PAYLOAD,
    READ,
    as_error,
    console_numbers,
    decode_header,
    encode,
    find_console,
    in_xen_domain,
)

Answer = Callable[[int, str], tuple[int, bytes]]


class Store:
    """Attributes:
    values: by path.
    asked: the paths.
    """

    def __init__(self, **consoles: str) -> None:
        self.values = {
            f"device/console/{number.lstrip('n')}/name": name.encode()
            for number, name in consoles.items()
        }
        self.listing = b"".join(
            each.lstrip("n").encode() + b"\0" for each in ("0", *consoles)
        )
        self.asked: list[str] = []
        self.answer: Answer = self.honest
        self._fd, slave = pty.openpty()
        tty.setraw(slave)
        self.path = Path(os.ttyname(slave))
        self._slave = slave
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def honest(self, kind: int, path: str) -> tuple[int, bytes]:
        if kind == DIRECTORY and self.values:
            return kind, self.listing
        if path in self.values:
            return kind, self.values[path]
        return ERROR, b"ENOENT\0"

    def _serve(self) -> None:
        while True:
            header = os.read(self._fd, HEADER.size)
            kind, request, transaction, length = HEADER.unpack(header)
            if not kind:
                return
            path = os.read(self._fd, length).rstrip(b"\0").decode()
            self.asked.append(path)
            answered, payload = self.answer(kind, path)
            os.write(
                self._fd, HEADER.pack(answered, request, transaction, len(payload))
            )
            os.write(self._fd, payload)

    def close(self) -> None:
        os.write(self._slave, bytes(HEADER.size))
        self._thread.join(10)
        os.close(self._slave)
        os.close(self._fd)


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store(n1="com.example.0", n3="org.wlproxy.0")
    yield made
    made.close()


def test_the_console_of_a_name(store: Store) -> None:
    assert find_console("org.wlproxy.0", store.path) == 3
    assert store.asked == [
        "device/console",
        *(f"device/console/{n}/name" for n in "13"),
    ]


def test_no_console_of_the_name(store: Store) -> None:
    assert find_console("org.wlproxy", store.path) is None


def test_consoles_that_go_meanwhile(store: Store) -> None:
    del store.values["device/console/1/name"]
    assert find_console("org.wlproxy.0", store.path) == 3


def test_a_domain_without_consoles(store: Store) -> None:
    store.values.clear()
    assert find_console("org.wlproxy.0", store.path) is None


def test_a_store_that_says_no(store: Store) -> None:
    store.answer = lambda *_: (ERROR, b"EACCES\0")
    with pytest.raises(PermissionError):
        find_console("org.wlproxy.0", store.path)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        find_console("org.wlproxy.0", tmp_path / "xenbus")


def test_an_answer_to_something_else(store: Store) -> None:
    store.answer = lambda *_: (7, b"")
    with pytest.raises(OSError, match="something else"):
        find_console("org.wlproxy.0", store.path)


def test_requests_end_with_nul() -> None:
    assert encode(READ, "a/b") == HEADER.pack(2, 0, 0, 4) + b"a/b\0"


@given(st.binary(max_size=20))
def test_any_header(header: bytes) -> None:
    try:
        failed, length = decode_header(header, READ)
    except OSError:
        return
    assert len(header) == HEADER.size
    assert 0 <= length <= MAX_PAYLOAD
    assert HEADER.unpack(header)[0] == (ERROR if failed else READ)


@given(st.binary())
def test_any_listing(listing: bytes) -> None:
    found = console_numbers(listing)
    assert found == sorted(set(found))
    assert all(0 < number < 1000 for number in found)
    assert len(found) <= MAX_CONSOLES


@given(st.binary(max_size=20))
def test_any_error(payload: bytes) -> None:
    assert isinstance(as_error(payload).errno, int)


@pytest.mark.parametrize(
    ("name", "number"),
    [(b"ENOENT\0", errno.ENOENT), (b"EACCES", errno.EACCES), (b"errorcode", errno.EIO)],
)
def test_errors_by_name(name: bytes, number: int) -> None:
    assert as_error(name).errno == number


@pytest.mark.parametrize(
    ("text", "xen"), [("xen\n", True), ("kvm\n", False), ("", False)]
)
def test_what_machine_this_is(tmp_path: Path, text: str, *, xen: bool) -> None:
    (tmp_path / "type").write_text(text)
    assert in_xen_domain(tmp_path / "type") is xen
    assert not in_xen_domain(tmp_path / "none")
