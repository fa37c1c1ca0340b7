"""Landlock: a process takes from itself what it has no use for (landlock(7)); nobody can give it back.

The numbers are those of include/uapi/linux/landlock.h and asm-generic/unistd.h.  There is no library for it
that is kept well and is in Debian.  What a kernel is too old for is left out.

Two of its rules decide who can use it.  A thread takes from itself, and from those that it starts, and not
from the others.  And whoever is confined may look into no process that is not (security/landlock/task.c,
`hook_ptrace_access_check`): what /proc/PID/fd has cannot be opened then, whatever else is allowed.
"""

import ctypes
import os
from collections.abc import Iterable
from contextlib import suppress
from enum import IntFlag
from pathlib import Path
from typing import Final, NamedTuple

from wlproxy.transport.fds import OwnedFd

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
"""linux/prctl.h"""

_TCP: Final = 0b11
"""LANDLOCK_ACCESS_NET_BIND_TCP, _CONNECT_TCP."""
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2
TCP_SINCE, SCOPES_SINCE = 4, 6
"""Versions of the ABI."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Access(IntFlag):
    """What may be done to files, and in directories and all that is beneath them."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


_SINCE: Final = {Access.REFER: 2, Access.TRUNCATE: 3, Access.IOCTL_DEV: 5}
"""Versions of the ABI that have what the first has not."""

_OF_FILES: Final = (
    Access.EXECUTE
    | Access.WRITE_FILE
    | Access.READ_FILE
    | Access.TRUNCATE
    | Access.IOCTL_DEV
)
"""What a rule for anything but a directory may have."""


class Rule(NamedTuple):
    """What stays allowed: with a file, or in a directory and beneath it."""

    path: Path
    access: Access


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # what it means to be packed, and Python 3.14 wants to be told
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Return the version of the kernel's ABI; 0 if it has none, or has it switched off."""
    with suppress(OSError):
        return _syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    return 0


def described(version: int) -> str:
    """Name a version of the ABI, and what it is too old to forbid."""
    lacks = [
        *(["TCP"] if version < TCP_SINCE else []),
        *(["signals"] if version < SCOPES_SINCE else []),
    ]
    but = f"; the kernel is too old to forbid {' and '.join(lacks)}" if lacks else ""
    return f"Landlock {version}{but}"


def no_new_privileges() -> None:
    """Have no program that is started from now on gain rights by it (set-uid bits, capabilities).

    Raises:
        OSError: the kernel does not.
    """
    if _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _error()


def confine_thread(rules: Iterable[Rule], *, abstract_sockets: bool) -> None:
    """Forbid this thread, and those that it starts, all that these rules do not allow.

    That is files, TCP, and to signal processes that are not confined with it.  Fds that are open, and such that
    somebody passes, stay what they are.

    Args:
        rules: what stays allowed; one for a path that there is not is left out.
        abstract_sockets: connecting to sockets of the abstract namespace (unix(7)) stays allowed, too.

    Raises:
        OSError: the kernel does not do it; then nothing is forbidden.
    """
    version = abi()
    handled = ~Access(0)
    for access, since in _SINCE.items():
        if version < since:
            handled &= ~access
    scoped = _SCOPE_SIGNALS | (0 if abstract_sockets else _SCOPE_ABSTRACT_SOCKETS)
    attr = _RulesetAttr(
        handled,
        _TCP if version >= TCP_SINCE else 0,
        scoped if version >= SCOPES_SINCE else 0,
    )
    size = ctypes.sizeof(attr)  # older kernels take a longer one, if the rest is zero
    with OwnedFd(_syscall(_CREATE_RULESET, ctypes.byref(attr), size, 0)) as ruleset:
        for rule in rules:
            _allow(ruleset, rule, handled)
        no_new_privileges()
        _syscall(_RESTRICT_SELF, ruleset.fileno(), 0)


def _allow(ruleset: OwnedFd, rule: Rule, handled: Access) -> None:
    try:
        fd = OwnedFd(os.open(rule.path, os.O_PATH | os.O_CLOEXEC))
    except OSError:
        return
    with fd:
        access = rule.access & handled
        if not rule.path.is_dir():
            access &= _OF_FILES
        if access:
            attr = ctypes.byref(_PathBeneathAttr(access, fd.fileno()))
            _syscall(_ADD_RULE, ruleset.fileno(), _RULE_PATH_BENEATH, attr, 0)


def _syscall(number: int, *arguments: object) -> int:
    result = _LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise _error()
    return int(result)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
