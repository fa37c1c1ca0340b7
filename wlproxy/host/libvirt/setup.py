"""Changes a domain's XML so that wlproxy works with it, and leaves all else as it was."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wlproxy.host.channel_address import Listen
from wlproxy.host.errors import HostError
from wlproxy.host.libvirt.domain import vhost_user_disks
from wlproxy.host.libvirt.elements import (
    DISK_ALIAS,
    MEMORY,
    MEMORY_ACCESS,
    MEMORY_SOURCE,
    channel_xml,
    disk_xml,
    source_xml,
)
from wlproxy.host.libvirt.markup import Editor, Element, parse
from wlproxy.protocol.channel.frames import PORT_NAME

DISK_NAMES: Final = tuple(f"vd{letter}" for letter in "zyxwvutsrqponmlkjihgfedcba")
"""For the tap's disk.  The last first: libvirt boots from the first disk that there is."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a domain is to have.

    Attributes:
        channel: where its channel is to be.
        ram_tap: where its tap listens; None: no tap.
    """

    channel: Path | Listen
    ram_tap: Path | None


def adapt(text: str, wanted: Wanted) -> str:
    """Change a domain; one that has all is returned as it is.

    Args:
        text: the XML of a domain that does not run.
        wanted: what it is to have.

    Raises:
        HostError: it has what does not go with this.
        ValueError: a path cannot be had, or it is no XML.
    """
    root, editor = parse(text.encode()), Editor(text.encode())
    devices = root.first("devices")
    if root.tag != "domain" or devices is None or not devices.children:
        raise HostError("libvirt's XML is no domain's")
    _share_memory(root, editor)
    _have_channel(devices, wanted.channel, editor)
    if wanted.ram_tap is not None:
        _have_disk(root, devices, wanted.ram_tap, editor)
    return editor.result().decode()


def _share_memory(root: Element, editor: Editor) -> None:
    backing = root.first("memoryBacking")
    if backing is None:
        places = ("currentMemory", "memory", "maxMemory")
        after = next(filter(None, map(root.first, places)), None)
        editor.append(root, MEMORY, after)
    elif not backing.children:
        editor.replace(backing, MEMORY.rstrip().replace("\n", "\n  "))
    else:
        if backing.first("hugepages") is not None:
            raise HostError(
                "the domain has huge pages, of which no dma-bufs are made",
                remedy="Take <hugepages/> out of its <memoryBacking> (`virsh edit`).",
            )
        _have_child(backing, "source", "type", "memfd", MEMORY_SOURCE, editor)
        _have_child(backing, "access", "mode", "shared", MEMORY_ACCESS, editor)
    for cell in root.all("cpu/numa/cell"):
        if cell.attributes.get("memAccess", "shared") != "shared":
            editor.set(cell, "memAccess", "shared")


def _have_child(
    parent: Element,
    tag: str,
    attribute: str,
    value: str,
    xml: str,
    editor: Editor,
) -> None:
    """Have a child with an attribute of this value, as `xml` has it."""
    child = parent.first(tag)
    if child is None:
        editor.append(parent, xml, None)
    elif child.attributes.get(attribute) != value:
        editor.replace(child, xml)


def _have_channel(devices: Element, address: Path | Listen, editor: Editor) -> None:
    channels = list(devices.all("channel"))
    ours = [each for each in channels if each.get("target", "name") == PORT_NAME]
    if not ours:
        last = channels[-1] if channels else None
        editor.append(devices, channel_xml(address), last)
        return
    (channel, *_) = ours
    if channel.attributes.get("type") != "unix":
        raise HostError(
            f"the domain has a channel {PORT_NAME} that is no Unix socket",
            remedy="Take it out (`virsh edit`).",
        )
    source = channel.first("source")
    wanted = source_xml(address).rstrip()
    if source is None:
        editor.append(channel, wanted, None)
    elif not _says(source, parse(wanted.encode())):
        editor.replace(source, wanted.replace("\n", "\n      "))


def _says(element: Element, wanted: Element) -> bool:
    """Tell whether an element says all that a wanted one does; it may say more."""
    if element.tag != wanted.tag or not (
        wanted.attributes.items() <= element.attributes.items()
    ):
        return False
    return all(
        any(_says(child, each) for child in element.children)
        for each in wanted.children
    )


def _have_disk(root: Element, devices: Element, tap: Path, editor: Editor) -> None:
    for disk in vhost_user_disks(root):
        if disk.get("source", "path") == str(tap):
            return
        if disk.get("alias", "name") == DISK_ALIAS:  # it was elsewhere
            xml = disk_xml(tap, disk.get("target", "dev"))
            editor.replace(disk, xml.rstrip().replace("\n", "\n    "))
            return
    disks = list(devices.all("disk"))
    taken = {each.get("target", "dev") for each in disks}
    target = next(each for each in DISK_NAMES if each not in taken)
    editor.append(devices, disk_xml(tap, target), disks[-1] if disks else None)
