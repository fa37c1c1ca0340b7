"""What is to be known of a domain: as it runs, or as it would be started."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wlproxy.host.libvirt.elements import DISK_ALIAS
from wlproxy.host.libvirt.markup import Element, MarkupError, parse
from wlproxy.host.libvirt.virsh import LibvirtError, Virsh
from wlproxy.protocol.channel.frames import PORT_NAME

_LABEL: Final = re.compile(r"\+?([0-9]+):\+?([0-9]+)")
"""A DAC label as libvirt prints it: numbers, each with a plus."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain.

    Attributes:
        name: libvirt's.
        virsh: the libvirt that has it.
        root: its XML, of the running one if it runs.
        running: whether it runs.
        owner: user and group that its QEMU has, or will have.
        confinement: names of security modules that confine it: apparmor, selinux.
    """

    name: str
    virsh: Virsh
    root: Element
    running: bool
    owner: tuple[int, int]
    confinement: tuple[str, ...] = ()

    @property
    def channel(self) -> Element | None:
        """The device of our channel."""
        for each in self.root.all("devices/channel"):
            if each.get("target", "name") == PORT_NAME:
                return each
        return None

    @property
    def taps(self) -> list[Path]:
        """Where the disks are that may be taps; ours first."""
        disks = sorted(
            vhost_user_disks(self.root),
            key=lambda disk: disk.get("alias", "name") != DISK_ALIAS,
        )
        return [Path(disk.get("source", "path")) for disk in disks]

    @property
    def has_own_tap(self) -> bool:
        """Whether one of these disks is known to be ours."""
        return any(
            disk.get("alias", "name") == DISK_ALIAS
            for disk in vhost_user_disks(self.root)
        )

    @property
    def is_shared(self) -> bool:
        """Whether its RAM is a memfd that it shares."""
        cells = list(self.root.all("cpu/numa/cell"))
        return (
            self.root.get("memoryBacking/source", "type") == "memfd"
            and self.root.get("memoryBacking/access", "mode") == "shared"
            and all(
                each.attributes.get("memAccess", "shared") == "shared" for each in cells
            )
        )

    @property
    def is_in_pieces(self) -> bool:
        """Whether its RAM is more than one file: NUMA nodes, or DIMMs."""
        cells = len(list(self.root.all("cpu/numa/cell")))
        return cells > 1 or self.root.first("devices/memory") is not None

    @property
    def own_label(self) -> tuple[int, int] | None:
        """User and group that the domain itself asks for; None: none."""
        for each in self.root.all("seclabel"):
            is_static = each.attributes.get("type") == "static"
            if is_static and each.attributes.get("model") == "dac":
                return _label(each.first("label"))
        return None


def vhost_user_disks(root: Element) -> list[Element]:
    """List the disks of a domain that are served by another process."""
    disks = root.all("devices/disk")
    return [each for each in disks if each.attributes.get("type") == "vhostuser"]


def read_domain(virsh: Virsh, name: str) -> Domain:
    """Ask libvirt about a domain.

    Raises:
        LibvirtError: it cannot be asked, or answers with what is no domain.
    """
    root = parse_domain(virsh.ask("dumpxml", "--domain", name))
    running = virsh.ask("domstate", "--domain", name).strip() not in (
        "shut off",
        "crashed",
    )
    host = parse_domain(virsh.ask("capabilities"))
    models = {
        each.text.strip()
        for each in host.all("host/secmodel/model")
        if each.text.strip() not in ("none", "dac")
    }
    return Domain(name, virsh, root, running, _owner(root, host), tuple(sorted(models)))


def parse_domain(text: str) -> Element:
    """Parse what libvirt says.

    Raises:
        LibvirtError: it is no XML.
    """
    try:
        return parse(text.encode())
    except MarkupError as exc:
        raise LibvirtError(f"libvirt's XML cannot be read: {exc}") from exc


def _owner(root: Element, host: Element) -> tuple[int, int]:
    """Say which user and group QEMU has, or will have."""
    for each in root.all("seclabel"):
        if each.attributes.get("model") == "dac":
            label = _label(each.first("label"))
            if label is not None:
                return label
    for each in host.all("host/secmodel"):
        model = each.first("model")
        if model is not None and model.text.strip() == "dac":
            label = _label(each.first("baselabel"))
            if label is not None:
                return label
    return os.geteuid(), os.getegid()  # a session's


def _label(element: Element | None) -> tuple[int, int] | None:
    found = _LABEL.fullmatch(element.text.strip()) if element is not None else None
    return (int(found[1]), int(found[2])) if found else None
