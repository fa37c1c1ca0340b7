"""Starts and stops the guest's QEMU.

It is used in two places: inside the outer VM, where the guest runs under KVM, and on the
developer's own machine, where it usually runs under TCG.  (There is no udmabuf there
either, but the channel and the guest's programs are real.)
"""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import qemu
from lab.progress import Progress, file_size, runnable_clock
from lab.qemu import Process
from lab.wire import Connection, WireError

RUN = Path("/run/wlproxy-lab")
BOOT = Path("/lab/guest")
CHANNEL_PORT = "org.wlproxy.0"
CONTROL_PORT = "org.wlproxy.lab"


@dataclass(frozen=True, slots=True)
class Machine:
    """A guest that can be started: what it is made of, and where its sockets are.

    Attributes:
        directory: for the sockets, the log and the pid file; one per machine.
        disk: the guest image; never written to.
        accel: ``kvm`` or ``tcg``.
        init: ``lab`` (a few processes) or ``systemd``.
        backend: QEMU's memory backend; its id has to stay ``ram``.
        nodes: NUMA nodes; each has a backend of its own, and as much of the RAM.
        gpu: the device that buffers are allocated on.
        append: more words for the kernel command line.
        options: more options for QEMU.
        described: QEMU's options for machine, RAM and channel as somebody else tells them;
            none: those of a q35.
        bus: what the disk's name ends in: ``pci``, or ``device`` on a machine without.
    """

    directory: Path
    kernel: Path
    initrd: Path
    disk: Path
    accel: str = "kvm"
    memory_mib: int = 1024
    cpus: int = 1
    init: str = "lab"
    backend: str = "memory-backend-memfd,share=on"
    nodes: int = 1
    gpu: str = "virtio-gpu-pci"
    append: str = ""
    options: tuple[str, ...] = ()
    described: tuple[str, ...] = ()
    bus: str = "pci"

    @property
    def channel(self) -> Path:
        """The socket of the port that wlproxy uses."""
        return self.directory / "channel.sock"

    @property
    def control(self) -> Path:
        """The socket of the tests' own port."""
        return self.directory / "control.sock"

    @property
    def qmp(self) -> Path:
        """QEMU's control socket."""
        return self.directory / "qmp.sock"

    @property
    def console(self) -> Path:
        """What the guest's kernel and init print."""
        return self.directory / "console"

    @property
    def log(self) -> Path:
        """What QEMU itself prints."""
        return self.directory / "qemu.log"

    @property
    def pid_file(self) -> Path:
        """Where QEMU writes its process id."""
        return self.directory / "pid"

    def replace(self, **changes: object) -> "Machine":
        """Return the same machine with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def command(self) -> list[str]:
        """Return QEMU's command line."""
        kernel = f"console=ttyS0 quiet panic=-1 mitigations=off nokaslr {self.append}"
        kernel += f" random.trust_cpu=on wlproxy.role=guest wlproxy.init={self.init}"
        # Whoever waits for it watches the console.
        kernel += " systemd.show_status=1" if self.init == "systemd" else ""
        disk = f"if=none,id=root,file={self.disk},format=raw,readonly=on"
        return [
            *(qemu.PROGRAM, *qemu.cpu_options(self.accel), "-smp", str(self.cpus)),
            *(self.described or self._q35()),
            *(*qemu.BARE, *qemu.BARE_DEVICES, "-pidfile", str(self.pid_file)),
            *("-kernel", str(self.kernel), "-initrd", str(self.initrd)),
            *("-append", " ".join(kernel.split()), "-serial", f"file:{self.console}"),
            *("-drive", disk),
            *("-device", f"virtio-blk-{self.bus},drive=root,serial=guest"),
            *_port("control", self.control, CONTROL_PORT),
            *("-qmp", f"unix:{self.qmp},server=on,wait=off"),
            # No GPU: what it is for is buffers that a DRM driver has allocated.
            *("-device", self.gpu),
            *self.options,
        ]

    def _q35(self) -> list[str]:
        """Machine, RAM, and the bus that ports are on with that of the channel."""
        machine, size = "q35,usb=off,vmport=off", self.memory_mib // self.nodes
        ram = ["-m", str(self.memory_mib)]
        if self.nodes == 1:
            machine += ",memory-backend=ram"
            ram += ["-object", f"{self.backend},id=ram,size={size}M"]
        else:
            for node in range(self.nodes):
                ram += ["-object", f"{self.backend},id=ram{node},size={size}M"]
                ram += ["-numa", f"node,nodeid={node},memdev=ram{node}"]
        return [
            *("-machine", machine, *ram, "-device", "virtio-serial-pci,max_ports=8"),
            *_port("channel", self.channel, CHANNEL_PORT),
        ]

    def start(self, *, die_with_parent: bool = False) -> Process:
        """Start QEMU; the guest then takes its time to boot."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in (self.channel, self.control, self.qmp, self.pid_file, self.console):
            path.unlink(missing_ok=True)
        process = qemu.start(
            self.command(), log=self.log, die_with_parent=die_with_parent
        )
        # Until then `kill` would not find it.
        while not file_size(self.pid_file) and process.poll() is None:
            time.sleep(0.01)
        return process

    def connect(
        self,
        say: Callable[[str], None],
        hello: dict[str, Any] | None = None,
        on_progress: Callable[[int], None] = lambda size: None,
    ) -> Connection:
        """Wait until the guest's control agent answers, as long as its boot goes on.

        Args:
            say: prints a line.
            hello: what else to say in the greeting.
            on_progress: called with the size of the guest's console, again and again.

        Raises:
            LabError: nothing moves any more.
        """

        def sign() -> int:
            size = file_size(self.console)
            on_progress(size)
            return size

        clock = runnable_clock(self.pid() or 0)
        progress = Progress("the guest, booting", sign, say=say, clock=clock)
        while True:
            try:
                return Connection(self.control, 2, hello)
            except (WireError, OSError):
                progress.check()

    def pid(self) -> int | None:
        """Return QEMU's process id, or `None` if it does not run."""
        try:
            pid = int(self.pid_file.read_text())
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return None
        return None if state in "ZX" else pid

    def kill(self) -> None:
        """Kill QEMU as a crash would, and wait until it is gone."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while self.pid() is not None:
            time.sleep(0.01)


def _port(name: str, path: Path, port: str) -> list[str]:
    chardev = f"socket,id={name},path={path},server=on,wait=off"
    return [
        "-chardev",
        chardev,
        "-device",
        f"virtserialport,chardev={name},name={port}",
    ]


def in_lab() -> Machine:
    """Return the guest inside the outer VM."""
    return Machine(
        directory=RUN / "guest",
        kernel=BOOT / "vmlinuz",
        initrd=BOOT / "initrd",
        disk=disk_by_serial("guest"),
        accel="kvm" if Path("/dev/kvm").exists() else "tcg",
    )


def native(directory: Path) -> Machine:
    """Return the guest on this very machine, from the images in the cache.

    Raises:
        LabError: the guest image has not been built.
    """
    # The machines themselves have neither the images nor the recipe.
    from lab import images, initramfs, recipe  # noqa: PLC0415

    image = images.find(recipe.GUEST_IMAGE)
    directory.mkdir(parents=True, exist_ok=True)
    initrd = directory / "initrd"
    initrd.write_bytes(initramfs.build_guest(image))
    return Machine(
        directory=directory,
        kernel=image.kernel,
        initrd=initrd,
        disk=image.root,
        accel=qemu.accelerator(),
    )


def disk_by_serial(serial: str) -> Path:
    """Return the disk with a serial number.

    Raises:
        FileNotFoundError: there is none.
    """
    for path in Path("/sys/block").glob("vd*/serial"):
        if path.read_text().strip() == serial:
            return Path("/dev") / path.parent.name
    raise FileNotFoundError(f"no disk with the serial number {serial}")
