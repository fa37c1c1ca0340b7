"""How libxenvchan is called.  What it does then, only Xen can tell (tests/xen/chain/test_vchan.py)."""

import ctypes
import errno
import os
import select
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.peers.vchan import FakeVchan, fake_vchan
from wlproxy.transport import vchan
from wlproxy.transport.vchan import RING, Library, VchanClosedError


class Function:
    """One of the library's: it can be told its types."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


class FakeLibrary:
    """libxenvchan, whose vchans are no one's; it can make one.

    Attributes:
        started: how it was asked for one.
        fails: whether it makes none.
        control: what it made.
    """

    def __init__(self, *, serves: bool) -> None:
        self.theirs, self.ours = fake_vchan()
        self.started: list[tuple[object, ...]] = []
        self.fails = False
        self.control = vchan._Control()
        self.control.is_server = -1 if serves else 0
        self.control.blocking = -1  # as malloc(3) left it
        calls: dict[str, Callable[..., Any]] = {
            "server_init": self._start,
            "client_init": self._start,
            "read": self._read,
            "write": self._write,
            "wait": self._wait,
            "is_open": lambda _: int(self.ours.is_open),
            "fd_for_select": lambda _: self.ours.fileno(),
            "close": lambda _: self.ours.close(),
        }
        names = {f"libxenvchan_{name}": Function(call) for name, call in calls.items()}
        self.calls = SimpleNamespace(**names)

    def _start(self, *arguments: object) -> Any:
        self.started.append(arguments)
        if self.fails:
            ctypes.set_errno(errno.EACCES)
            return ctypes.POINTER(vchan._Control)()
        return ctypes.pointer(self.control)

    def _wait(self, _: object) -> int:
        self.ours.acknowledge()
        return -1 if self.fails else 0

    def _read(self, _: object, buffer: Any, size: int) -> int:
        try:
            data = self.ours.read(size)
        except VchanClosedError:
            return -1
        buffer[: len(data)] = data
        return len(data)

    def _write(self, _: object, data: bytes, size: int) -> int:
        try:
            return self.ours.write(data[:size])
        except VchanClosedError:
            return -1


Make = Callable[..., FakeLibrary]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    made: list[FakeVchan] = []

    def load(*, serves: bool) -> FakeLibrary:
        library = FakeLibrary(serves=serves)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library.calls)
        made.extend((library.theirs, library.ours))
        return library

    yield load
    for each in made:
        each.release()


def test_bytes_as_the_library_has_them(make: Make) -> None:
    fake = make(serves=True)
    with Library("libxenvchan.so").serve(3, "data/x") as made:
        assert fake.started == [(None, 3, b"data/x", RING, RING)]
        assert fake.control.blocking == 0
        before = made.is_open
        assert made.read(100) == b""
        data = os.urandom(2 * RING)
        assert made.write(data) == RING
        assert fake.theirs.read(2 * RING) == data[:RING]
        assert select.select([made], [], [], 0)[0]
        made.acknowledge()
        fake.theirs.write(b"a\0b")
        assert made.read(1 << 30) == b"a\0b"
        fake.theirs.close()
        assert (before, made.is_open) == (True, False)
        with pytest.raises(VchanClosedError):
            made.read(1)
        with pytest.raises(VchanClosedError):
            made.write(b"1")
    assert fake.ours.closed
    made.close()
    with pytest.raises(VchanClosedError):
        made.fileno()  # its memory is freed


def test_an_event_channel_that_breaks(make: Make) -> None:
    fake = make(serves=True)
    with Library("libxenvchan.so").serve(3, "data/x") as made:
        fake.fails = True
        with pytest.raises(VchanClosedError):
            made.acknowledge()


def test_what_another_domain_serves(make: Make) -> None:
    fake = make(serves=False)
    with Library("libxenvchan.so").connect(3, "/local/domain/3/data/x"):
        assert fake.started == [(None, 3, b"/local/domain/3/data/x")]


def test_none_can_be_had(make: Make) -> None:
    fake = make(serves=True)
    fake.fails = True
    library = Library("libxenvchan.so")
    with pytest.raises(PermissionError):
        library.serve(3, "x")
    with pytest.raises(PermissionError):
        library.connect(3, "x")


def test_a_library_of_another_layout_is_not_used(make: Make) -> None:
    fake = make(serves=False)
    with pytest.raises(OSError, match="none that is known here"):
        Library("libxenvchan.so").serve(3, "x")
    assert fake.ours.closed


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    with pytest.raises(FileNotFoundError, match="libxenmisc"):
        Library()


def test_what_is_no_library() -> None:
    with pytest.raises(OSError, match="libxenmisc"):
        Library("/dev/null")


def test_the_structure_is_the_headers() -> None:
    """Offsets of libxenvchan.h, on a machine whose pointers have 8 bytes (offsetof, gcc)."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        pytest.skip("pointers have not 8 bytes here")
    control = vchan._Control
    offsets = [
        getattr(control, name).offset
        for name in ("event_port", "read", "write", "path")
    ]
    assert offsets == [24, 32, 56, 80]
    assert ctypes.sizeof(control) == 88
    made = control()
    made.blocking = -1
    assert bytes(made)[28] == 4
