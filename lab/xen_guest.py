"""Starts and stops a domU of Xen's, in the dom0 of the lab's machine that has it.

To `lab.guest.Guest` it is a machine like the others, only that a toolstack starts it.  Its
ports are consoles of Xen's: `/dev/hvc1` there is wlproxy's channel, `/dev/hvc2` the tests' own.
"""

import dataclasses
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import nested, paths
from lab.errors import LabError
from lab.nested import BOOT, CHANNEL_PORT, CONTROL_PORT, RUN
from lab.progress import Progress, file_size
from lab.qemu import Process
from lab.wire import Connection, WireError

MEMORY_MIB = 512
KINDS = ("pv", "pvh")
# What `lab xen --debug-kernel` sends along with the tree, for PVH domains; and how much memory
# they need then, of which an eighth is KASAN's.
DEBUG_KERNEL, DEBUG_INITRD = "build/debug-kernel/vmlinuz", "build/debug-kernel/initrd"
DEBUG_MEMORY_MIB = 900
CAPABILITIES = Path("/proc/xen/capabilities")
PATIENCE = 120.0
"""Seconds for what Xen's tools do by themselves, under emulation."""


@dataclass(frozen=True, slots=True)
class DomU(nested.Machine):
    """A domain that can be started.

    Attributes:
        kind: ``pv`` or ``pvh``.
        grant_frames: most pages of its grant table, of 512 references each; 0: Xen's default.
    """

    kind: str = "pv"
    grant_frames: int = 0

    @property
    def domain(self) -> str:
        """What Xen calls it."""
        return self.directory.name

    @property
    def console(self) -> Path:
        """What the guest's kernel and init print: xenconsoled's log."""
        return Path(f"/var/log/xen/console/guest-{self.domain}.log")

    @property
    def domid(self) -> int | None:
        """Its number, or `None` if it does not run."""
        said = _tool("xl", "domid", self.domain)
        return int(said) if said else None

    def config(self) -> str:
        """Return its xl.cfg."""
        words = f"console=hvc0 quiet panic=-1 mitigations=off {self.append}"
        words += f" random.trust_cpu=on wlproxy.role=domu wlproxy.init={self.init}"
        channels = (CHANNEL_PORT, self.channel), (CONTROL_PORT, self.control)
        ports = [
            f"connection=socket,path={path},name={name}" for name, path in channels
        ]
        disk = (
            f"format=raw,vdev=xvda,access=ro,script=/lab/xen-block,target={self.disk}"
        )
        lines = {
            "name": self.domain,
            "type": self.kind,
            "kernel": str(self.kernel),
            "ramdisk": str(self.initrd),
            "memory": self.memory_mib,
            "vcpus": self.cpus,
            "extra": " ".join(words.split()),
            "disk": [disk],
            "channel": ports,
            **{f"on_{event}": "destroy" for event in ("crash", "poweroff", "reboot")},
        }
        if self.grant_frames:
            lines["max_grant_frames"] = self.grant_frames
        if self.kind == "pvh":
            # Emulating RDTSCP for it needs what QEMU's SVM does not tell.
            lines["tsc_mode"] = "native"
        return "".join(f"{name} = {value!r}\n" for name, value in lines.items())

    def start(self, *, die_with_parent: bool = False) -> Process:
        """Create it; it then takes its time to boot.

        Args:
            die_with_parent: is not to be had: a domain is nobody's child.

        Raises:
            LabError: `xl create` failed.
        """
        del die_with_parent
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in (self.channel, self.control, self.console):
            path.unlink(missing_ok=True)
        config = self.directory / "xl.cfg"
        config.write_text(self.config())
        with self.log.open("ab") as log:
            # In the foreground: it ends when the domain does.
            process = subprocess.Popen(
                ["xl", "create", "-F", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid_file.write_text(f"{process.pid}\n")
        return process

    def connect(
        self,
        say: Callable[[str], None],
        hello: dict[str, Any] | None = None,
        on_progress: Callable[[int], None] = lambda size: None,
    ) -> Connection:
        """Wait until the control agent answers, as long as the boot goes on.

        Raises:
            LabError: nothing moves any more, or the domain has gone.
        """

        def sign() -> tuple[int, int]:
            size = file_size(self.console)
            on_progress(size)
            return size, file_size(self.log)

        progress = Progress(f"{self.kind} domU, booting", sign, say=say)
        # Nothing may be written before: a console that is not raw yet sends it back.
        while not self._is_up():
            if self.pid() is None:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise LabError(f"{self.domain} has gone: {tail}")
            progress.check()
            time.sleep(0.2)
        while True:
            try:
                return Connection(self.control, 5, hello)
            except (WireError, OSError):
                progress.check()

    def _is_up(self) -> bool:
        domid = self.domid
        said = domid and _tool("xenstore-read", f"/local/domain/{domid}/data/lab")
        return said == "up"

    def kill(self) -> None:
        """Destroy it, and wait until its name is gone."""
        deadline = time.monotonic() + PATIENCE
        while self.domid is not None and time.monotonic() < deadline:
            _tool("xl", "destroy", self.domain)


def domu(kind: str, **changes: object) -> DomU:
    """Return a domU in the lab's dom0.

    Args:
        kind: ``pv`` or ``pvh``.
        changes: fields that shall be others.
    """
    machine = DomU(
        directory=RUN / kind,
        kernel=BOOT / "vmlinuz",
        initrd=BOOT / "initrd",
        disk=nested.disk_by_serial("dom0"),
        memory_mib=MEMORY_MIB,
        kind=kind,
    )
    kernel = paths.REPOSITORY / DEBUG_KERNEL
    if kind == "pvh" and kernel.exists():
        machine = dataclasses.replace(
            machine,
            kernel=kernel,
            initrd=paths.REPOSITORY / DEBUG_INITRD,
            memory_mib=DEBUG_MEMORY_MIB,
        )
    return dataclasses.replace(machine, **changes)  # type: ignore[arg-type]


def in_dom0() -> bool:
    """Tell whether this is Xen's domain 0."""
    return CAPABILITIES.exists() and "control_d" in CAPABILITIES.read_text()


def _tool(*command: str) -> str:
    """Run one of Xen's tools; returns what it says, nothing if it failed."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
