"""The command lines and files that Xen's machine is described by; `make test-xen` runs it."""

import ast
from pathlib import Path

import pytest

from lab import images, xen_guest, xen_machine


def domu(**changes: object) -> xen_guest.DomU:
    machine = xen_guest.DomU(
        directory=Path("/run/lab/pv"),
        kernel=Path("/boot/vmlinuz"),
        initrd=Path("/boot/initrd"),
        disk=Path("/dev/vdb"),
        memory_mib=300,
    )
    changed = machine.replace(**changes)
    assert isinstance(changed, xen_guest.DomU)
    return changed


def settings(machine: xen_guest.DomU) -> dict[str, object]:
    # An xl.cfg's values are written as Python's are.
    pairs = (line.split(" = ", 1) for line in machine.config().splitlines())
    return {name: ast.literal_eval(value) for name, value in pairs}


def test_a_paravirtualised_domain() -> None:
    found = settings(domu())

    assert (found["name"], found["type"], found["memory"]) == ("pv", "pv", 300)
    assert found["disk"] == [
        "format=raw,vdev=xvda,access=ro,script=/lab/xen-block,target=/dev/vdb"
    ]
    # In this order they are /dev/hvc1 and /dev/hvc2.
    assert found["channel"] == [
        "connection=socket,path=/run/lab/pv/channel.sock,name=org.wlproxy.0",
        "connection=socket,path=/run/lab/pv/control.sock,name=org.wlproxy.lab",
    ]
    assert "wlproxy.role=domu" in str(found["extra"]).split()
    assert "tsc_mode" not in found
    assert "max_grant_frames" not in found


def test_a_pvh_domain_with_a_larger_grant_table() -> None:
    found = settings(domu(kind="pvh", grant_frames=128))

    assert (found["type"], found["tsc_mode"]) == ("pvh", "native")
    assert found["max_grant_frames"] == 128


@pytest.mark.parametrize("accel", ["tcg", "kvm"])
def test_what_boots_is_xen_and_for_it_dom0(accel: str, tmp_path: Path) -> None:
    image = images.Image(tmp_path / "xen-1", "trixie")
    deps = tmp_path / "deps.img"
    outer = xen_machine.XenOuter(image, image, deps, b"", False, accel)

    command = outer.command(tmp_path, tmp_path / "initrd", "memory-backend-ram")

    assert command[command.index("-kernel") + 1] == str(image.hypervisor)
    # The modules of Xen: dom0's kernel with its words, and that one's initramfs.
    kernel, initrd = command[command.index("-initrd") + 1].split(",")
    assert kernel.split()[0] == str(image.kernel)
    assert {"console=hvc0", "wlproxy.role=dom0"} < set(kernel.split())
    assert initrd == str(tmp_path / "initrd")
    assert "spec-ctrl=no" in command[command.index("-append") + 1].split()
    assert command[command.index("-accel") + 1].split(",")[0] == accel
    serials = [each.split("serial=")[1] for each in command if "serial=" in each]
    assert serials == ["dom0", "deps"]
