"""The system's libvirt, whose QEMU is another user: by the tap, and at our socket."""

from collections.abc import Iterator

import pytest

from tests.host.libvirt.conftest import DAEMON, Libvirt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
BOUND = """
<channel type='unix'>
  <source mode='bind' path='/run/libvirt/wl'/>
  <target type='virtio' name='org.wlproxy.0'/>
</channel>
"""


@pytest.fixture
def vm(system: Libvirt) -> Iterator[Libvirt]:
    """A domain as the first page of a manual has it."""
    system.define("vm.1", more=SHARED, devices=BOUND)
    yield system
    system.forget("vm.1")


def test_set_up_it_is_found(vm: Libvirt) -> None:
    which = ("--libvirt", "vm.1", "--connect", vm.uri)
    refused = vm.run("run", *which, status=1)
    assert "libvirt makes the channel's socket for QEMU's user alone (1)" in refused
    assert "wlproxy setup --libvirt vm.1 --connect" in refused

    place = vm.directory / "sockets"
    told = vm.run("setup", *which, "--yes", "--directory", str(place))
    assert f"install -d -o 0 -m 0755 {place}" in told
    assert place.is_dir(), "root has agreed to it"
    ready = f"wlproxy ram-tap --name vm-1 --socket {place}/ram --group daemon"
    assert ready in told
    refused = vm.run("run", *which, status=1)
    assert ready in refused
    assert "has all that it needs" in vm.run("setup", *which, "--yes")

    tap = vm.wlproxy(*ready.split()[1:])
    tap.wait_socket(vm.directory / "wlproxy" / "vm-1.ram")
    proxy = vm.wlproxy("run", *which)
    proxy.wait_said("waiting for QEMU to connect")
    for _ in range(2):
        vm.virsh("start", "vm.1")
        assert vm.owner("vm.1") == DAEMON
        tap.wait_said("is connected")
        # It tells when its guest has started its driver; here is no guest.
        proxy.wait_said("waiting for the guest's RAM: the VMM has not told")
        vm.virsh("destroy", "vm.1")
        tap.wait_said("has hung up")
    assert proxy.end() == 0


def test_a_domain_that_is_not_there(system: Libvirt) -> None:
    said = system.run(
        "setup", "--libvirt", "none", "--connect", system.uri, "--yes", status=1
    )
    assert "there is no domain none" in said
