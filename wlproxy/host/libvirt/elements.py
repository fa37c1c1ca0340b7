"""The elements that a libvirt domain gets: shared RAM, the channel, the tap's disk."""

from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from wlproxy.host.channel_address import Listen, Vsock
from wlproxy.host.qemu.args import CLIPBOARD_PORT, QemuSetup, checked_path
from wlproxy.protocol.channel.frames import PORT_NAME

MEMORY_SOURCE: Final = "<source type='memfd'/>"
MEMORY_ACCESS: Final = "<access mode='shared'/>"
MEMORY: Final = f"""\
<memoryBacking>
  {MEMORY_SOURCE}
  {MEMORY_ACCESS}
</memoryBacking>
"""
GRAPHICS: Final = "<graphics type='dbus' p2p='yes'/>"
SCREEN: Final = f"""\
{GRAPHICS}
<video>
  <model type='virtio'/>
</video>
<input type='tablet' bus='virtio'/>
"""
"""The machine's screen, for `wlproxy screen`, in place of other graphics and video."""
CLIPBOARD: Final = f"""\
<channel type='qemu-vdagent'>
  <source>
    <clipboard copypaste='yes'/>
    <mouse mode='server'/>
  </source>
  <target type='virtio' name='{CLIPBOARD_PORT}'/>
</channel>
"""
"""The clipboard of that screen, whose mouse it is not."""
DISK_ALIAS: Final = "ua-wlproxy-ram"
"""How the tap's disk is known again: libvirt keeps aliases that begin with `ua-`."""


def libvirt_xml(setup: QemuSetup) -> str:
    """Write the elements to add to a libvirt domain.

    Raises:
        ValueError: a path is not absolute, or too long.
    """
    tap = "" if setup.ram_tap is None else disk_xml(setup.ram_tap)
    if isinstance(setup.channel, Vsock):
        channel = vsock_xml(setup.channel)
    else:
        channel = channel_xml(setup.channel)
    # Without a path: it is libvirt that opens the display.
    screen = "" if setup.screen is None else screen_xml(setup.render_node)
    clipboard = CLIPBOARD if screen and setup.clipboard else ""
    elements = f"{channel}{tap}{screen}{clipboard}"
    return f"<!-- in <domain> -->\n{MEMORY}<!-- in <devices> -->\n{elements}"


def screen_xml(render_node: Path | None) -> str:
    """Write the machine's screen, for `wlproxy screen`.

    Args:
        render_node: the device for QEMU's GL, with which it copies nothing; None: without.

    Raises:
        ValueError: its path is not absolute, or too long.
    """
    if render_node is None:
        return SCREEN
    return f"""\
<graphics type='dbus' p2p='yes'>
  <gl enable='yes' rendernode={_quoted(render_node)}/>
</graphics>
<video>
  <model type='virtio' blob='on'/>
</video>
<input type='tablet' bus='virtio'/>
"""


def vsock_xml(address: Vsock) -> str:
    """Write the device that is the guest's vsock."""
    return f"""\
<vsock model='virtio'>
  <cid auto='no' address='{address.cid}'/>
</vsock>
"""


def channel_xml(address: Path | Listen) -> str:
    """Write the channel's device.

    Raises:
        ValueError: its path is not absolute, or too long.
    """
    source = source_xml(address).rstrip().replace("\n", "\n  ")
    return f"""\
<channel type='unix'>
  {source}
  <target type='virtio' name='{PORT_NAME}'/>
</channel>
"""


def source_xml(address: Path | Listen) -> str:
    """Write what is in the channel's device that says where it is.

    Raises:
        ValueError: its path is not absolute, or too long.
    """
    if not isinstance(address, Listen):
        return f"<source mode='bind' path={_quoted(address)}/>\n"
    return f"""\
<source mode='connect' path={_quoted(address.path)}>
  <reconnect enabled='yes' timeout='1'/>
</source>
"""


def disk_xml(tap: Path, target: str = "vdz") -> str:
    """Write the disk by which the VMM tells where the RAM is.

    Args:
        tap: where `wlproxy ram-tap` listens.
        target: its name; libvirt sorts by that, and boots from the first.

    Raises:
        ValueError: the path is not absolute, or too long.
    """
    return f"""\
<disk type='vhostuser' device='disk'>
  <driver name='qemu' type='raw'/>
  <source type='unix' path={_quoted(tap)}>
    <reconnect enabled='yes' timeout='1'/>
  </source>
  <target dev='{target}' bus='virtio'/>
  <alias name='{DISK_ALIAS}'/>
</disk>
"""


def _quoted(path: Path) -> str:
    """Write a path as an attribute, in the quotes that libvirt has.

    Raises:
        ValueError: it is not absolute, or too long.
    """
    if not path.is_absolute():
        raise ValueError(f"libvirt wants an absolute path, not {path}")
    text = escape(checked_path(path), {"'": "&apos;"})
    return f"'{text}'"
