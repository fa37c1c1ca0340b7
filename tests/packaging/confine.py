"""Runs a command with a unit's RestrictAddressFamilies, as systemd would enforce it.

Not systemd: there is none to ask where tests run.  The filter is the one that systemd
loads for this option: socket(2) of another family fails with EAFNOSUPPORT.

    confine.py "AF_UNIX AF_NETLINK" COMMAND [ARGUMENT...]
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SECCOMP_MODE_FILTER = 2
ALLOW, FAIL = 0x7FFF0000, 0x00050000
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16
"""Where they are in struct seccomp_data."""


class Program(ctypes.Structure):
    """Struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def instruction(code: int, operand: int, equal: int = 0, other: int = 0) -> bytes:
    return struct.pack("=HBBI", code, equal, other, operand)


def confine(families: list[int]) -> None:
    """Let this process, and those it starts, make sockets of these families only."""
    count = len(families)
    program = b"".join(
        [
            instruction(LOAD, NUMBER),
            # Over the families and the failure, unless it is the call.
            instruction(JUMP_EQUAL, SOCKET_CALL[platform.machine()], 0, count + 2),
            instruction(LOAD, FIRST_ARGUMENT),
            *(
                instruction(JUMP_EQUAL, family, count - index)
                for index, family in enumerate(families)
            ),
            instruction(RETURN, FAIL | errno.EAFNOSUPPORT),
            instruction(RETURN, ALLOW),
        ]
    )
    libc = ctypes.CDLL(None, use_errno=True)
    loaded = Program(len(program) // 8, program)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(loaded), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    confine([int(getattr(socket, name)) for name in sys.argv[1].split()])
    os.execvp(sys.argv[2], sys.argv[2:])
