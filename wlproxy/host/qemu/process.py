"""What /proc tells about a QEMU process: its memfds, its mappings, its machine type.

The results are plain values; nothing stays open.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from wlproxy.host.errors import GuestRamLayoutError, GuestRamUnreadableError
from wlproxy.memory.guest_memory import (
    RamRegion,
    arm_virt_layout,
    i440fx_layout,
    microvm_layout,
    q35_layout,
)

MEMFD_LINK: Final = "/memfd:memory-backend-memfd"
"""How /proc shows the file of QEMU's memory-backend-memfd."""

PID_REMEDY: Final = (
    "If something else than QEMU made the socket (libvirt does), name QEMU's process:\n"
    '  --qemu-pid "$(cat /run/libvirt/qemu/NAME.pid)"'
)
QMP_REMEDY: Final = (
    "Let QEMU tell: add -qmp unix:PATH,server=on,wait=off to its command line and "
    "--qmp PATH to this one."
)

_SAME_USER_REMEDY: Final = (
    "Run QEMU and wlproxy as the same user and group, or have it tell where its RAM is "
    "(`wlproxy ram-tap`). libvirt: `wlproxy setup --libvirt NAME` sees to that; or use "
    "qemu:///session, or name both in /etc/libvirt/qemu.conf and restart libvirt's daemon:\n"
    '  user = "+{user}"\n'
    '  group = "+{group}"'
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/PID/maps: addresses, shared or private, and the file's inode."""

    start: int
    end: int
    shared: bool
    inode: int


@dataclass(frozen=True, slots=True)
class BackendFile:
    """A memory-backend-memfd of QEMU.

    Attributes:
        link: where to open it, /proc/PID/fd/N.
        inode: its inode number.
        size: bytes.
        mappings: where QEMU has it mapped, by ascending address.
    """

    link: Path
    inode: int
    size: int
    mappings: tuple[Mapping, ...]

    @property
    def shared(self) -> bool:
        """Whether the guest's writes reach the file."""
        return any(mapping.shared for mapping in self.mappings)


@dataclass(frozen=True, slots=True)
class Machine:
    """What QEMU's command line tells about the machine.

    Attributes:
        program: the name that QEMU was started by, such as `qemu-system-x86_64`.
        kind: the machine type as it was asked for; "" for the default.
        below_4g: value of `max-ram-below-4g`, or "".
    """

    program: str
    kind: str
    below_4g: str


def backend_files(pid: int) -> list[BackendFile]:
    """List the memory-backend-memfds of a process, as its fds are numbered.

    Raises:
        GuestRamUnreadableError: there is no such process, or not for this user.
    """
    process = Path("/proc", str(pid))
    found: dict[int, BackendFile] = {}
    try:
        mappings = _mappings((process / "maps").read_text(encoding="utf-8"))
        for entry in sorted(
            (process / "fd").iterdir(), key=lambda path: int(path.name)
        ):
            try:
                if not os.readlink(entry).startswith(MEMFD_LINK):
                    continue
                status = entry.stat()
            except FileNotFoundError:  # closed meanwhile
                continue
            own = tuple(each for each in mappings if each.inode == status.st_ino)
            # One file may be open more than once: vhost-user passes it about.
            found.setdefault(
                status.st_ino, BackendFile(entry, status.st_ino, status.st_size, own)
            )
    except OSError as exc:
        raise unreadable(pid, exc) from exc
    return list(found.values())


def machine_of(pid: int) -> Machine:
    """Read the machine type off the command line of a process.

    Raises:
        GuestRamUnreadableError: there is no such process, or not for this user.
    """
    try:
        raw = Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError as exc:
        raise unreadable(pid, exc) from exc
    return parse_machine(raw.decode(errors="replace").rstrip("\0").split("\0"))


def is_vmm(pid: int) -> bool:
    """Whether a process is QEMU, by the name that it was started by."""
    try:
        program = machine_of(pid).program
    except GuestRamUnreadableError:
        return False
    return "qemu" in program or "kvm" in program


def parse_machine(arguments: Sequence[str]) -> Machine:
    """Read the machine type off a command line; the last `-machine` that has one wins."""
    kind = below_4g = ""
    for option, value in pairwise(arguments[1:]):
        if option not in ("-machine", "--machine", "-M", "--M"):
            continue
        first, *rest = value.replace(",,", "\0").split(",")
        properties = [first if "=" in first else f"type={first}", *rest]
        for each in properties:
            name, _, setting = each.partition("=")
            if name == "type":
                kind = setting
            elif name == "max-ram-below-4g":
                below_4g = setting
    return Machine(Path(arguments[0]).name if arguments else "", kind, below_4g)


def machine_layout(machine: Machine, ram_bytes: int) -> tuple[RamRegion, ...]:
    """Lay out a single RAM file as this machine does.

    Raises:
        GuestRamLayoutError: machines of this type are not known here.
    """
    layout = _layout_rule(machine)
    if layout is None or machine.below_4g:
        kind = machine.kind or "the default machine"
        if machine.below_4g:
            kind += f" with max-ram-below-4g={machine.below_4g}"
        raise GuestRamLayoutError(
            f"where {machine.program or 'QEMU'} puts the RAM of {kind} is not known",
            remedy=QMP_REMEDY,
        )
    return layout(ram_bytes)


def unreadable(pid: int, cause: OSError) -> GuestRamUnreadableError:
    """Say why a process cannot be examined, and what to do."""
    if isinstance(cause, FileNotFoundError | ProcessLookupError):
        return GuestRamUnreadableError(
            f"there is no process {pid}", errno=cause.errno or 0, tried=_tried(cause)
        )
    ids = _ids(pid)
    user, group = os.geteuid(), os.getegid()
    if ids is not None and ids != ((user,), (group,)):
        users, groups = (" and ".join(map(str, each)) for each in ids)
        why = (
            f"it runs as user {users}, group {groups}, and wlproxy as user {user}, "
            f"group {group}"
        )
        remedy = _SAME_USER_REMEDY.format(user=user, group=group)
    else:
        why = "the kernel keeps it from all but root"
        remedy = (
            "QEMU must not change its user (-runas, -run-with user=) nor have "
            "capabilities of its own, and no security module may stand between (such as "
            "AppArmor)."
        )
    return GuestRamUnreadableError(
        f"QEMU's process {pid} may not be looked into, so its RAM cannot be found: {why}",
        errno=cause.errno or 0,
        tried=_tried(cause),
        remedy=remedy,
    )


def _ids(pid: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Read a process's user and group ids, each once; None if it has gone.

    Real, effective and saved ones: each must be ours for the kernel to let us look
    (ptrace(2), PTRACE_MODE_READ_FSCREDS), the group's as well.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = {}
    for line in text.splitlines():
        name, _, values = line.partition(":")
        if name in ("Uid", "Gid"):
            found[name] = tuple(dict.fromkeys(map(int, values.split()[:3])))
    return found["Uid"], found["Gid"]


def _tried(cause: OSError) -> str:
    return f"open {cause.filename}" if cause.filename else "/proc"


def _layout_rule(machine: Machine) -> Callable[[int], tuple[RamRegion, ...]] | None:
    kind = machine.kind
    if machine.program.endswith(("-aarch64", "-arm")):
        is_virt = kind == "virt" or kind.startswith("virt-")
        return arm_virt_layout if is_virt else None
    if kind == "q35" or kind.startswith("pc-q35"):
        return q35_layout
    if kind in ("", "pc") or kind.startswith("pc-i440fx"):
        return i440fx_layout
    return microvm_layout if kind == "microvm" else None


def _mappings(text: str) -> list[Mapping]:
    """Parse /proc/PID/maps: `start-end perms offset device inode [path]`."""
    result = []
    for line in text.splitlines():
        addresses, permissions, _, _, inode, *_ = line.split(maxsplit=5)
        start, _, end = addresses.partition("-")
        result.append(
            Mapping(int(start, 16), int(end, 16), permissions[3] == "s", int(inode))
        )
    return result
