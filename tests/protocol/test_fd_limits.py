"""The limits on fds are the kernel's own."""

import os
import socket

import pytest

from wlproxy.protocol.channel.frames import MAX_ATTACHMENTS
from wlproxy.protocol.fd_limits import MAX_FDS_IN, MAX_FDS_OUT


def test_the_kernel_sends_as_many_at_once_and_no_more() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull) as file:
        socket.send_fds(ours, [b"x"], [file.fileno()] * MAX_FDS_IN)
        with pytest.raises(OSError, match="Invalid argument"):
            socket.send_fds(ours, [b"x"], [file.fileno()] * (MAX_FDS_IN + 1))


def test_what_is_received_at_once_fits_a_frame() -> None:
    assert MAX_FDS_OUT <= MAX_FDS_IN == MAX_ATTACHMENTS
