"""A user's own libvirt, with real QEMUs: what is found, again and again."""

from collections.abc import Iterator

import pytest

from tests.host.libvirt.conftest import Libvirt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NUMA = """
<cpu><numa>
  <cell id='0' cpus='0' memory='64' unit='MiB'/>
  <cell id='1' cpus='1' memory='64' unit='MiB'/>
</numa></cpu>
"""
GROWING = "<maxMemory slots='2' unit='GiB'>1</maxMemory><memory unit='MiB'>128</memory>"


@pytest.fixture
def vm(session: Libvirt) -> Iterator[Libvirt]:
    """A domain `vm.1` that knows nothing of wlproxy."""
    session.define("vm.1")
    yield session
    session.forget("vm.1")


def test_set_up_it_is_found_whenever_it_runs(vm: Libvirt) -> None:
    refused = vm.run("run", "--libvirt", "vm.1", status=1)
    assert "domain vm.1 does not share its RAM" in refused
    assert "wlproxy setup --libvirt vm.1 --connect qemu:///session" in refused

    before = vm.virsh("dumpxml", "vm.1")
    shown = vm.run("setup", "--libvirt", "vm.1", "--dry-run")
    assert "+      <source mode='bind' path=" in shown
    vm.run("setup", "--libvirt", "vm.1", given="n\n", status=1)
    assert vm.virsh("dumpxml", "vm.1") == before
    assert "is defined" in vm.run("setup", "--libvirt", "vm.1", given="y\n")
    assert "has all that it needs" in vm.run("setup", "--libvirt", "vm.1", "--yes")

    vm.virsh("start", "vm.1")
    proxy = vm.wlproxy("run", "--libvirt", "vm.1")
    proxy.wait_said("[vm-1] guest RAM: 64 MiB")
    vm.virsh("destroy", "vm.1")
    proxy.wait_said("the channel was closed")
    vm.virsh("start", "vm.1")
    proxy.wait_said("guest RAM: 64 MiB")
    image = str(vm.directory / "saved")
    vm.virsh("save", "vm.1", image)
    proxy.wait_said("the channel was closed")
    vm.virsh("restore", image)
    proxy.wait_said("guest RAM: 64 MiB")
    assert proxy.end() == 0


@pytest.mark.parametrize("listens", [False, True])
def test_a_proxy_that_waits_for_it_finds_it_each_time(
    vm: Libvirt, *, listens: bool
) -> None:
    """As libvirt makes the socket before QEMU is there, who connects at once has libvirtd."""
    options = ["--directory", str(vm.directory)] if listens else []
    vm.run("setup", "--libvirt", "vm.1", "--yes", "--no-ram-tap", *options)
    proxy = vm.wlproxy("run", "--libvirt", "vm.1")
    proxy.wait_said("waiting for")
    for _ in range(5):
        vm.virsh("start", "vm.1")
        proxy.wait_said("guest RAM: 64 MiB")
        vm.virsh("destroy", "vm.1")
    assert proxy.end() == 0


def test_ram_in_pieces_is_a_taps(session: Libvirt) -> None:
    session.define("vm.1", memory=GROWING, more=NUMA)
    try:
        session.run("setup", "--libvirt", "vm.1", "--yes", "--no-ram-tap")
        refused = session.run("run", "--libvirt", "vm.1", status=1)
        assert "is in pieces (NUMA nodes or DIMMs)" in refused
        assert "with --ram-tap" in refused
        told = session.run("setup", "--libvirt", "vm.1", "--yes")
        socket = session.directory / "wlproxy-vm-1.ram"
        assert f"wlproxy ram-tap --name vm-1 --socket {socket}\n" in told
        refused = session.run("run", "--libvirt", "vm.1", status=1)
        assert (
            f"Start it, before the VM: wlproxy ram-tap --name vm-1 --socket {socket}"
            in refused
        )

        tap = session.wlproxy("ram-tap", "--name", "vm-1", "--socket", str(socket))
        table = session.directory / "wlproxy" / "vm-1.ram"
        tap.wait_socket(table)
        session.virsh("start", "vm.1")
        proxy = session.wlproxy("run", "--libvirt", "vm.1")
        tap.wait_said("is connected")
        # It tells when its guest has started its driver; here is no guest.
        proxy.wait_said("waiting for the guest's RAM: the VMM has not told")
        assert proxy.end() == 0
    finally:
        session.forget("vm.1")
