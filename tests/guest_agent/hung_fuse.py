"""A file system of one file whose daemon stops answering, as FUSE daemons do.

Spoken to /dev/fuse without a library (the kernel's include/uapi/linux/fuse.h).  It takes
CAP_SYS_ADMIN to mount; a file is all that is left of it once it is unmounted lazily.
"""

import ctypes
import errno
import os
import stat
import struct
import threading
import time
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

import pytest

from tests.open_fds import open_fds

ROOT: Final = 1
FILE: Final = 2
SIZE: Final = 1 << 20
MNT_DETACH: Final = 2

INIT_OUT: Final = struct.Struct("=IIIIHHII36x")
"""struct fuse_init_out, up to what is not 0."""
_IN: Final = struct.Struct("=IIQQIIIHH")
"""struct fuse_in_header."""
_ATTR: Final = struct.Struct("=QQQQQQIIIIIIIIII")


class Opcode(IntEnum):
    """What the kernel asks."""

    LOOKUP = 1
    GETATTR = 3
    OPEN = 14
    INIT = 26


_libc = ctypes.CDLL(None, use_errno=True)


def attributes(node: int) -> bytes:
    """Struct fuse_attr; what it says is to be asked anew each time."""
    mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o644
    return _ATTR.pack(node, SIZE, SIZE // 512, *([0] * 6), mode, 1, 0, 0, 0, 4096, 0)


class HungFile:
    """`fd` is open, and from then on whoever asks the file system anything waits."""

    def __init__(self, directory: Path) -> None:
        try:
            self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as exc:
            pytest.skip(f"no FUSE: {exc}")
        data = f"fd={self._device},rootmode=40000,user_id=0,group_id=0"
        where = os.fsencode(directory)
        if _libc.mount(b"wlproxy-test", where, b"fuse", 0, data.encode()):
            os.close(self._device)
            pytest.skip(f"no FUSE: {os.strerror(ctypes.get_errno())}")
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            self.fd = os.open(directory / "file", os.O_RDWR | os.O_CLOEXEC)
        finally:
            _libc.umount2(where, MNT_DETACH)
        thread.join()
        self.link = os.readlink(f"/proc/self/fd/{self.fd}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Whoever waits is told that the daemon has gone, and lets go of the file.
        os.close(self._device)
        with suppress(OSError):  # it is closed all the same
            os.close(self.fd)
        deadline = time.monotonic() + 10
        while self.is_open():
            assert time.monotonic() < deadline, "somebody keeps the file open"
            time.sleep(0.001)

    def is_open(self) -> bool:
        """Whether this process has an fd of it left."""
        return self.link in open_fds().values()

    def _serve(self) -> None:
        """Answer up to the opening of the file."""
        opcode = 0
        while opcode != Opcode.OPEN:
            request = os.read(self._device, 1 << 17)
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            match opcode:
                case Opcode.INIT:
                    answer = INIT_OUT.pack(7, 31, 0, 0, 0, 0, 4096, 1)
                case Opcode.LOOKUP:
                    answer = struct.pack("=QQQQII", FILE, 0, 0, 0, 0, 0)
                    answer += attributes(FILE)
                case Opcode.GETATTR:
                    answer = struct.pack("=QII", 0, 0, 0) + attributes(node)
                case Opcode.OPEN:
                    answer = struct.pack("=QII", 1, 0, 0)
                case _:
                    self._write(unique, -errno.ENOSYS, b"")
                    continue
            self._write(unique, 0, answer)

    def _write(self, unique: int, error: int, answer: bytes) -> None:
        header = struct.pack("=IiQ", 16 + len(answer), error, unique)
        os.write(self._device, header + answer)
