"""Which NUMA node pages are on: as told, and as they are; the two calls libnuma is made of.

Source: mbind(2), move_pages(2).
"""

import ctypes
import mmap

PAGE = 4096
MBIND, MOVE_PAGES = 237, 279
"""Numbers of system calls on x86-64, which glibc has no functions for."""
MPOL_BIND = 2
WORD_BITS = 64


def bind(memory: mmap.mmap, offset: int, length: int, node: int) -> None:
    """Have pages of a mapping, which nobody has touched yet, come from one node.

    Raises:
        OSError: there is no such node.
    """
    mask = ctypes.c_ulong(1 << node)
    start = ctypes.c_void_p(_address(memory) + offset)
    size = ctypes.c_ulong(length)
    # One more than the bits of the mask: the kernel takes one off (mm/mempolicy.c, get_nodes).
    bits = ctypes.c_ulong(WORD_BITS + 1)
    _call(MBIND, start, size, MPOL_BIND, ctypes.byref(mask), bits, 0)


def nodes(memory: mmap.mmap) -> list[int]:
    """Return the node of each page of a mapping; below 0: an error number, of no page.

    Raises:
        OSError: the kernel does not tell.
    """
    count = len(memory) // PAGE
    start = _address(memory)
    addresses = [start + PAGE * page for page in range(count)]
    pages = (ctypes.c_void_p * count)(*addresses)
    status = (ctypes.c_int * count)()
    _call(MOVE_PAGES, 0, ctypes.c_ulong(count), pages, None, status, 0)
    return list(status)


def _address(memory: mmap.mmap) -> int:
    """Where a mapping begins."""
    first = ctypes.c_char.from_buffer(memory)
    try:
        return ctypes.addressof(first)
    finally:
        del first


def _call(number: int, *arguments: object) -> None:
    """Make a system call.

    Raises:
        OSError: it failed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
