"""Runs a command with a unit's filters of system calls, as systemd would enforce them.

Not systemd: there is none to ask where tests run.  The filters are those that systemd loads (its
src/shared/seccomp-util.c has them) for

* RestrictAddressFamilies: socket(2) of another family fails with EAFNOSUPPORT;
* MemoryDenyWriteExecute: mapping memory that can be written and executed, or making it so, fails;
* RestrictNamespaces: unshare(2), setns(2) and clone(2) of one fail;
* SystemCallFilter: what is not in these sets fails with EPERM.

    confine.py UNIT COMMAND [ARGUMENT...]
"""

import ctypes
import errno
import mmap
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2
ALLOW, FAIL = 0x7FFF0000, 0x00050000
LOAD, JUMP_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
AND = 0x54
NUMBER, FIRST_ARGUMENT = 0, 16
"""Where they are in struct seccomp_data; arguments have 8 bytes each, the low ones first."""
CLONE_NAMESPACES = 0x7E020000 | 0x80
"""CLONE_NEW* of clone(2)."""
LIBSECCOMP = "libseccomp.so.2"


class Program(ctypes.Structure):
    """Struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def settings(unit: Path) -> list[tuple[str, str]]:
    """The settings of a unit's service, in order: some add to what was said before."""
    service = unit.read_text().partition("[Service]\n")[2].partition("\n[")[0]
    return re.findall(r"^(\w+)=(.*)$", service, re.MULTILINE)


def number(call: str) -> int:
    """Return a system call's number here; negative if there is none."""
    found: int = ctypes.CDLL(LIBSECCOMP).seccomp_syscall_resolve_name(call.encode())
    return found


def expanded(names: Sequence[str]) -> Iterator[str]:
    """Yield the system calls of sets, as systemd has them."""
    for name in names:
        if not name.startswith("@"):
            yield name
            continue
        listed = subprocess.run(
            ["systemd-analyze", "syscall-filter", "--no-pager", name],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        words = [line.strip() for line in listed.stdout.splitlines()[1:]]
        yield from expanded([word for word in words if word and word[0] != "#"])


def allowed(values: Sequence[str]) -> set[str]:
    """Return what SystemCallFilter lines allow, whose first one is a list of what is."""
    calls = set(expanded(["@default"]))
    for value in values:
        named = set(expanded(value.removeprefix("~").split()))
        calls = calls - named if value.startswith("~") else calls | named
    return calls


def instruction(code: int, operand: int, equal: int = 0, other: int = 0) -> bytes:
    return struct.pack("=HBBI", code, equal, other, operand)


def fails(code: int) -> bytes:
    return instruction(RETURN, FAIL | code)


def families_only(families: Sequence[int]) -> bytes:
    """Fail socket(2) of other families."""
    count = len(families)
    return b"".join(
        [
            instruction(LOAD, NUMBER),
            # Over the families and the failure, unless it is the call.
            instruction(JUMP_EQUAL, number("socket"), 0, count + 2),
            instruction(LOAD, FIRST_ARGUMENT),
            *(
                instruction(JUMP_EQUAL, family, count - index)
                for index, family in enumerate(families)
            ),
            fails(errno.EAFNOSUPPORT),
            instruction(RETURN, ALLOW),
        ]
    )


def masked(call: str, argument: int, mask: int, *, all_of_it: bool) -> bytes:
    """Fail a call whose argument has these bits: all, or any of them."""
    return b"".join(
        [
            instruction(LOAD, NUMBER),
            instruction(JUMP_EQUAL, number(call), 0, 4),
            instruction(LOAD, FIRST_ARGUMENT + 8 * argument),
            instruction(AND, mask),
            instruction(JUMP_EQUAL, mask, 0, 1)
            if all_of_it
            else instruction(JUMP_ANY_BIT, mask, 0, 1),
            fails(errno.EPERM),
            instruction(RETURN, ALLOW),
        ]
    )


def listed_only(calls: set[str]) -> bytes:
    """Fail what is not listed."""
    numbers = sorted({found for call in calls if (found := number(call)) >= 0})
    parts = [instruction(LOAD, NUMBER)]
    for each in numbers:
        parts += [instruction(JUMP_EQUAL, each, 0, 1), instruction(RETURN, ALLOW)]
    return b"".join([*parts, fails(errno.EPERM)])


def filters(unit: Path) -> Iterator[bytes]:
    """Yield the filters of a unit."""
    said = settings(unit)
    values = dict(said)
    names = values["RestrictAddressFamilies"].split()
    yield families_only([int(getattr(socket, name)) for name in names])
    if values["MemoryDenyWriteExecute"] == "yes":
        executable = mmap.PROT_WRITE | mmap.PROT_EXEC
        yield masked("mmap", 2, executable, all_of_it=True)
        yield masked("mprotect", 2, mmap.PROT_EXEC, all_of_it=True)
        yield masked("pkey_mprotect", 2, mmap.PROT_EXEC, all_of_it=True)
    if values["RestrictNamespaces"] == "yes":
        yield masked("clone", 0, CLONE_NAMESPACES, all_of_it=False)
        yield masked("unshare", 0, CLONE_NAMESPACES, all_of_it=False)
    yield listed_only(
        allowed([value for name, value in said if name == "SystemCallFilter"])
    )


def load(program: bytes) -> None:
    """Have this process, and those it starts, be filtered."""
    libc = ctypes.CDLL(None, use_errno=True)
    loaded = Program(len(program) // 8, program)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(loaded), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    for each in list(filters(Path(sys.argv[1]))):
        load(each)
    os.execvp(sys.argv[2], sys.argv[2:])
