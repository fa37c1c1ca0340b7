"""RAM of a guest, in a memfd that udmabuf would take."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.host.vhost_user.front_end import Guest
from wlproxy.transport.fds import OwnedFd

F_ADD_SEALS, SEALS = 1033, 0x7
"""linux/fcntl.h: SEAL, SHRINK, GROW, as QEMU has them."""


@pytest.fixture
def new_memory() -> Iterator[Callable[[int], OwnedFd]]:
    """Make sealed memfds of a size, which are closed with the test."""
    with ExitStack() as closing:

        def make(size: int) -> OwnedFd:
            fd = OwnedFd(os.memfd_create("memory-backend-memfd", os.MFD_ALLOW_SEALING))
            closing.enter_context(fd)
            os.ftruncate(fd.fileno(), size)
            fcntl.fcntl(fd.fileno(), F_ADD_SEALS, SEALS)
            return fd

        yield make


@pytest.fixture
def guest() -> Iterator[Guest]:
    with OwnedFd(os.memfd_create("ram", os.MFD_ALLOW_SEALING)) as fd:
        guest = Guest(fd.fileno())
        fcntl.fcntl(fd.fileno(), F_ADD_SEALS, SEALS)
        yield guest


@pytest.fixture
def unsealed() -> Iterator[Guest]:
    """RAM that its VMM can cut off."""
    with OwnedFd(os.memfd_create("ram")) as fd:
        yield Guest(fd.fileno())
