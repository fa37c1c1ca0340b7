"""Fds of every kind that an app can pass.  A real dma-buf needs the lab."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.guest_agent.fakes import adopt
from wlproxy.protocol.channel.frames import AttachmentFlags, AttachmentKind
from wlproxy_guest.attachments import FdDescription, describe_fd, is_dmabuf

OTHER = FdDescription(AttachmentKind.OTHER)


def test_memfd_is_writable_memory_of_its_size(closing: ExitStack) -> None:
    fd = adopt(closing, os.memfd_create("pool"))
    os.ftruncate(fd, 12345)

    expected = FdDescription(
        AttachmentKind.MEMORY, AttachmentFlags.MEMORY_WRITABLE, 12345
    )
    assert describe_fd(fd) == expected


def test_read_only_file_is_memory(closing: ExitStack) -> None:
    fd = adopt(closing, os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR))
    reader = adopt(closing, os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))

    assert describe_fd(reader) == FdDescription(AttachmentKind.MEMORY)


def test_file_that_its_owner_may_not_read_is_no_memory(closing: ExitStack) -> None:
    fd = adopt(closing, os.memfd_create("pool"))
    path = f"/proc/self/fd/{fd}"

    assert describe_fd(adopt(closing, os.open(path, os.O_WRONLY))) == FdDescription(
        AttachmentKind.OTHER, AttachmentFlags.HOLDER_WRITES
    )
    assert describe_fd(adopt(closing, os.open(path, os.O_PATH))) == OTHER


def test_pipe_ends(closing: ExitStack) -> None:
    reader, writer = (adopt(closing, fd) for fd in os.pipe())

    assert describe_fd(reader) == FdDescription(
        AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS
    )
    assert describe_fd(writer) == FdDescription(
        AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES
    )


def test_what_is_open_both_ways_says_so(closing: ExitStack, tmp_path: Path) -> None:
    both = FdDescription(
        AttachmentKind.OTHER,
        AttachmentFlags.HOLDER_READS | AttachmentFlags.HOLDER_WRITES,
    )
    one, other = socket.socketpair()
    os.mkfifo(tmp_path / "fifo")
    with one, other:
        assert describe_fd(one.fileno()) == both
    fifo = adopt(closing, os.open(tmp_path / "fifo", os.O_RDWR))
    assert describe_fd(fifo) == both


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_devices_and_directories_are_something_else(
    closing: ExitStack, path: str
) -> None:
    assert describe_fd(adopt(closing, os.open(path, os.O_RDONLY))) == FdDescription(
        AttachmentKind.OTHER, AttachmentFlags.HOLDER_READS
    )


def test_closed_fd_is_an_error() -> None:
    fd = os.memfd_create("gone")
    os.close(fd)

    with pytest.raises(OSError, match="Bad file descriptor"):
        describe_fd(fd)


def test_file_named_like_a_dmabuf_is_none(
    closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = adopt(closing, os.memfd_create("x"))
    monkeypatch.setattr(os, "readlink", lambda _: "/dmabuf:fake")

    assert not is_dmabuf(fd)
