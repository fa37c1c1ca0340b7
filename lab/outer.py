"""The outer VM, which plays the host: how it is started, booted and talked to."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import host_setup, images, initramfs, paths, qemu, recipe
from lab.errors import LabError
from lab.progress import (
    STANDSTILL,
    Durations,
    Progress,
    StandstillError,
    file_size,
    runnable_clock,
)
from lab.say import say
from lab.wire import Connection, WireError

MEMORY_MIB = 4096
CPUS = 2


@dataclass(frozen=True, slots=True)
class Outer:
    """What an outer VM is made of.

    Attributes:
        host: its image.
        guest: the image of the guest inside it.
        deps: the image of the PyPI packages.
        initrd: its initramfs.
        with_guest: whether the guest is booted too.
        accel: ``kvm`` or ``tcg``.
    """

    host: images.Image
    guest: images.Image
    deps: Path
    initrd: bytes
    with_guest: bool
    accel: str

    @property
    def name(self) -> str:
        """What to call it, for people and in the cache."""
        kind = "nested" if self.with_guest else "host"
        is_usual = self.host.suite == recipe.HOST_IMAGE.suite
        return kind if is_usual else f"{kind}.{self.host.suite}"

    @property
    def key(self) -> str:
        """A key over everything that a frozen machine depends on."""
        cpu = ""
        if self.accel == "kvm":
            text = Path("/proc/cpuinfo").read_text()
            cpu = next(
                (line for line in text.splitlines() if line.startswith("model name")),
                "",
            )
        parts = [
            *(self.host.made, self.guest.made, self.deps.name),
            *(recipe.digest_files({"initrd": self.initrd}), cpu),
            *(host_setup.qemu_version(), self.arguments()),
        ]
        return recipe.digest(parts)

    def arguments(self) -> list[str]:
        """Return the part of the command line that needs no paths."""
        words = self.words("console=ttyS0 wlproxy.role=host")
        words += " wlproxy.guest=1" if self.with_guest else ""
        # Debian 12's LLVM believes the name, and then compiles nothing for 64 bits.
        cpu = qemu.cpu_options(self.accel, as_qemu64=self.host.suite == "bookworm")
        return [
            qemu.PROGRAM,
            *("-machine", "q35,usb=off,vmport=off,hpet=off,memory-backend=ram"),
            *(*cpu, "-smp", str(CPUS), "-m", str(MEMORY_MIB)),
            *(*qemu.BARE, *qemu.BARE_DEVICES, "-append", words),
        ]

    @staticmethod
    def words(first: str) -> str:
        """Return a command line for a kernel of this machine."""
        return f"{first} quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on"

    def boots(self, initrd: Path) -> list[str]:
        """Return QEMU's options for what is booted."""
        return ["-kernel", str(self.host.kernel), "-initrd", str(initrd)]

    def disks(self) -> dict[str, Path]:
        """Return the disks by their serial numbers; none is written to."""
        return {"host": self.host.root, "deps": self.deps, "guest": self.guest.root}

    def command(self, directory: Path, initrd: Path, memory: str) -> list[str]:
        """Return the command line.

        Args:
            directory: for the sockets and the console.
            initrd: where the initramfs has been written.
            memory: the RAM's backend, without its id and size.
        """
        command = self.arguments()
        command += ["-object", f"{memory},id=ram,size={MEMORY_MIB}M"]
        command += self.boots(initrd)
        command += ["-serial", f"file:{directory}/console"]
        for name, path in self.disks().items():
            drive = f"if=none,id={name},file={path},format=raw,readonly=on"
            device = f"virtio-blk-pci,drive={name},serial={name}"
            command += ["-drive", drive, "-device", device]
        job = f"socket,id=job,path={directory}/job.sock,server=on,wait=off"
        command += ["-device", "virtio-serial-pci,max_ports=4", "-chardev", job]
        command += ["-device", "virtserialport,chardev=job,name=job"]
        return [*command, "-qmp", f"unix:{directory}/qmp.sock,server=on,wait=off"]


class Vm:
    """An outer VM that runs."""

    def __init__(
        self, outer: Outer, directory: Path, initrd: Path, memory: str, *extra: str
    ) -> None:
        """Start QEMU.  It dies with this process."""
        self.directory = directory
        self._log = directory / "qemu.log"
        command = [*outer.command(directory, initrd, memory), *extra]
        self.process = qemu.start(command, log=self._log, die_with_parent=True)
        self.clock = runnable_clock(self.process.pid)
        """Seconds that count against it: not those in which it had to wait for a core."""

    @property
    def job_socket(self) -> Path:
        """The socket of the zygote's port."""
        return self.directory / "job.sock"

    def qmp(self) -> qemu.Qmp:
        """Open a QMP session."""
        return qemu.Qmp(self.directory / "qmp.sock")

    def connect(
        self, what: str = "the machine", standstill: float = STANDSTILL
    ) -> Connection:
        """Wait until the zygote answers, and return the connection to it.

        Args:
            what: what is waited for, for people.
            standstill: seconds in which nothing may appear on the console.

        Raises:
            LabError: it does not answer, or the machine went down.
        """
        with self.waiting(what, standstill) as progress:
            while True:
                try:
                    return Connection(self.job_socket, timeout=2)
                except (WireError, OSError) as error:
                    if self.process.poll() is not None:
                        raise LabError(f"the VM went down\n{self.tails()}") from error
                    progress.check()
                    # QEMU may still be on its way to making the socket.
                    time.sleep(0.05)

    @contextlib.contextmanager
    def waiting(self, what: str, standstill: float = STANDSTILL) -> Iterator[Progress]:
        """Wait for something of this machine; how long it took is kept.

        Raises:
            LabError: it stood still.
        """
        durations = Durations(paths.cache() / "durations.json")
        console = self.directory / "console"
        progress = Progress(
            what,
            lambda: file_size(console),
            say=say,
            standstill=standstill,
            usual=durations.last(what),
            clock=self.clock,
        )
        try:
            yield progress
        except StandstillError as error:
            raise LabError(f"{error}\n{self.tails()}") from error
        durations.note(what, progress.elapsed)

    def tails(self) -> str:
        """Return the ends of the console and of what QEMU said."""
        parts = []
        for path in (self.directory / "console", self._log):
            if path.exists():
                text = path.read_text(errors="replace")[-4000:]
                parts.append(f"=== {path.name} (end)\n{text}")
        return "\n".join(parts)

    def kill(self) -> None:
        """Pull the plug and wait until QEMU is gone."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Vm":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def prepare(wanted: recipe.Recipe, *, with_guest: bool) -> Outer:
    """Put an outer VM together from the images in the cache.

    Args:
        wanted: which of the hosts.
        with_guest: whether the guest is booted too.

    Raises:
        LabError: they have not been built.
    """
    host = images.find(wanted)
    guest = images.find(recipe.GUEST_IMAGE)
    deps = images.deps_path(wanted)
    if not deps.exists():
        raise LabError("no image of the PyPI packages: run python3 -m lab build")
    initrd = initramfs.build_host(host, guest)
    return Outer(host, guest, deps, initrd, with_guest, qemu.accelerator())


def cold_boot(outer: Outer, directory: Path) -> Vm:
    """Boot a machine from nothing."""
    initrd = directory / "initrd"
    initrd.write_bytes(outer.initrd)
    return Vm(outer, directory, initrd, "memory-backend-ram")


def discard(directory: Path) -> None:
    """Remove a machine's directory."""
    shutil.rmtree(directory, ignore_errors=True)
