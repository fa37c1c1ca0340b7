"""The options that give a QEMU guest shared RAM and a channel, as text.

Nothing is started or read here.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

from wlproxy.host.channel_address import Listen, Vsock
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
        channel: the socket that QEMU makes for the channel, one that the proxy makes, or a
            vsock.
        memory: size of the RAM, such as `4G`; MiB if there is no unit, as for `-m`.
        machine: QEMU's machine type.
        ram_tap: where `wlproxy ram-tap` listens for the VMM; None: there is none.
        screen: the monitor's socket, by which `wlproxy screen` gets at the display; None:
            that is not for it.
    """

    channel: Path | Listen | Vsock
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
{_libvirt_channel(setup.channel)}{tap}"""


def _libvirt_channel(channel: Path | Listen | Vsock) -> str:
    """Write the device of the channel.

    Raises:
        ValueError: the channel's path is not absolute, or too long.
    """
    if isinstance(channel, Vsock):
        return f"""\
<vsock model='virtio'>
  <cid auto='no' address='{channel.cid}'/>
</vsock>
"""
    path = channel.path if isinstance(channel, Listen) else channel
    if not path.is_absolute():
        raise ValueError(f"libvirt wants an absolute path, not {path}")
    where = f"path={quoteattr(_checked_path(path))}"
    source = f"<source mode='bind' {where}/>"
    if isinstance(channel, Listen):
        source = f"""\
<source mode='connect' {where}>
    <reconnect enabled='yes' timeout='1'/>
  </source>"""
    return f"""\
<channel type='unix'>
  {source}
  <target type='virtio' name='{PORT_NAME}'/>
</channel>
"""


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
        *_channel_options(setup.channel, setup.machine),
        *tap,
        *screen,
    ]


def _channel_options(
    channel: Path | Listen | Vsock, machine: str
) -> list[tuple[str, str]]:
    if isinstance(channel, Vsock):
        device = "device" if machine == "microvm" else "pci"
        return [("-device", f"vhost-vsock-{device},guest-cid={channel.cid}")]
    if isinstance(channel, Listen):
        path, side = channel.path, "reconnect-ms=1000"
    else:
        path, side = channel, "server=on,wait=off"
    where = _checked_path(path).replace(",", ",,")
    return [
        ("-device", _SERIAL_DEVICES.get(machine, "virtio-serial-pci")),
        ("-chardev", f"socket,id=wlproxy,path={where},{side}"),
        ("-device", f"virtserialport,chardev=wlproxy,name={PORT_NAME}"),
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
