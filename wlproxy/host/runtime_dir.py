"""Where the sockets of a VM are, in the user's runtime directory, by its name; and listens there."""

import errno
import grp
import os
import re
import socket
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from wlproxy.host.accounts import gid_of
from wlproxy.host.errors import HostError
from wlproxy.transport.closable import closed_on_error

BACKLOG: Final = 8

OVERFLOW_UID: Final = 65534
"""Who owns, in a user namespace, what is root's outside (user_namespaces(7))."""
ALL_UIDS: Final = re.compile(r"\s*0\s+0\s+4294967295\s*")
"""/proc/self/uid_map outside of any."""

ACCESS_LIST: Final = "system.posix_acl_access"
_ACL_VERSION: Final = 2
_ACL_USER_OBJ, _ACL_GROUP_OBJ, _ACL_GROUP, _ACL_MASK, _ACL_OTHER = 1, 4, 8, 16, 32
_ACL_NO_ID: Final = 0xFFFFFFFF

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
"""Names that a VM may have.  A dot would end the name in app ids, where an app of VM `a` could
pass for one of VM `a.b`."""


def check_name(name: str) -> str:
    """Return the name of a VM if it can name a socket, and its windows.

    Raises:
        HostError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise HostError(
            f"{name!r} cannot name a VM",
            remedy="Use letters, digits, '_' and '-', 64 at most.",
        )
    return name


def vm_name(domain: str) -> str:
    """Make of the name of a domain of libvirt's one that a VM may have here."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", domain)[:64]
    return name if re.match(r"[A-Za-z0-9_]", name) else f"_{name[:63]}"


def status_directory(environ: Mapping[str, str]) -> Path:
    """Say where the status sockets of this user's proxies are.

    Raises:
        HostError: XDG_RUNTIME_DIR is not set.
    """
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if not Path(runtime).is_absolute():
        raise HostError(
            "XDG_RUNTIME_DIR is not set (or not an absolute path)",
            remedy="Log in to a session of your own, or set it to a directory that is "
            "yours alone.",
        )
    return Path(runtime, "wlproxy")


def status_path(environ: Mapping[str, str], name: str) -> Path:
    """Say where the status socket of a VM's proxy is.

    Raises:
        HostError: XDG_RUNTIME_DIR is not set, or the name is impossible.
    """
    return status_directory(environ) / f"{check_name(name)}.sock"


def dump_path(status: Path) -> Path:
    """Say where the socket for dumps is, beside a status socket."""
    return status.with_suffix(".dump")


def screen_path(status: Path) -> Path:
    """Say where the socket for the status of `wlproxy screen` is, beside a status socket."""
    return status.with_suffix(".screen")


def policy_path(status: Path) -> Path:
    """Say where the socket for the policy is, beside a status socket."""
    return status.with_suffix(".policy")


def screen_policy_path(status: Path) -> Path:
    """Say where the socket for the policy of `wlproxy screen` is, beside a status socket."""
    return status.with_suffix(".screen-policy")


def launch_path(status: Path) -> Path:
    """Say where the socket for commands in the guest is, beside a status socket."""
    return status.with_suffix(".exec")


def channel_path(environ: Mapping[str, str], name: str) -> Path:
    """Say where QEMU makes the socket of a VM's channel, by default.

    Raises:
        HostError: XDG_RUNTIME_DIR is not set, or the name is impossible.
    """
    return status_directory(environ).parent / f"wlproxy-{check_name(name)}.channel"


def vmm_path(environ: Mapping[str, str], name: str) -> Path:
    """Say where the tap of a VM's RAM waits for the VMM, by default.

    Raises:
        HostError: XDG_RUNTIME_DIR is not set, or the name is impossible.
    """
    return status_directory(environ).parent / f"wlproxy-{check_name(name)}.ram"


def table_path(environ: Mapping[str, str], name: str) -> Path:
    """Say where the tap of a VM's RAM tells the proxy.

    Raises:
        HostError: XDG_RUNTIME_DIR is not set, or the name is impossible.
    """
    return status_directory(environ) / f"{check_name(name)}.ram"


def monitor_path(environ: Mapping[str, str], name: str) -> Path:
    """Say where QEMU makes a monitor's socket for `wlproxy screen`, by default.

    Raises:
        HostError: XDG_RUNTIME_DIR is not set, or the name is impossible.
    """
    return status_directory(environ).parent / f"wlproxy-{check_name(name)}.qmp"


def check_place(path: Path, group: str | None = None) -> None:
    """Make sure that nobody else can listen at a path, and that who is let in can get there.

    A sticky bit (/tmp) does not help: there, others cannot remove our socket, but bind its name
    before we do.  It does for the directories further up, whose entries are there already.

    Args:
        path: where a socket is to be.
        group: whose members are to be let in, too; None: none.

    Raises:
        HostError: it is not so.
    """
    remedy = (
        "Have a directory for it that only you can write to, as root:\n"
        f"  install -d -o {os.geteuid()} -m 0755 /var/lib/wlproxy-NAME"
    )
    ours = {0, os.geteuid()}
    if not ALL_UIDS.fullmatch(Path("/proc/self/uid_map").read_text()):
        ours.add(OVERFLOW_UID)
    # Links are looked at, too, and what they lead to.
    for place in (path.parent.absolute(), path.parent.resolve()):
        for each in (place, *place.parents):
            looking = HostError.explaining(
                "there is no place for the socket", tried=f"stat {each}", remedy=remedy
            )
            with looking:
                status = each.lstat()
            sticky = each != place and status.st_mode & stat.S_ISVTX
            loose = not sticky and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if stat.S_ISLNK(status.st_mode):
                loose = 0
            if loose or status.st_uid not in ours:
                raise HostError(
                    f"others can write to {each}, and could listen at {path} in our stead",
                    remedy="Have the socket in a directory that is yours alone to write "
                    "to, and in none that others can write to:\n"
                    f"  chmod go-w {each}",
                )
    directory = path.parent.resolve()
    for each in (directory, *directory.parents):
        if group is not None and not _may_enter(each, group):
            raise HostError(
                f"group {group} cannot enter {each}, so QEMU could not connect",
                remedy=remedy,
            )


def listen_at(
    path: Path, kind: socket.SocketKind, problem: str, busy: str
) -> socket.socket:
    """Listen at a path that is this user's alone; what a dead program left is replaced.

    Args:
        path: in a directory that is there.
        kind: of socket.
        problem: what is said if the socket cannot be made.
        busy: what is said if somebody listens there already.

    Raises:
        HostError: somebody listens there, or the socket cannot be made.
    """
    listener = socket.socket(socket.AF_UNIX, kind)
    making = HostError.explaining(problem, tried=f"bind {path}")
    with closed_on_error(listener), making:
        if is_alive(path, kind):
            raise HostError(
                busy,
                tried=f"connect {path}",
                remedy="Stop it, or give this one another name with --name.",
            )
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        listener.listen(BACKLOG)
    return listener


def let_in(path: Path, group: str) -> None:
    """Let the members of a group connect to a socket, too.

    Whoever is no member cannot give it to the group, and has it named in the socket's access
    control list instead (acl(5)), which its owner may.

    Args:
        path: of the socket.
        group: its name, or its number.

    Raises:
        HostError: there is no such group, or the file system has no such lists.
    """
    number = gid_of(group)
    try:
        try:
            os.chown(path, -1, number)
            path.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP)
        except PermissionError:
            os.setxattr(path, ACCESS_LIST, access_list(number))
    except OSError as exc:
        raise HostError(
            f"group {group} cannot be let in: {exc}",
            remedy="Be a member of the group, or name another one.",
        ) from exc


def access_list(gid: int) -> bytes:
    """Write the access control list of a socket to which its owner and a group may connect.

    As linux/posix_acl_xattr.h has it: a version, then tag, permissions and id of each entry.
    """
    read_write = 6
    entries = (
        (_ACL_USER_OBJ, read_write, _ACL_NO_ID),
        (_ACL_GROUP_OBJ, 0, _ACL_NO_ID),
        (_ACL_GROUP, read_write, gid),
        (_ACL_MASK, read_write, _ACL_NO_ID),
        (_ACL_OTHER, 0, _ACL_NO_ID),
    )
    return struct.pack("<I", _ACL_VERSION) + b"".join(
        struct.pack("<HHI", *entry) for entry in entries
    )


def _may_enter(directory: Path, group: str) -> bool:
    """Tell whether members of a group can enter a directory."""
    if ACCESS_LIST in os.listxattr(directory):
        return True  # somebody has thought about it
    status = directory.stat()
    if status.st_mode & stat.S_IXOTH:
        return True
    try:
        theirs = grp.getgrnam(group).gr_gid == status.st_gid
    except LookupError:
        return True  # `let_in` says so
    return theirs and bool(status.st_mode & stat.S_IXGRP)


def is_alive(path: Path, kind: socket.SocketKind) -> bool:
    """Tell whether somebody listens there, even without answering."""
    with socket.socket(socket.AF_UNIX, kind) as connection:
        connection.settimeout(0)
        try:
            connection.connect(str(path))
        except OSError as exc:
            return exc.errno in (errno.EAGAIN, errno.EACCES)
    return True
