"""Runs QEMU: finds the accelerator that works here, speaks QMP, and lets QEMU die with us."""

import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from lab.errors import LabError

Process: TypeAlias = subprocess.Popen[bytes]
PROGRAM = "qemu-system-x86_64"


def kvm_works() -> bool:
    """Tell whether QEMU can run a machine with KVM here.

    That ``/dev/kvm`` opens, and even makes VMs, says little: on some rented machines
    an ordinary guest cannot run all the same.  So a machine without a disk is
    started, and its firmware has to say a word on its debug port.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    command = [PROGRAM, "-machine", "q35", *cpu_options("kvm"), *BARE, *BARE_DEVICES]
    debug = ["-chardev", "stdio,id=d", "-device", "isa-debugcon,iobase=0x402,chardev=d"]
    with subprocess.Popen(
        [*command, *debug],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        ready = select.select([process.stdout], [], [], 10)[0]
        works = bool(ready) and process.stdout.read(1) != b""
        process.kill()
    return works


def accelerator() -> str:
    """Return the accelerator to use: ``kvm``, or ``tcg`` where that does not work."""
    if forced := os.environ.get("WLPROXY_LAB_ACCEL"):
        return forced
    return "kvm" if kvm_works() else "tcg"


QEMU64 = ",family=15,model=107,stepping=1"


def cpu_options(accel: str, *, as_qemu64: bool = False) -> list[str]:
    """Return QEMU's options for a CPU that can run guests of its own.

    Args:
        accel: ``kvm`` or ``tcg``.
        as_qemu64: whether an emulated one shall name itself as QEMU's oldest 64-bit
            model does, and not, as "max" does, after an AMD CPU that had 32 bits.
    """
    if accel == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    # la57: five-level page tables only cost TCG time.
    cpu = "max,la57=off" + (QEMU64 if as_qemu64 else "")
    return ["-accel", "tcg,thread=multi,tb-size=512", "-cpu", cpu]


BARE = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
BARE_DEVICES = ("-vga", "none", "-nic", "none")


def start(command: Sequence[str], *, log: Path, die_with_parent: bool) -> Process:
    """Start QEMU with its own messages in a log.

    Args:
        command: the command line.
        log: where its standard output and error go.
        die_with_parent: have the kernel kill it when this process dies.  The kernel
            looks at the *thread*, so this works from the main thread only.
    """
    prefix: list[str] = []
    if die_with_parent and threading.current_thread() is threading.main_thread():
        prefix = ["setpriv", "--pdeathsig", "KILL", "--"]
    with log.open("ab") as file:
        return subprocess.Popen(
            [*prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


class Qmp:
    """A QMP session: QEMU's control socket."""

    def __init__(self, path: Path | str, timeout: float = 20) -> None:
        """Connect, waiting for the socket to appear.

        Raises:
            LabError: it does not appear.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.connect(str(path))
                break
            except OSError as error:
                self._socket.close()
                if time.monotonic() > deadline:
                    raise LabError(f"no QMP on {path}") from error
                time.sleep(0.01)
        self._socket.settimeout(60)
        self._file = self._socket.makefile("rwb", buffering=0)
        self._file.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - JSON
        """Execute a command and return what it returns.

        Raises:
            LabError: QEMU refused, or is gone.
        """
        request = {"execute": command, "arguments": arguments}
        self._file.write(json.dumps(request).encode() + b"\n")
        while line := self._file.readline():
            reply = json.loads(line)
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise LabError(f"QMP {command}: {reply['error'].get('desc')}")
        raise LabError(f"QMP {command}: QEMU is gone")

    def close(self) -> None:
        """Close the session; QEMU goes on."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> "Qmp":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
