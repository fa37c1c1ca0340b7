"""Fds of every kind that an app can pass.  A real dma-buf needs the lab."""

import os
import socket
from contextlib import ExitStack

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


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_PATH])
def test_file_that_its_owner_may_not_read_is_nothing(
    closing: ExitStack, flags: int
) -> None:
    fd = adopt(closing, os.memfd_create("pool"))

    assert describe_fd(adopt(closing, os.open(f"/proc/self/fd/{fd}", flags))) == OTHER


def test_pipe_ends(closing: ExitStack) -> None:
    reader, writer = (adopt(closing, fd) for fd in os.pipe())

    assert describe_fd(reader) == FdDescription(
        AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS
    )
    assert describe_fd(writer) == FdDescription(
        AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES
    )


def test_socket_is_to_be_written_to(closing: ExitStack) -> None:
    one, other = socket.socketpair()
    with one, other:
        assert describe_fd(one.fileno()) == FdDescription(
            AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES
        )


@pytest.mark.parametrize("path", ["/dev/null", "/"])
def test_devices_and_directories_are_nothing(closing: ExitStack, path: str) -> None:
    assert describe_fd(adopt(closing, os.open(path, os.O_RDONLY))) == OTHER


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
