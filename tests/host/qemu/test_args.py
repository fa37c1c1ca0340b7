import shlex
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.host.channel_address import Listen, Vsock
from wlproxy.host.libvirt.elements import libvirt_xml
from wlproxy.host.qemu.args import QemuSetup, qemu_command_line

PATHS = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=60
).map(lambda name: Path("/run", name.replace("/", "_")))


def split_option(value: str) -> dict[str, str]:
    """As QEMU does: commas separate, two of them are one."""
    parts = value.replace(",,", "\0").split(",")
    return dict(part.replace("\0", ",").partition("=")[::2] for part in parts)


def read_by_shell(setup: QemuSetup) -> list[str]:
    return shlex.split(qemu_command_line(setup).replace("\\\n", " "))


def test_what_a_vm_needs() -> None:
    arguments = read_by_shell(QemuSetup(Path("/run/vm.sock"), "6G", "pc"))
    assert arguments == [
        "-object",
        "memory-backend-memfd,id=wlproxy-ram,size=6G,share=on",
        "-machine",
        "pc,memory-backend=wlproxy-ram",
        "-m",
        "6G",
        "-device",
        "virtio-serial-pci",
        "-chardev",
        "socket,id=wlproxy,path=/run/vm.sock,server=on,wait=off",
        "-device",
        "virtserialport,chardev=wlproxy,name=org.wlproxy.0",
    ]


@pytest.mark.parametrize(
    ("machine", "devices"),
    [
        ("q35", ("virtio-vga", "virtio-tablet-pci")),
        ("microvm", ("virtio-gpu-device", "virtio-tablet-device")),
        ("s390-ccw-virtio", ("virtio-gpu-ccw", "virtio-tablet-ccw")),
    ],
)
def test_a_screen(machine: str, devices: tuple[str, str]) -> None:
    setup = QemuSetup(
        Path("/run/c"), "6G", machine, screen=Path("/run/a,b"), clipboard=False
    )
    assert read_by_shell(setup)[-8:] == [
        *("-display", "dbus,p2p=on"),
        *("-device", devices[0], "-device", devices[1]),
        *("-qmp", "unix:/run/a,,b,server=on,wait=off"),
    ]


@pytest.mark.parametrize(
    ("machine", "device"),
    [("q35", "virtio-vga"), ("microvm", "virtio-gpu-device")],
)
def test_a_screen_that_nobody_copies(machine: str, device: str) -> None:
    setup = QemuSetup(
        Path("/run/c"), "6G", machine, screen=Path("/q"), render_node=Path("/dev/a,b")
    )
    arguments = read_by_shell(setup)
    assert "dbus,p2p=on,gl=es,rendernode=/dev/a,,b" in arguments
    assert f"{device},blob=true" in arguments
    # Without a screen there is nothing that it would be for.
    assert "rendernode" not in qemu_command_line(
        QemuSetup(Path("/run/c"), render_node=Path("/dev/a"))
    )


def test_libvirt_has_the_node_as_well() -> None:
    setup = QemuSetup(
        Path("/run/c"), screen=Path("/run/q"), render_node=Path("/dev/<'>")
    )
    domain = ET.fromstring(f"<domain>{libvirt_xml(setup)}</domain>")
    gl = domain.find("graphics[@type='dbus'][@p2p='yes']/gl[@enable='yes']")
    assert gl is not None
    assert gl.get("rendernode") == "/dev/<'>"
    assert domain.find("video/model[@type='virtio'][@blob='on']") is not None
    assert domain.find("input[@type='tablet']") is not None


def test_libvirt_opens_the_display_itself() -> None:
    printed = libvirt_xml(QemuSetup(Path("/run/c"), screen=Path("/run/q")))
    assert "<graphics type='dbus' p2p='yes'/>\n<video>\n" in printed
    assert "/run/q" not in printed
    domain = ET.fromstring(f"<domain>{printed}</domain>")
    assert domain.find("channel[@type='qemu-vdagent']/target[@name]") is not None
    shut = QemuSetup(Path("/run/c"), screen=Path("/run/q"), clipboard=False)
    assert "vdagent" not in libvirt_xml(shut)


CLIPBOARD = (
    *("-chardev", "qemu-vdagent,id=wlproxy-clipboard,clipboard=on,mouse=off"),
    "-device",
    "virtserialport,chardev=wlproxy-clipboard,name=com.redhat.spice.0",
)


def test_the_clipboard_of_a_screen() -> None:
    arguments = read_by_shell(QemuSetup(Path("/run/c"), screen=Path("/run/q")))
    assert tuple(arguments[-4:]) == CLIPBOARD
    assert arguments.count("virtio-serial-pci") == 1


def test_the_clipboard_has_a_bus_of_its_own_where_there_is_no_other() -> None:
    arguments = read_by_shell(QemuSetup(Vsock(3, 4), screen=Path("/run/q")))
    assert tuple(arguments[-6:]) == ("-device", "virtio-serial-pci", *CLIPBOARD)


def test_no_clipboard_where_qemu_has_none() -> None:
    setup = QemuSetup(Path("/run/c"), "6G", "s390-ccw-virtio", screen=Path("/run/q"))
    assert "qemu-vdagent" not in " ".join(read_by_shell(setup))


@pytest.mark.parametrize(
    ("machine", "device"),
    [("q35", "vhost-user-blk-pci"), ("microvm", "vhost-user-blk-device")],
)
def test_the_device_that_tells_of_ram(machine: str, device: str) -> None:
    setup = QemuSetup(Path("/run/c"), "6G", machine, Path("/run/a,b"))
    assert read_by_shell(setup)[-4:] == [
        "-chardev",
        "socket,id=wlproxy-tap,path=/run/a,,b,reconnect-ms=1000",
        "-device",
        f"{device},chardev=wlproxy-tap",
    ]


@pytest.mark.parametrize(
    ("machine", "device"),
    [("q35", "vhost-vsock-pci"), ("microvm", "vhost-vsock-device")],
)
def test_a_vsock_takes_the_place_of_the_port(machine: str, device: str) -> None:
    arguments = read_by_shell(QemuSetup(Vsock(3, 5000), "6G", machine))
    assert arguments[-2:] == ["-device", f"{device},guest-cid=3"]
    assert "virtio-serial-pci" not in arguments
    domain = ET.fromstring(f"<domain>{libvirt_xml(QemuSetup(Vsock(3, 5000)))}</domain>")
    assert domain.find("vsock/cid[@auto='no'][@address='3']") is not None
    assert domain.find("channel") is None


def test_qemu_may_connect_to_the_proxy() -> None:
    setup = QemuSetup(Listen(Path("/run/a,b")))
    assert "socket,id=wlproxy,path=/run/a,,b,reconnect-ms=1000" in read_by_shell(setup)
    domain = ET.fromstring(f"<domain>{libvirt_xml(setup)}</domain>")
    source = domain.find("channel[@type='unix']/source[@mode='connect']")
    assert source is not None
    assert source.get("path") == "/run/a,b"
    assert source.find("reconnect[@enabled='yes'][@timeout='1']") is not None


def test_libvirt_has_it_too() -> None:
    setup = QemuSetup(Path("/run/c"), ram_tap=Path("/run/<tap>"))
    domain = ET.fromstring(f"<domain>{libvirt_xml(setup)}</domain>")
    source = domain.find("disk[@type='vhostuser']/source[@type='unix']")
    assert source is not None
    assert source.get("path") == "/run/<tap>"
    assert source.find("reconnect[@enabled='yes']") is not None
    assert "vhostuser" not in libvirt_xml(QemuSetup(Path("/run/c")))


@given(PATHS)
def test_any_path_survives_shell_and_qemu(path: Path) -> None:
    arguments = read_by_shell(QemuSetup(path))
    chardev = arguments[arguments.index("-chardev") + 1]
    assert split_option(chardev)["path"] == str(path)


@given(PATHS)
def test_any_path_survives_libvirt(path: Path) -> None:
    domain = ET.fromstring(f"<domain>{libvirt_xml(QemuSetup(path))}</domain>")
    source = domain.find("channel[@type='unix']/source[@mode='bind']")
    assert source is not None
    assert source.get("path") == str(path)
    target = domain.find("channel/target[@type='virtio']")
    assert target is not None
    assert target.get("name") == "org.wlproxy.0"
    backing = domain.find("memoryBacking")
    assert backing is not None
    assert backing.find("source[@type='memfd']") is not None
    assert backing.find("access[@mode='shared']") is not None


@pytest.mark.parametrize(
    ("setup", "complaint"),
    [
        (QemuSetup(Path("/run/new\nline")), "characters"),
        (QemuSetup(Path("/" + "x" * 107)), "longer"),
        (QemuSetup(Path("/run/s"), memory="4096B"), "not a size"),
        (QemuSetup(Path("/run/s"), memory="4.5G"), "not a size"),
        (QemuSetup(Path("/run/s"), memory="0"), "not a size"),
        (QemuSetup(Path("/run/s"), machine="q35,accel=kvm"), "machine type"),
        (QemuSetup(Path("/run/s"), machine=""), "machine type"),
    ],
)
def test_refuses_what_an_option_cannot_say(setup: QemuSetup, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        qemu_command_line(setup)


def test_libvirt_wants_an_absolute_path() -> None:
    with pytest.raises(ValueError, match="absolute"):
        libvirt_xml(QemuSetup(Path("vm.sock")))
