"""Machines whose DRM drivers are all known not to tile: trees like sysfs, and this machine's."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy_guest.drm.implicit_layout import implicit_layout_is_linear

WITHOUT_3D, WITH_3D = "0100" + "0" * 60, "1100" + "0" * 60


@dataclass(frozen=True)
class Card:
    """A DRM device: where it hangs, its driver, and features of the virtio below it."""

    path: str
    bus: str
    driver: str = ""
    virtio: str = ""
    features: str | None = None


VGEM = Card("platform/vgem", "platform")
FAUX_VGEM = Card("faux/vgem", "faux", "faux_driver")
VIRTIO = Card("pci0000:00/0000:00:02.0", "pci", "virtio-pci", "virtio_gpu", WITHOUT_3D)
VIRGL = Card("pci0000:00/0000:00:03.0", "pci", "virtio-pci", "virtio_gpu", WITH_3D)
INTEL = Card("pci0000:00/0000:00:04.0", "pci", "i915")
BOCHS = Card("pci0000:00/0000:00:05.0", "pci", "bochs-drm")
ETNAVIV = Card("platform/etnaviv", "platform", "etnaviv")


def link(path: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def make(sysfs: Path, *cards: Card) -> Path:
    """Lay out what the kernel shows of them."""
    listed = sysfs / "class/drm"
    listed.mkdir(parents=True)
    (listed / "version").write_text("drm 1.1.0 20060810\n")
    for number, card in enumerate(cards):
        device = sysfs / "devices" / card.path
        device.mkdir(parents=True)
        link(device / "subsystem", sysfs / "bus" / card.bus)
        if card.driver:
            link(device / "driver", sysfs / "bus" / card.bus / "drivers" / card.driver)
        if card.virtio:
            virtio = device / f"virtio{number}"
            virtio.mkdir()
            link(virtio / "driver", sysfs / "bus/virtio/drivers" / card.virtio)
            if card.features is not None:
                (virtio / "features").write_text(card.features + "\n")
        for name in (f"card{number}", f"renderD{128 + number}"):
            node = device / "drm" / name
            node.mkdir(parents=True)
            (node / "dev").write_text("226:0\n")
            link(node / "device", device)
            link(listed / name, node)
        # A connector: below its card, which it calls its device.
        connector = device / "drm" / f"card{number}" / f"card{number}-Virtual-1"
        connector.mkdir()
        link(connector / "device", connector.parent)
        link(listed / connector.name, connector)
    return sysfs


@pytest.mark.parametrize(
    ("cards", "linear"),
    [
        ([], False),
        ([VGEM], True),
        ([FAUX_VGEM], True),
        ([VIRTIO], True),
        ([VIRTIO, VGEM], True),
        ([VIRGL], False),
        ([INTEL], False),
        ([BOCHS], False),
        ([ETNAVIV], False),
        ([VIRTIO, VIRGL], False),
        ([VIRTIO, VGEM, INTEL], False),
        # A device of another driver, whatever it is called, or is below it.
        ([Card("platform/vgem", "platform", "etnaviv")], False),
        ([Card("pci0000:00/vgem", "pci")], False),
        ([Card("pci0000:00/0", "pci", "virtio-pci", "virtio_blk", WITHOUT_3D)], False),
        # virtio's own device, where there is no other; and one that says nothing.
        ([Card("virtio0", "virtio", "virtio_gpu")], False),
        ([Card("pci0000:00/0", "pci", "virtio-pci", "virtio_gpu", "")], False),
        ([Card("pci0000:00/0", "pci", "virtio-pci", "virtio_gpu")], False),
    ],
)
def test_all_devices_count(tmp_path: Path, cards: list[Card], *, linear: bool) -> None:
    assert implicit_layout_is_linear(make(tmp_path, *cards)) is linear
    assert not implicit_layout_is_linear(tmp_path / "nowhere")


def test_virtio_without_a_bus_below(tmp_path: Path) -> None:
    sysfs = make(tmp_path, Card("virtio0", "virtio", "virtio_gpu"))
    features = sysfs / "devices/virtio0/features"

    features.write_text(WITHOUT_3D)
    assert implicit_layout_is_linear(sysfs)
    features.write_text(WITH_3D)
    assert not implicit_layout_is_linear(sysfs)


@given(st.binary(max_size=8) | st.from_regex(rb"[01]+\n", fullmatch=True))
def test_only_a_zero_is_no_3d(
    tmp_path_factory: pytest.TempPathFactory, features: bytes
) -> None:
    sysfs = make(tmp_path_factory.mktemp("sysfs"), VIRTIO)
    (found,) = sysfs.glob("devices/**/features")
    found.write_bytes(features)

    assert implicit_layout_is_linear(sysfs) is features.startswith(b"0")


def test_this_machine_is_one_or_the_other() -> None:
    nodes = list(Path("/sys/class/drm").glob("*/dev"))

    assert implicit_layout_is_linear() in {False, bool(nodes)}
