"""``lab run`` and ``lab pytest``: run a command in a VM, on the working tree."""

import contextlib
import fcntl
import io
import math
import secrets
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab import host_setup, images, outer, paths, recipe, template, xen_machine
from lab.errors import LabError
from lab.say import say
from lab.wire import Connection, Frame, WireError

TIMED_OUT = 124
BROKEN = 125
# What a command in the lab exits with when its guest stands still, or has gone.
LOST = 75
# What says nothing about the command: emulated machines are lost now and then (README).
LOST_STATUSES = frozenset((LOST, TIMED_OUT, BROKEN))
TEST_SILENCE = 500
"""Seconds: each test says that it begins, and has less than that before it fails."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run.

    Attributes:
        argv: a command, or pytest's arguments.
        pytest: whether it is the latter.
        guest: whether it needs the guest.
        xen: whether it is for the machine that runs Xen, in its dom0.
        host: the Debian release that plays the host.
        timeout: seconds until the machine is stopped; those in which it could run.
        silence: the same, if nothing is heard of it.
        out: where to put the files that the command leaves in ``$WLPROXY_OUT``.
        template: whether to restore a frozen machine rather than boot one.
        env: further variables for the command.
        files: files by path that go along with the tree, such as what was built.
    """

    argv: list[str]
    pytest: bool = False
    guest: bool = False
    xen: bool = False
    host: str = recipe.HOST_IMAGE.suite
    timeout: float = 600
    silence: float = math.inf
    out: Path | None = None
    template: bool = True
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Hold the lab's lock: one VM at a time, since each wants all the cores."""
    with (paths.cache() / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another lab to finish ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(job: Job) -> int:
    """Run a job in a VM and return its exit status.

    Raises:
        LabError: there was no machine to run it in.
    """
    with exclusive(), tempfile.TemporaryDirectory(prefix="wlproxy-lab-") as name:
        host_setup.setup()
        machine = _prepare(job)
        tree = pack_tree(paths.REPOSITORY, job.files)
        frozen = None
        # Frozen machines with Xen in them have not been tried.
        if job.template and not job.xen:
            frozen = template.ensure(machine, lambda vm: _check(vm, tree))
        began = time.monotonic()
        vm, connection = _bring_up(machine, frozen, Path(name))
        with vm, contextlib.closing(connection):
            up = time.monotonic()
            status = converse(vm, connection, job, tree)
            ended = time.monotonic()
        say(f"machine {up - began:.1f} s, command {ended - up:.1f} s, status {status}")
        return status


def _prepare(job: Job) -> outer.Outer:
    """Put the job's machine together, its images built if need be."""
    if job.xen:
        images.build([recipe.XEN_IMAGE], [])
        return xen_machine.prepare()
    host = recipe.HOSTS[job.host]
    images.build([host])
    return outer.prepare(host, with_guest=job.guest)


def _bring_up(
    machine: outer.Outer, frozen: Path | None, directory: Path
) -> tuple[outer.Vm, Connection]:
    """Restore a machine, or boot it; a boot that fails is tried once more.

    Emulated machines sometimes hang on their way up, through no fault of theirs.
    """
    for attempt in (1, 2):
        vm = None
        try:
            if frozen is not None and attempt == 1:
                vm = template.restore(machine, frozen, directory)
                return vm, vm.connect("the restored machine", template.RESTORE_TIMEOUT)
            vm = outer.cold_boot(machine, directory)
            return vm, vm.connect(f"{machine.name}, booting")
        except BaseException as error:
            if vm is not None:
                vm.kill()
            if attempt == 2 or not isinstance(error, LabError):
                raise
            say(f"the machine did not come up, booting once more: {error}")
    raise AssertionError("unreachable")


CHECK = """\
import os, socket
for name in ("wl-pixman", "wl-gl"):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["XDG_RUNTIME_DIR"] + "/" + name)
if os.environ["WLPROXY_LAB_GUEST"]:
    from lab.guest import Guest
    with Guest() as guest:
        assert guest.run(["true"]).ok
"""


def _check(vm: outer.Vm, tree: bytes) -> None:
    connection = vm.connect("the restored machine", template.RESTORE_TIMEOUT)
    with contextlib.closing(connection):
        job = Job(["python3", "-c", CHECK], timeout=60)
        if converse(vm, connection, job, tree) != 0:
            raise LabError("the restored machine does not work")


def converse(vm: outer.Vm, connection: Connection, job: Job, tree: bytes) -> int:
    """Hand a job to the zygote and follow it to its end."""
    head = {
        "op": "job",
        "pytest" if job.pytest else "argv": job.argv,
        "env": job.env,
        "time": time.time(),
        "seed": secrets.token_hex(64),
    }
    connection.send(Frame(head, tree))
    heard = vm.clock()
    deadline = heard + job.timeout
    try:
        while (left := min(deadline, heard + job.silence) - vm.clock()) > 0:
            # If it comes too late, the machine may have had to wait for a core.
            with contextlib.suppress(TimeoutError):
                frame = connection.receive(left)
                heard = vm.clock()
                status = _handle(frame, job)
                if status is not None:
                    return status
    except WireError as error:
        say(f"the VM broke down: {error}\n{vm.tails()}")
        return BROKEN
    silent = vm.clock() - heard
    say(f"TIMEOUT: it has {job.timeout:.0f} s, and was silent for {silent:.0f} s")
    _diagnose(vm, connection, job)
    return TIMED_OUT


def _handle(frame: Frame, job: Job) -> int | None:
    match frame.head.get("op"):
        case "output":
            stream = sys.stdout if frame.head["fd"] == 1 else sys.stderr
            stream.buffer.write(frame.blob)
            stream.buffer.flush()
        case "files" if job.out is not None:
            job.out.mkdir(parents=True, exist_ok=True)
            with tarfile.open(fileobj=io.BytesIO(frame.blob)) as tar:
                tar.extractall(job.out, filter="data")
        case "failed":
            say(f"the job could not be run:\n{frame.head['why']}")
            return BROKEN
        case "exit":
            return int(frame.head["status"])
        case _:
            # A late greeting, or files that nobody asked for.
            pass
    return None


def _diagnose(vm: outer.Vm, connection: Connection, job: Job) -> None:
    """Ask the machine what it is doing; show its console if it does not say."""
    try:
        connection.send(Frame({"op": "diag"}))
        deadline = time.monotonic() + 20
        while True:
            frame = connection.receive(max(0.0, deadline - time.monotonic()))
            if frame.head.get("op") == "diag":
                sys.stderr.write(frame.blob.decode(errors="replace"))
                return
            _handle(frame, job)
    except (TimeoutError, WireError, OSError) as error:
        say(f"it does not answer any more ({error!r})\n{vm.tails()}")


def pack_tree(repository: Path, files: Mapping[str, bytes] | None = None) -> bytes:
    """Pack the working tree: tracked files and new ones, but nothing ignored.

    Args:
        repository: the checkout.
        files: further files by path, whatever git thinks of them.

    Raises:
        LabError: git does not know the directory.
    """
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=False,
    )
    if listing.returncode != 0:
        raise LabError(f"git ls-files: {listing.stderr.decode(errors='replace')}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in sorted(set(listing.stdout.decode().split("\0"))):
            # A tracked file may be gone from the working tree; others write in it too.
            with contextlib.suppress(FileNotFoundError):
                if name:
                    tar.add(repository / name, name, recursive=False)
        for name, data in (files or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
