"""The options that give a QEMU guest shared RAM and a channel, as text.

Pure: nothing is started or read.
"""

from dataclasses import dataclass
from pathlib import Path

PORT_NAME = "org.wlproxy.0"
"""Name of the virtio-serial port, which the agent looks for."""


@dataclass(frozen=True, slots=True)
class QemuSetup:
    """What a VM gets.

    Attributes:
        channel: the socket that QEMU makes for the channel.
        memory: size of the RAM as QEMU writes it, such as `4G`.
        machine: QEMU's machine type.
    """

    channel: Path
    memory: str = "4G"
    machine: str = "q35"


def qemu_arguments(setup: QemuSetup) -> list[str]:
    """List the arguments to add to a QEMU command line.

    Raises:
        ValueError: a field cannot be written into an option.
    """
    raise NotImplementedError


def qemu_command_line(setup: QemuSetup) -> str:
    """Write the arguments for a shell, one option a line.

    Raises:
        ValueError: a field cannot be written into an option.
    """
    raise NotImplementedError


def libvirt_xml(setup: QemuSetup) -> str:
    """Write the elements to add to a libvirt domain.

    Raises:
        ValueError: the channel's path is not absolute.
    """
    raise NotImplementedError
