import fcntl
import os

import pytest

from wlproxy.host.errors import HostError
from wlproxy.screen.canvas import Canvas
from wlproxy.screen.commands import Layout, Rectangle


def contents(canvas: Canvas) -> bytes:
    return os.pread(canvas.file.fileno(), canvas.layout.end, 0)


def test_all_of_it_and_a_part() -> None:
    with Canvas(Layout(3, 2, 16, 1)) as canvas:
        canvas.draw(bytes(range(32)) + b"what is too much")
        assert contents(canvas) == bytes(range(32))
        canvas.update(Rectangle(1, 0, 2, 2), 12, b"a" * 8 + b"-" * 4 + b"b" * 8)
        assert contents(canvas) == (
            bytes(range(4))
            + b"a" * 8
            + bytes(range(12, 20))
            + b"b" * 8
            + bytes(range(28, 32))
        )


def test_nobody_makes_it_shorter() -> None:
    with Canvas(Layout(3, 2, 16, 1)) as canvas:
        seals = fcntl.fcntl(canvas.file.fileno(), fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_SHRINK


def test_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(24, "too many")

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(HostError, match="no memory for the screen"):
        Canvas(Layout(3, 2, 16, 1))
