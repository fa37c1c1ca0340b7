import os

import pytest
import trio

from wlproxy.screen.transfers import MAX_TRANSFERS, Transfers
from wlproxy.transport.fds import OwnedFd

SECONDS = 20


def held_pipe() -> tuple[OwnedFd, OwnedFd]:
    """A pipe, whose write end is held as one is that waits for its text."""
    ours, theirs = map(OwnedFd, os.pipe())
    theirs.hold()
    theirs.close()
    return ours, theirs


async def test_who_pastes_may_leave() -> None:
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            moving = Transfers(nursery, lambda: None)
            ours, theirs = held_pipe()
            ours.close()
            moving.write(theirs, b"text")


async def test_what_cannot_be_waited_for_is_written_to() -> None:
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            file = OwnedFd(os.memfd_create("x", os.MFD_CLOEXEC))
            kept = file.duplicate()
            file.hold()
            file.close()
            Transfers(nursery, lambda: None).write(file, b"text")
    with kept:
        assert os.pread(kept.fileno(), 9, 0) == b"text"


async def test_there_are_not_too_many_at_once() -> None:
    async with trio.open_nursery() as nursery:
        moving = Transfers(nursery, lambda: None)
        pipes = [moving.read(9, lambda _text: None) for _ in range(MAX_TRANSFERS)]
        assert moving.read(9, lambda _text: None) is None
        ours, theirs = held_pipe()
        moving.write(theirs, b"text")
        with ours:
            assert os.read(ours.fileno(), 9) == b""
        for pipe in pipes:
            assert pipe is not None
            pipe.close()
        nursery.cancel_scope.cancel()


async def test_no_fd_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "too many open files")

    async with trio.open_nursery() as nursery:
        moving = Transfers(nursery, lambda: None)
        ours, theirs = held_pipe()
        with ours:
            with monkeypatch.context() as patch:
                patch.setattr(os, "pipe2", fail)
                patch.setattr(os, "dup", fail)
                patch.setattr(OwnedFd, "duplicate", fail)
                assert moving.read(9, lambda _text: None) is None
                moving.write(theirs, b"text")
            assert os.read(ours.fileno(), 9) == b""


async def test_none_begins_after_the_end() -> None:
    async with trio.open_nursery() as nursery:
        moving = Transfers(nursery, lambda: None)
        moving.close()
        assert moving.read(9, lambda _text: None) is None
        ours, theirs = held_pipe()
        moving.write(theirs, b"text")
        with ours:
            assert os.read(ours.fileno(), 9) == b""
