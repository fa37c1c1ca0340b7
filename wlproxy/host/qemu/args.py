"""The options that give a QEMU guest shared RAM and a channel, as text.

Nothing is started or read here.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

from wlproxy.protocol.channel.frames import PORT_NAME

MAX_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path: sun_path less its final NUL."""

_MEMORY: Final = re.compile(r"([1-9][0-9]*) ?([KMGT]?)(i?B)?", re.IGNORECASE)
_SERIAL_DEVICES: Final = {
    "microvm": "virtio-serial-device",
    "s390-ccw-virtio": "virtio-serial-ccw",
}
"""The virtio-serial device of machine types that have no PCI bus."""
_SCREEN_DEVICES: Final = {
    "microvm": ("virtio-gpu-device", "virtio-tablet-device"),
    "s390-ccw-virtio": ("virtio-gpu-ccw", "virtio-tablet-ccw"),
}
"""The same of a screen, whose picture QEMU has in shared memory, and a pointer."""
_MACHINE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")


@dataclass(frozen=True, slots=True)
class QemuSetup:
    """The settings that a VM gets.

    Attributes:
        channel: the socket that QEMU makes for the channel.
        memory: size of the RAM, such as `4G`; MiB if there is no unit, as for `-m`.
        machine: QEMU's machine type.
        ram_tap: where `wlproxy ram-tap` listens for the VMM; None: there is none.
        screen: the monitor's socket, by which `wlproxy screen` gets at the display; None:
            that is not for it.
    """

    channel: Path
    memory: str = "4G"
    machine: str = "q35"
    ram_tap: Path | None = None
    screen: Path | None = None


def qemu_command_line(setup: QemuSetup) -> str:
    """Write the arguments for a shell, one option a line.

    Raises:
        ValueError: a field cannot be written into an option.
    """
    lines = [shlex.join(option) for option in _options(setup)]
    return " \\\n".join(lines) + "\n"


def libvirt_xml(setup: QemuSetup) -> str:
    """Write the elements to add to a libvirt domain.

    Raises:
        ValueError: the channel's path is not absolute, or too long; or there is to be a
            screen, whose monitor libvirt keeps for itself.
    """
    if setup.screen is not None:
        raise ValueError(
            "libvirt keeps QEMU's monitor for itself: --screen is not for it"
        )
    path = _checked_path(setup.channel)
    if not setup.channel.is_absolute():
        raise ValueError(f"libvirt wants an absolute path, not {path}")
    tap = ""
    if setup.ram_tap is not None:
        tap = f"""\
<disk type='vhostuser' device='disk'>
  <driver name='qemu' type='raw'/>
  <source type='unix' path={quoteattr(_checked_path(setup.ram_tap))}>
    <reconnect enabled='yes' timeout='1'/>
  </source>
  <target dev='vdz' bus='virtio'/>
</disk>
"""
    return f"""\
<!-- in <domain> -->
<memoryBacking>
  <source type='memfd'/>
  <access mode='shared'/>
</memoryBacking>
<!-- in <devices> -->
<channel type='unix'>
  <source mode='bind' path={quoteattr(path)}/>
  <target type='virtio' name='{PORT_NAME}'/>
</channel>
{tap}"""


def ram_options(memory: str = "4G", machine: str = "q35") -> str:
    """Write the two options that make RAM shared, for messages about RAM that is not."""
    return (
        f"-object memory-backend-memfd,id=wlproxy-ram,size={memory},share=on "
        f"-machine {machine},memory-backend=wlproxy-ram"
    )


def _options(setup: QemuSetup) -> list[tuple[str, str]]:
    memory = _checked_memory(setup.memory)
    if not _MACHINE.fullmatch(setup.machine):
        raise ValueError(f"{setup.machine!r} is not a machine type")
    path = _checked_path(setup.channel).replace(",", ",,")
    ram = ram_options(memory, setup.machine).split(" ")
    tap = []
    if setup.ram_tap is not None:
        where = _checked_path(setup.ram_tap).replace(",", ",,")
        device = "device" if setup.machine == "microvm" else "pci"
        tap = [
            ("-chardev", f"socket,id=wlproxy-tap,path={where},reconnect-ms=1000"),
            ("-device", f"vhost-user-blk-{device},chardev=wlproxy-tap"),
        ]
    screen = []
    if setup.screen is not None:
        monitor = _checked_path(setup.screen).replace(",", ",,")
        gpu, tablet = _SCREEN_DEVICES.get(
            setup.machine, ("virtio-vga", "virtio-tablet-pci")
        )
        screen = [
            ("-display", "dbus,p2p=on"),
            ("-device", gpu),
            ("-device", tablet),
            ("-qmp", f"unix:{monitor},server=on,wait=off"),
        ]
    return [
        (ram[0], ram[1]),
        (ram[2], ram[3]),
        ("-m", memory),
        ("-device", _SERIAL_DEVICES.get(setup.machine, "virtio-serial-pci")),
        ("-chardev", f"socket,id=wlproxy,path={path},server=on,wait=off"),
        ("-device", f"virtserialport,chardev=wlproxy,name={PORT_NAME}"),
        *tap,
        *screen,
    ]


def _checked_memory(text: str) -> str:
    """Write a size with its unit: without one it is MiB for `-m`, but bytes for objects."""
    found = _MEMORY.fullmatch(text)
    # "4096B" would be bytes.
    if not found or (found[3] and not found[2]):
        raise ValueError(f"{text!r} is not a size such as 4G or 6144M")
    return found[1] + (found[2].upper() or "M")


def _checked_path(path: Path) -> str:
    text = str(path)
    if not text.isprintable():
        raise ValueError(f"{text!r} has characters that an option cannot have")
    if len(text.encode()) > MAX_SOCKET_PATH:
        raise ValueError(f"{text} is longer than a socket's path can be")
    return text
