"""`Domain`: a domU with `/dev/gem-grant`, and a Python in it that a test can command."""

import json
import re
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import xen_guest
from lab.debug_kernel import FAULTS
from lab.guest import Guest

PAGE = 4096
REQUESTS, ANSWERS = "/run/requests", "/run/answers"
PROGRAM = Path(__file__).with_name("in_guest.py")
# In two scans, what nobody has had a pointer to for some seconds; if the kernel can tell.
SCAN = """
leaks=/sys/kernel/debug/kmemleak
[ -e /proc/lockdep_stats ] || exit 0
[ -e $leaks ] || mount -t debugfs debug /sys/kernel/debug
for again in 1 2; do sleep 6; echo scan >$leaks; done
"""
NOTHING = [0, 0, 0, 0]
"""What the module counts if nothing is granted."""
# More than is free, so that whatever had been let go would be used, and written over.
USE_ALL_MEMORY = """
free = [int(l.split()[1]) for l in open("/proc/meminfo") if l.startswith("MemAvailable")]
use = memfd(0)
for n in range(free[0] * 3 // 4 >> 10): os.write(use, b"used" * 2**18)
os.close(use)
"""


def contents(pages: int, seed: int) -> bytes:
    """Return what the guest's `fill` writes."""
    numbers = (struct.pack("=II", seed, page) for page in range(pages))
    return b"".join(number * (PAGE // 8) for number in numbers)


class Domain:
    """A domU that runs."""

    def __init__(self, machine: xen_guest.DomU) -> None:
        """Boot it."""
        self.guest = Guest(machine)
        self.guest.boot()
        domid = machine.domid
        assert domid is not None
        self.machine, self.domid = machine, domid
        self.guest.put("/run/in_guest.py", PROGRAM.read_bytes())
        self.guest.run(["mkfifo", REQUESTS, ANSWERS])
        self.restart()

    def restart(self) -> None:
        """Start the Python in it, anew if there was one."""
        command = ["python3", "/run/in_guest.py", REQUESTS, ANSWERS]
        self.pid = self.guest.spawn(command, log="/run/in_guest.log")

    def python(self, code: str, patience: float = 120) -> Any:
        """Execute Python there; returns what it has left in `result`.

        Raises:
            AssertionError: it raised something.
        """
        script = f'printf "%s\\n" "$1" >{REQUESTS}; cat {ANSWERS}'
        command = ["sh", "-c", script, "sh", json.dumps(code)]
        done = self.guest.run(command, timeout=patience)
        answer = json.loads(done.stdout)
        assert "error" not in answer, f"{code}\n{answer['error']}"
        return answer["result"]

    def counts(self) -> list[int]:
        """Return what the module counts: objects, refs, closed objects, closed refs."""
        found = self.python("result = counts()")
        assert isinstance(found, list)
        return found

    def await_counts(self, wanted: Sequence[int], patience: float = 60) -> None:
        """Wait until the module counts that: it looks every other second."""
        deadline = time.monotonic() + patience
        while (found := self.counts()) != list(wanted):
            assert time.monotonic() < deadline, f"{found}, not {wanted}"

    def shell(self, script: str) -> str:
        """Run a shell script there, and return what it printed."""
        done = self.guest.run(["sh", "-c", script])
        assert done.ok, done
        return done.stdout.decode()

    def forget_leaks(self) -> None:
        """Forget what a kernel that looks for faults has leaked up to now."""
        self.shell(f"{SCAN} echo clear >$leaks")

    def check_for_leaks(self) -> None:
        """Check that such a kernel has leaked nothing since, and looked for deadlocks."""
        said = self.shell(f"{SCAN} cat $leaks; grep debug_locks: /proc/lockdep_stats")
        assert not said or re.fullmatch(r" *debug_locks: *1\n", said), said

    def check_that_faults_are_seen(self) -> None:
        """Check that such a kernel reports each fault, when a module commits it on purpose."""
        if self.shell("[ -e /proc/lockdep_stats ] || echo another"):
            return
        self.shell("insmod /lab/modules/gem_locate_exporter.ko; dmesg --clear")
        for number, said in FAULTS.items():
            self.python(
                "device = os.open('/dev/gem-locate-exporter', os.O_RDWR)\n"
                f"fcntl.ioctl(device, ord('x') << 8 | {0x90 + number})\n"
                "os.close(device)"
            )
            seen = self.shell(f"{SCAN} cat $leaks; dmesg")
            assert said in seen, f"not seen: {said}"

    def close(self) -> None:
        """Destroy it."""
        self.guest.power_off()


def domids() -> list[int]:
    """List the domains that Xen has."""
    done = subprocess.run(["xl", "list"], capture_output=True, text=True, check=True)
    return [int(line.split()[-5]) for line in done.stdout.splitlines()[1:]]
