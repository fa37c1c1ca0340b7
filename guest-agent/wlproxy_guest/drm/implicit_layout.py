"""Whether what has no modifier is linear here: then the host can show it.

A buffer without a modifier lies in memory as its driver likes, and who passes it on does
not know which driver that was.  So all of them must be known not to like anything but
rows one after the other.  What is known comes from sysfs, as no device is opened
(`allocation`).
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
    """Whether the guest has DRM devices, and none of them tiles by itself."""
    # Nodes alone: connectors hang below them, and `version` is no device.
    nodes = [
        node for node in (sysfs / "class/drm").glob("*") if (node / "dev").exists()
    ]
    return bool(nodes) and all(_is_linear(node / "device") for node in nodes)


def _is_linear(device: Path) -> bool:
    """Whether a device's driver, or the device itself, is known to know no tiling."""
    # Of virtio-gpu DRM knows the PCI or platform device, and virtio's is below that.
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
    """Whether a virtio device's features, one digit for each, are without 3D."""
    try:
        features = (virtio / "features").read_bytes()
    except OSError:
        return False
    return features[VIRGL : VIRGL + 1] == b"0"
