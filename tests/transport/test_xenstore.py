"""XenStore's messages, and a peer that answers them."""

import errno
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peers.xenstore import OK, XenStore
from wlproxy.transport.xenstore import (
    ERROR,
    HEADER,
    MAX_PAYLOAD,
    READ,
    WATCH,
    WATCH_EVENT,
    Store,
    as_error,
    decode_header,
    encode,
)


@pytest.fixture
def peer() -> Iterator[XenStore]:
    made = XenStore()
    made.values["/local/domain/5"] = b""
    yield made
    made.close()


def test_values_are_read_and_removed(peer: XenStore) -> None:
    store = Store(peer.path)
    peer.values["a/b"] = b"12"
    assert store.read("a/b") == b"12"
    assert store.read("/local/domain/5") == b""
    store.remove("a/b")
    assert store.read("a/b") is None
    store.remove("a/b")


def test_a_store_that_says_no(peer: XenStore) -> None:
    peer.answer = lambda *_: (ERROR, b"EACCES\0")
    with pytest.raises(PermissionError):
        Store(peer.path).remove("a/b")
    with pytest.raises(PermissionError):
        Store(peer.path).watch("a/b")


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "xenbus").read("a/b")


@pytest.mark.parametrize("first", [(WATCH, OK), (WATCH_EVENT, b"a\0l\0")])
def test_changes_are_told_of(peer: XenStore, first: tuple[int, bytes]) -> None:
    peer.answer = lambda *_: first
    with Store(peer.path).watch("/local/domain/5") as watch:
        watch.drain()
        assert not select.select([watch], [], [], 0)[0]
        peer.event()
        peer.event()
        assert select.select([watch], [], [], 10)[0]
        watch.drain()


def test_requests_end_with_nul() -> None:
    assert encode(READ, "a/b") == HEADER.pack(2, 0, 0, 4) + b"a/b\0"
    assert encode(WATCH, "a", "l") == HEADER.pack(4, 0, 0, 4) + b"a\0l\0"


@given(st.binary(max_size=20))
def test_any_header(header: bytes) -> None:
    try:
        failed, length = decode_header(header, READ)
    except OSError:
        return
    assert len(header) == HEADER.size
    assert 0 <= length <= MAX_PAYLOAD
    assert HEADER.unpack(header)[0] == (ERROR if failed else READ)


@given(st.binary(max_size=20))
def test_any_error(payload: bytes) -> None:
    assert isinstance(as_error(payload).errno, int)


@pytest.mark.parametrize(
    ("name", "number"),
    [(b"ENOENT\0", errno.ENOENT), (b"EACCES", errno.EACCES), (b"errorcode", errno.EIO)],
)
def test_errors_by_name(name: bytes, number: int) -> None:
    assert as_error(name).errno == number
