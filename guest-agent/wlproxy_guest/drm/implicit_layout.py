"""Tells whether buffers without a modifier are linear in this guest.

A buffer without a modifier has whatever layout its driver prefers, and the fd does not say
which driver that was.  The host can show such a buffer only if it is linear, so every DRM
driver of the guest must be known to use nothing else.  Everything here is read from sysfs;
`allocation` says why no device is opened.
"""

from pathlib import Path
from typing import Final

SYSFS: Final = Path("/sys")
VIRTIO_GPU: Final = "virtio_gpu"
VIRGL: Final = 0
"""VIRTIO_GPU_F_VIRGL, a bit of what device and driver agreed on: without it the driver
answers VIRTGPU_PARAM_3D_FEATURES with 0, and has dumb buffers only."""
VGEM: Final = "vgem"


def implicit_layout_is_linear(sysfs: Path = SYSFS) -> bool:
    """Tell whether the guest has DRM devices and none of them tiles on its own."""
    # Nodes alone: connectors hang below them, and `version` is no device.
    nodes = [
        node for node in (sysfs / "class/drm").glob("*") if (node / "dev").exists()
    ]
    return bool(nodes) and all(_is_linear(node / "device") for node in nodes)


def _is_linear(device: Path) -> bool:
    """Tell whether a device, or its driver, is known never to tile."""
    # For virtio-gpu, DRM names the PCI or platform device; virtio's own is below it.
    for each in (device, *device.glob("virtio*")):
        if _name(each / "driver") == VIRTIO_GPU:
            return _lacks_virgl(each)
    # A device that its module makes, without a driver of the driver core's.
    made = _name(device) == VGEM and _name(device / "driver") in ("", "faux_driver")
    return made and _name(device / "subsystem") in ("platform", "faux")


def _name(link: Path) -> str:
    """Return the name of what a link leads to, "" if there is none."""
    return link.resolve().name if link.exists() else ""


def _lacks_virgl(virtio: Path) -> bool:
    """Tell whether a virtio device lacks 3D; its features are one digit each."""
    try:
        features = (virtio / "features").read_bytes()
    except OSError:
        return False
    return features[VIRGL : VIRGL + 1] == b"0"
