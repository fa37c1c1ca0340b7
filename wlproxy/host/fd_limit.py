"""How many fds we may have open: each buffer of a guest is one."""

import resource
from typing import Final

from wlproxy.relay.quotas import MAX_FDS

FDS_FOR_ALL_ELSE: Final = 2048
"""Pipes, connections, and what we open for moments."""


def fds_for_buffers() -> int:
    """Count the fds that buffers may take: what we may open, less all else."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_FDS
    return max(soft - FDS_FOR_ALL_ELSE, soft // 2)
