import pytest

from wlproxy.host.desktop.udmabuf_device import UdmabufLimits
from wlproxy.host.doctor import Verdict
from wlproxy.host.screen_checks import check_blobs

FEW, MANY = UdmabufLimits(1024, 1 << 26), UdmabufLimits(65536, 1 << 26)


@pytest.mark.parametrize(
    ("words", "limits", "verdict"),
    [
        ("-device virtio-vga -display dbus,p2p=on", FEW, None),
        ("-device virtio-vga,blob=off -display dbus,p2p=on", FEW, None),
        ("-device virtio-vga,blob=true -display dbus,p2p=on", MANY, Verdict.WARNING),
        ("-device virtio-vga,blob=true", MANY, Verdict.WARNING),
        ("-device virtio-gpu-pci,blob=on -display gtk,gl=on", MANY, Verdict.WARNING),
        ("-device virtio-vga,blob=true -display dbus,gl=off", MANY, Verdict.WARNING),
        ("-display dbus,gl=es --device virtio-vga,blob=true", FEW, Verdict.WARNING),
        ("-display dbus,gl=es --device virtio-vga,blob=true", MANY, Verdict.OK),
        (
            "-display none -display dbus,gl=on -device virtio-gpu-device,blob=on",
            MANY,
            Verdict.OK,
        ),
        (
            "-display dbus,gl=es -display none -device virtio-vga,blob=on",
            MANY,
            Verdict.WARNING,
        ),
        ("", MANY, None),
    ],
)
def test_blobs(words: str, limits: UdmabufLimits, verdict: Verdict | None) -> None:
    found = check_blobs(["qemu-system-x86_64", *words.split()], limits)
    assert [each.verdict for each in found] == ([verdict] if verdict else [])
    assert all(each.remedy for each in found if each.verdict is Verdict.WARNING)
