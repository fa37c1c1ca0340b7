"""The kernel says who is at the other end, and that needs no trio."""

import os
import socket
import subprocess
import sys

from wlproxy.transport.peer import peer_credentials


def test_a_peer_is_whom_the_kernel_saw() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_credentials(ours) == (os.getpid(), os.geteuid(), os.getegid())


def test_the_tap_runs_without_trio() -> None:
    """It is to be small, and to be there at once."""
    code = "import sys, wlproxy.host.vhost_user.tap; sys.exit('trio' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
