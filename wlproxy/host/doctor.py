"""Checks whether a host has everything that the proxy needs, and says how to get the rest.

The findings are values, which the command line prints.  Nothing is changed.  A VM is looked at by
`vm_doctor`.
"""

import platform
from collections.abc import Iterator, Mapping
from ctypes.util import find_library
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from wlproxy.host import landlock
from wlproxy.host.config import GNTDEV
from wlproxy.host.desktop.address import compositor_path
from wlproxy.host.desktop.probe import TRIED_FORMATS, probe_compositor
from wlproxy.host.desktop.udmabuf_device import (
    DEFAULT_DEVICE,
    UdmabufDevice,
    UdmabufLimits,
    limit_remedy,
)
from wlproxy.host.errors import HostError, UdmabufMissingError
from wlproxy.host.xen.gntdev import open_device
from wlproxy.relay.capabilities import CompositorCapabilities

SCATTERED_4K_ITEMS: Final = 8101
"""Pages of a 3840x2160 frame of 4 bytes a pixel, and one as it seldom starts at the
start of a page: so many items if no two are neighbours."""
LARGEST_FRAME: Final = 7680 * 4320 * 4 + 4096
"""An 8K frame, likewise."""
HYPERVISOR_TYPE: Final = Path("/sys/hypervisor/type")
OLDEST_KERNEL: Final = (4, 20)
"""The first with udmabuf.  The guest's kernel is the agent's business."""


class Verdict(Enum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not everything, or not as well as it could."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        subject: what was checked, a few words.
        verdict: how it came out.
        explanation: what was found.
        remedy: what to do; empty if there is nothing.
    """

    subject: str
    verdict: Verdict
    explanation: str
    remedy: str = ""


def examine(
    environ: Mapping[str, str],
    display: str | None = None,
    device_path: Path = DEFAULT_DEVICE,
) -> list[Finding]:
    """Run every check.  Blocks for a second or so; raises nothing of its own.

    Args:
        environ: WAYLAND_DISPLAY and XDG_RUNTIME_DIR are read from it.
        display: overrides WAYLAND_DISPLAY.
        device_path: the udmabuf device.
    """
    findings = [
        check_kernel(platform.release()),
        check_landlock(landlock.abi()),
        *check_xen(),
    ]
    try:
        device = UdmabufDevice(device_path)
    except HostError as exc:
        kind = "missing" if isinstance(exc, UdmabufMissingError) else "not usable"
        findings.append(problem(f"udmabuf ({kind})", exc))
        return findings + _check_compositor(environ, display, None)
    with device:
        findings.append(Finding("udmabuf", Verdict.OK, f"{device_path} can be used"))
        findings += check_limits(device.limits())
        return findings + _check_compositor(environ, display, device)


def check_kernel(release: str) -> Finding:
    """Judge the kernel's version."""
    subject = "kernel"
    numbers = release.split("-", maxsplit=1)[0].split(".")
    if not all(number.isdigit() for number in numbers[:2]) or len(numbers) < 2:
        return Finding(subject, Verdict.WARNING, f"{release} has no version number")
    if (int(numbers[0]), int(numbers[1])) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        return Finding(
            subject,
            Verdict.PROBLEM,
            f"{release} is older than {oldest}",
            f"Install a kernel of {oldest} or newer.",
        )
    return Finding(subject, Verdict.OK, release)


def check_landlock(version: int) -> Finding:
    """Judge whether a proxy can take from itself what it has no use for (`confinement`).

    Args:
        version: of Landlock's ABI; 0: there is none.
    """
    subject = "Landlock"
    if version:
        return Finding(
            subject,
            Verdict.OK,
            f"{landlock.described(version)}: a proxy confines itself, where `wlproxy "
            "ram-tap` tells of the RAM",
        )
    return Finding(
        subject,
        Verdict.WARNING,
        "this kernel has none, or has it switched off: a proxy that is started by hand keeps "
        "all of its user's rights",
        "Start it by its unit, which has a sandbox of its own; or boot Linux 5.13 or newer with "
        "landlock in CONFIG_LSM, or on its command line (lsm=landlock,...).",
    )


def check_xen(kind: Path = HYPERVISOR_TYPE, device: Path = GNTDEV) -> Iterator[Finding]:
    """Judge whether grants of other domains can be mapped, if this is a domain of Xen's.

    Args:
        kind: which hypervisor this runs on.
        device: of Xen's grants.
    """
    try:
        if kind.read_text(encoding="ascii").strip() != "xen":
            return
    except (OSError, ValueError):
        return
    subject = "Xen's gntdev"
    try:
        open_device(device).close()
    except HostError as exc:
        yield Finding(subject, Verdict.WARNING, exc.explanation, exc.remedy)
    else:
        yield Finding(
            subject, Verdict.OK, f"{device} can be opened: guests' grants, too"
        )
    if library := find_library("xenvchan"):
        yield Finding("Xen's vchan", Verdict.OK, f"{library}, for `wlproxy xen-vchan`")


def check_limits(limits: UdmabufLimits) -> Iterator[Finding]:
    """Judge the driver's limits by the largest frames in use."""
    remedy = limit_remedy(limits, SCATTERED_4K_ITEMS, LARGEST_FRAME)
    too_few = too_small = ""
    if limits.list_limit < SCATTERED_4K_ITEMS:
        too_few = (
            f"; a 4K frame in scattered pages has {SCATTERED_4K_ITEMS}, and would be "
            "copied"
        )
    if limits.size_limit < LARGEST_FRAME:
        too_small = f"; an 8K frame has {LARGEST_FRAME >> 20}, and would be copied"
    for name, found, lack in (
        ("list_limit", f"{limits.list_limit} items per buffer", too_few),
        ("size_limit_mb", f"{limits.size_limit >> 20} MiB per buffer", too_small),
    ):
        verdict = Verdict.WARNING if lack else Verdict.OK
        advice = remedy if lack else ""
        yield Finding(f"udmabuf {name}", verdict, found + lack, advice)


def check_capabilities(found: CompositorCapabilities) -> Iterator[Finding]:
    """Judge what the probe found."""
    subject = "mode A (wl_shm over udmabuf)"
    if found.shm_udmabuf:
        yield Finding(subject, Verdict.OK, "the compositor reads the guest's own pages")
    else:
        yield Finding(subject, Verdict.WARNING, found.shm_udmabuf_reason)
    subject = "mode B (linux-dmabuf)"
    alignments = found.dmabuf_stride_alignment
    if alignments:
        coarsest = max(alignments.values())
        yield Finding(
            subject,
            Verdict.OK,
            f"{len(alignments)} of {len(TRIED_FORMATS)} formats, with strides of a "
            f"multiple of {coarsest} bytes",
        )
    elif found.shm_udmabuf:
        yield Finding(
            subject, Verdict.OK, f"not to be had, nor needed: {found.dmabuf_reason}"
        )
    else:
        yield Finding(subject, Verdict.WARNING, found.dmabuf_reason)
    subject = "zero-copy"
    if found.shm_udmabuf or alignments:
        yield Finding(subject, Verdict.OK, "windows are shown without copying a pixel")
    else:
        yield Finding(
            subject,
            Verdict.PROBLEM,
            "every damaged rectangle would be copied once (mode C)",
            "See the findings above.",
        )
    subject = "security context"
    isolates = "the compositor can tell the guest's clients apart"
    if "wp_security_context_manager_v1" not in found.global_versions:
        isolates = (
            "the compositor has no wp_security_context_v1; wlproxy's own policy applies"
        )
    yield Finding(subject, Verdict.OK, isolates)


def _check_compositor(
    environ: Mapping[str, str], display: str | None, device: UdmabufDevice | None
) -> list[Finding]:
    subject = "compositor"
    try:
        path = compositor_path(environ, display)
        found = probe_compositor(path, device)
    except HostError as exc:
        return [problem(subject, exc)]
    reached = Finding(
        subject, Verdict.OK, f"{path}, {len(found.global_versions)} interfaces"
    )
    return [reached, *check_capabilities(found)]


def problem(subject: str, error: HostError) -> Finding:
    """Make a finding of an error."""
    return Finding(subject, Verdict.PROBLEM, error.explanation, error.remedy)
