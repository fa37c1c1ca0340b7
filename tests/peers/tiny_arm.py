"""A QEMU of another architecture, whose guest is forty bytes: it writes into its RAM, and sleeps.

It needs no image, no firmware and no toolchain.  Its options are those that `wlproxy qemu-args`
prints, so that its process is looked into as any guest's.
"""

import shlex
import socket
import struct
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.qemu import BARE, Qmp
from wlproxy.host.qemu.args import QemuSetup, qemu_command_line

PROGRAM = "qemu-system-aarch64"
PACKAGE = "qemu-system-arm"
"""Debian's, which has it."""
KEY = 0x5EED_0F_A11_DA7A
"""What a word that the guest wrote is its own address with, by exclusive or."""
WORD = struct.Struct("<Q")

CODE = struct.pack(
    "<10I",
    0x10000140,  # adr x0, table
    0xF8408403,  # ldr x3, [x0], #8: the key
    0xF8408401,  # next: ldr x1, [x0], #8
    0xB4000081,  # cbz x1, done
    0xCA030022,  # eor x2, x1, x3
    0xF9000022,  # str x2, [x1]
    0x17FFFFFC,  # b next
    0xD503207F,  # done: wfi
    0x17FFFFFF,  # b done
    0xD503201F,  # nop: the table is aligned
)
"""A64, as the Arm Architecture Reference Manual (DDI 0487), C6, has it; the MMU is off."""


class TinyArm:
    """It runs from `with` to the end of that."""

    def __init__(
        self, directory: Path, memory: str, words: Sequence[int], machine: str = "virt"
    ) -> None:
        """Nothing runs yet.

        Args:
            directory: for its files.
            memory: how much RAM it has, for `-m`.
            words: guest-physical addresses to write to, in this order.
            machine: `virt`, or that with options.
        """
        table = b"".join(WORD.pack(each) for each in (KEY, *words, 0))
        (directory / "code").write_bytes(CODE + table)
        self._channel, self._qmp = directory / "channel", directory / "qmp"
        kind, _, more = machine.partition(",")
        options = qemu_command_line(QemuSetup(self._channel, memory, kind))
        self._words = [
            *(PROGRAM, *BARE, "-accel", "tcg", "-cpu", "cortex-a57"),
            *shlex.split(options.replace("\\\n", " ")),
            *(("-machine", more) if more else ()),
            *("-kernel", str(directory / "code")),
            *("-qmp", f"unix:{self._qmp},server=on,wait=off"),
        ]
        self._up = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as up:
            self.process = up.enter_context(
                subprocess.Popen(self._words, stdin=subprocess.DEVNULL)
            )
            up.callback(self.process.kill)
            # It answers once the machine is made; its sockets are there before its RAM is.
            up.enter_context(Qmp(self._qmp))
            self.channel = up.enter_context(socket.socket(socket.AF_UNIX))
            self.channel.connect(str(self._channel))
            self._up = up.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._up.__exit__(kind, exc, traceback)


def token(gpa: int) -> bytes:
    """What the guest writes at an address."""
    return WORD.pack(gpa ^ KEY)
