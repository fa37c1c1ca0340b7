"""How many fds we may have open: each buffer of a guest is one."""

import resource
from contextlib import suppress
from typing import Final

from wlproxy.relay.quotas import MAX_FDS

FDS_FOR_ALL_ELSE: Final = 2048
"""Pipes, connections, and what we open for moments."""


def raise_fd_limit() -> None:
    """Allow ourselves as many fds as we may have.

    The usual 1024 are for programs that use `select`, which trio does not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # a sandbox may have its own ideas
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def fds_for_buffers() -> int:
    """Count the fds that buffers may take: what we may open, less all else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_FDS
    return max(soft - FDS_FOR_ALL_ELSE, soft // 2)
