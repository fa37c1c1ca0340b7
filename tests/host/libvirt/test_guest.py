"""A guest with an app under the system's libvirt: set up, shown, given memory, started again.

It boots here, mostly under TCG; `lab` makes its image.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from lab import nested
from lab.errors import LabError
from lab.guest import Guest, GuestError
from tests.host.libvirt.conftest import DAEMON, Libvirt, Program, eventually
from tests.integration.harness import GuestSide, PatternClient
from wlproxy.host.report.status_socket import read_status
from wlproxy.host.runtime_dir import status_path

pytestmark = [pytest.mark.native_guest, pytest.mark.slow, pytest.mark.timeout(900)]

BOOT_SECONDS = 400
WIDTH, HEIGHT = 320, 240

MEMORY = """
<maxMemory slots='2' unit='GiB'>3</maxMemory>
<memory unit='MiB'>1024</memory>
"""
MORE = """
<cpu><numa>
  <cell id='0' cpus='0' memory='512' unit='MiB'/>
  <cell id='1' cpus='1' memory='512' unit='MiB'/>
</numa></cpu>
"""
BOOT = """
<kernel>{place}/vmlinuz</kernel><initrd>{place}/initrd</initrd>
<cmdline>console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on
 wlproxy.role=guest wlproxy.init=lab</cmdline>
"""
DEVICES = """
<serial type='file'><source path='{place}/console'/><target port='0'/></serial>
<disk type='file' device='disk'>
  <driver name='qemu' type='raw'/>
  <source file='{place}/root'><seclabel model='dac' relabel='no'/></source>
  <target dev='vda' bus='virtio'/><readonly/><serial>guest</serial>
</disk>
<channel type='unix'>
  <source mode='bind' path='{place}/control.sock'/>
  <target type='virtio' name='org.wlproxy.lab'/>
</channel>
"""
DIMM = """
<memory model='dimm'>
  <target><size unit='MiB'>256</size><node>0</node></target>
</memory>
"""


@pytest.fixture(scope="module")
def guest(system: Libvirt) -> Iterator[Guest]:
    """A domain `work` that boots the lab's guest; not started yet."""
    place = system.directory / "work"
    try:
        machine = nested.native(place)
    except LabError as exc:
        pytest.skip(f"needs the lab's guest: {exc}")
    shutil.copy(machine.kernel, place / "vmlinuz")
    try:
        os.link(machine.disk, place / "root")
    except OSError:
        shutil.copy(machine.disk, place / "root")
    os.chown(place, DAEMON, DAEMON)  # QEMU makes a socket there
    system.define(
        "work",
        memory=MEMORY,
        more=MORE,
        devices=DEVICES.format(place=place),
        boot=BOOT.format(place=place),
    )
    with Guest(machine) as guest:
        yield guest
    system.forget("work")


def boot(system: Libvirt, guest: Guest) -> GuestSide:
    """Start the domain, and the agent in it."""
    guest.close()
    system.virsh("start", "work")
    guest.machine.pid_file.write_text(str(system.pid("work")))

    def up() -> bool:
        try:
            guest.connect(5)
        except GuestError:
            return False
        return True

    eventually(up, "the guest is up", BOOT_SECONDS)
    side = GuestSide(guest)
    side.ship()
    side.start_agent()
    return side


def show(system: Libvirt, client: PatternClient) -> None:
    """Open a window; wait until the proxy has shown a frame of it."""
    size = WIDTH * HEIGHT * 4
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=size)
    shape = {"width": WIDTH, "height": HEIGHT, "offset": 0}
    client.call("buffer", buffer="b", pool="pool", **shape)
    client.show("window", "b", 1)

    def shown() -> bool:
        surfaces = read_status(status_path(system.environ, "work"))["surfaces"]
        assert isinstance(surfaces, list)
        return any(isinstance(each, dict) and each["frames"] for each in surfaces)

    eventually(shown, "a frame is shown")


def test_its_windows_are_shown_whatever_happens_to_it(
    system: Libvirt, guest: Guest
) -> None:
    which = ("--libvirt", "work", "--connect", system.uri)
    sockets = system.directory / "sockets-of-work"
    sockets.mkdir(mode=0o755)
    told = system.run("setup", *which, "--yes", "--directory", str(sockets))
    (start,) = (line for line in told.splitlines() if "wlproxy ram-tap" in line)
    tap = system.wlproxy(*start.split()[1:])
    tap.wait_socket(system.directory / "wlproxy" / "work.ram")
    proxy = system.wlproxy("run", *which)
    proxy.wait_said("waiting for QEMU to connect")
    for _ in range(2):
        _see_windows(system, guest, proxy)
        system.virsh("destroy", "work")
        proxy.wait_said("the channel was closed")
    assert proxy.end() == 0


def _see_windows(system: Libvirt, guest: Guest, proxy: Program) -> None:
    side = boot(system, guest)
    assert system.owner("work") == DAEMON
    proxy.wait_said("guest RAM: 1024 MiB, map as the VMM tells it")
    proxy.wait_said("its RAM is proved, serving")
    client = side.client()
    show(system, client)
    system.virsh("attach-device", "work", "FILE", "--live", given=DIMM)
    proxy.wait_said("guest RAM: 1280 MiB now")
    client.kill()
    other = side.client()
    show(system, other)
    other.kill()
