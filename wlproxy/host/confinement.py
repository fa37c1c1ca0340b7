"""What a proxy keeps of its user's rights when it confines itself, and who cannot.

It does before its first thread runs, so by paths: sockets that it makes, and removes, the policy that it reads
again, and modules that it imports when they are needed.  Sockets that have a path can be connected to as
before, all of them: Landlock does not judge that yet.
"""

import os
import site
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import wlproxy
from wlproxy.host.channel_address import Listen
from wlproxy.host.config import GNTDEV, HostConfig
from wlproxy.host.desktop.address import compositor_path
from wlproxy.host.desktop.session_bus import BusError, bus_socket
from wlproxy.host.desktop.udmabuf_device import DEFAULT_DEVICE, SYS_MODULES
from wlproxy.host.errors import HostError
from wlproxy.host.landlock import (
    Access,
    Rule,
    abi,
    confine_thread,
    described,
    no_new_privileges,
)
from wlproxy.host.report.vm_log import VmLog

READ: Final = Access.READ_FILE | Access.READ_DIR
USE: Final = Access.READ_FILE | Access.WRITE_FILE | Access.IOCTL_DEV
"""For a device."""
SOCKETS: Final = Access.MAKE_SOCK | Access.REMOVE_FILE
CONTEXTS: Final = SOCKETS | Access.READ_DIR | Access.MAKE_DIR | Access.REMOVE_DIR
"""For directories with a socket in each (`desktop.security_context`), made and swept up."""
KEPT: Final = READ | SOCKETS | Access.WRITE_FILE | Access.TRUNCATE | Access.MAKE_REG
"""For sockets and lock files of ours."""

SYSTEM: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
"""Libraries and modules of the system's, and the time zone of the log."""
GROUPS: Final = ("/etc/nsswitch.conf", "/etc/group")

TASKS: Final = Path("/proc/self/task")
"""This process's threads (proc(5))."""


def confine(
    config: HostConfig,
    log: VmLog,
    environ: Mapping[str, str] = os.environ,
    device: Path = DEFAULT_DEVICE,
) -> str:
    """Take from this process what a proxy has no use for, as far as the kernel can.

    Args:
        config: of the proxy that it is about to be.
        log: told what came of it.
        environ: tells where sockets are.
        device: udmabuf's.

    Returns:
        What came of it, for the status.

    Raises:
        HostError: the environment does not tell where the compositor is.
    """
    why = _why_not(config, device)
    if config.confine:
        with suppress(OSError):
            no_new_privileges()
    if not why:
        allowed = list(rules(config, environ, device))
        try:
            confine_thread(allowed, abstract_sockets=_needs_abstract_sockets(environ))
        except OSError as exc:
            why = f"the kernel does not do it: {exc.strerror}"
    result = f"no: {why}"
    if not why:
        result = f"to its own files, and no programs ({described(abi())})"
    log.info("confined: %s", result)
    return result


def rules(
    config: HostConfig, environ: Mapping[str, str], device: Path = DEFAULT_DEVICE
) -> Iterator[Rule]:
    """Say what stays allowed.  Arguments as `confine`'s.

    Raises:
        HostError: the environment does not tell where the compositor is.
    """
    places = (sys.prefix, sys.base_prefix, *site.getsitepackages())
    for each in (*SYSTEM, *places, site.getusersitepackages(), *wlproxy.__path__):
        yield Rule(Path(each), READ)
    yield Rule(Path("/proc"), READ)
    yield Rule(SYS_MODULES, READ)
    yield Rule(device, USE)
    if (path := config.policy_source.path) is not None:
        # An editor may put another file into its place.
        yield Rule(path.parent, READ)
        yield Rule(path.resolve().parent, READ)
    if config.security_context:
        yield Rule(compositor_path(environ, config.display).parent, CONTEXTS)
    if config.status is not None:
        with HostError.explaining(
            "cannot make the directory for sockets",
            tried=f"mkdir {config.status.parent}",
        ):
            config.status.parent.mkdir(mode=0o700, exist_ok=True)
        yield Rule(config.status.parent, KEPT)
    if isinstance(config.channel, Listen):
        yield Rule(config.channel.path.parent, SOCKETS)
        if config.channel.group is not None:
            yield from (Rule(Path(each), Access.READ_FILE) for each in GROUPS)


def _why_not(config: HostConfig, device: Path) -> str:
    """Say why this proxy cannot be confined; empty: it can."""
    if not config.confine:
        return "--no-confine"
    # Whether it is one is seen only when its channel is there.
    if GNTDEV.exists() or config.xen_domid is not None:
        return "it may be for a domain of Xen's"
    if config.ram_tap is None:
        return (
            "the guest's RAM is found in QEMU's process, which is forbidden then; `wlproxy "
            "ram-tap`, started before, tells of it instead"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} cannot be used yet, and is waited for"
    if len(list(TASKS.iterdir())) > 1:
        return "it has threads already, which would not be"
    return "" if abi() else "this kernel has no Landlock, or has it switched off"


def _needs_abstract_sockets(environ: Mapping[str, str]) -> bool:
    """Whether the session bus or the service manager listens in the abstract namespace."""
    with suppress(BusError):
        if bus_socket(environ).startswith("\0"):
            return True
    return environ.get("NOTIFY_SOCKET", "").startswith("@")
