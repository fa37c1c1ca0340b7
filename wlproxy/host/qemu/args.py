"""The options that give a QEMU guest shared RAM and a channel, as text.

Nothing is started or read here.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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
CLIPBOARD_PORT: Final = "com.redhat.spice.0"
"""Where spice-vdagent looks."""
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
        render_node: the DRM device on which QEMU has its GL, for the screen: with it a
            guest's pictures stay where they are in its RAM; None: QEMU copies them once.
        clipboard: whether that has the guest's clipboard, too.
    """

    channel: Path | Listen | Vsock
    memory: str = "4G"
    machine: str = "q35"
    ram_tap: Path | None = None
    screen: Path | None = None
    render_node: Path | None = None
    clipboard: bool = True


def qemu_command_line(setup: QemuSetup) -> str:
    """Write the arguments for a shell, one option a line.

    Raises:
        ValueError: a field cannot be written into an option.
    """
    lines = [shlex.join(option) for option in _options(setup)]
    return " \\\n".join(lines) + "\n"


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
        where = checked_path(setup.ram_tap).replace(",", ",,")
        device = "device" if setup.machine == "microvm" else "pci"
        tap = [
            ("-chardev", f"socket,id=wlproxy-tap,path={where},reconnect-ms=1000"),
            ("-device", f"vhost-user-blk-{device},chardev=wlproxy-tap"),
        ]
    screen = []
    if setup.screen is not None:
        screen = _screen_options(setup.screen, setup.machine, setup.render_node)
        # Its chardev is not to be had on big-endian hosts, which have such guests.
        if setup.clipboard and setup.machine != "s390-ccw-virtio":
            screen += _clipboard_options(setup)
    return [
        (ram[0], ram[1]),
        (ram[2], ram[3]),
        ("-m", memory),
        *_channel_options(setup.channel, setup.machine),
        *tap,
        *screen,
    ]


def _screen_options(
    monitor: Path, machine: str, render_node: Path | None
) -> list[tuple[str, str]]:
    where = checked_path(monitor).replace(",", ",,")
    display = "dbus,p2p=on"
    gpu, tablet = _SCREEN_DEVICES.get(machine, ("virtio-vga", "virtio-tablet-pci"))
    if render_node is not None:
        # Without GL a blob is none that QEMU can hand over.  "on" would want libGL, too.
        node = checked_path(render_node).replace(",", ",,")
        display += f",gl=es,rendernode={node}"
        gpu += ",blob=true"
    return [
        ("-display", display),
        ("-device", gpu),
        ("-device", tablet),
        ("-qmp", f"unix:{where},server=on,wait=off"),
    ]


def _clipboard_options(setup: QemuSetup) -> list[tuple[str, str]]:
    """Write what the guest's agent for the clipboard (spice-vdagent) talks to.

    It is no mouse of QEMU's: there is a tablet.
    """
    bus = []
    if isinstance(setup.channel, Vsock):  # else the channel has it
        bus = [("-device", _SERIAL_DEVICES.get(setup.machine, "virtio-serial-pci"))]
    port = f"virtserialport,chardev=wlproxy-clipboard,name={CLIPBOARD_PORT}"
    return [
        *bus,
        ("-chardev", "qemu-vdagent,id=wlproxy-clipboard,clipboard=on,mouse=off"),
        ("-device", port),
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
    where = checked_path(path).replace(",", ",,")
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


def checked_path(path: Path) -> str:
    """Write the path of a socket.

    Raises:
        ValueError: it is too long for one, or not printable.
    """
    text = str(path)
    if not text.isprintable():
        raise ValueError(f"{text!r} has characters that an option cannot have")
    if len(text.encode()) > MAX_SOCKET_PATH:
        raise ValueError(f"{text} is longer than a socket's path can be")
    return text
