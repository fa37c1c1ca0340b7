"""A stranger's first window: a clean Debian 13 with libvirt, our packages, and what the pages say.

QEMU is libvirt-qemu, the desktop another user's, AppArmor as Debian has it, and no file is edited.
The commands are those of the pages, word for word; what they print, how long they took and a
picture of the desktop are left in `build/libvirt-show`.
"""

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from lab import host_setup, images, kernel_tools, recipe
from lab.guest import Completed, Guest
from release import debs
from tests.docs.blocks import ROOT, Block, read_page
from tests.packaging import libvirt_host
from tests.packaging.libvirt_host import DESKTOP, DOMAIN, IMAGES, UID, USER

pytestmark = [
    pytest.mark.show,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        not kernel_tools.can_run(), reason="builds packages in a Debian: needs root"
    ),
    pytest.mark.skipif(
        "mmdebstrap" in host_setup.missing(),
        reason="needs mmdebstrap: python3 -m lab setup",
    ),
]

EVERY = 5
"""Seconds between looks: each takes some of what the VM has, too."""
OUT = ROOT / "build" / "libvirt-show"
APP = "org.gtk.WidgetFactory4"
INSTALL = ("docs/install.md", "## From Debian packages")
SET_UP = ("docs/vm-libvirt.md", "# A VM with libvirt")
EXPORT = ("docs/vm-libvirt.md", "## An app from your menu")
GUEST_AGENT = ("docs/guest.md", "## From the Debian package")
LET_RUN = ("docs/apps.md", "## Apps from the host")

SESSION = {
    "XDG_RUNTIME_DIR": f"/run/user/{UID}",
    "XDG_SESSION_TYPE": "wayland",
    "WAYLAND_DISPLAY": DESKTOP,
    "DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{UID}/bus",
}


def block(place: tuple[str, str], lead: str = "") -> Block:
    """Return the first block of a page that this test is said to run."""
    page, heading = place
    found = read_page(ROOT / page).block(heading, lead)
    assert found.mark == f"run by: {Path(__file__).relative_to(ROOT)}", found
    return found


@dataclass
class Host:
    """Somebody's Debian, as it runs."""

    machine: Guest
    steps: list[tuple[str, float]] = field(default_factory=list)

    def root(self, script: str, answers: str = "", seconds: float = 300) -> str:
        """Type commands as root, where the packages are."""
        return self._type(script, None, {}, answers, seconds)

    def user(self, script: str, answers: str = "", seconds: float = 300) -> str:
        """Type commands in a terminal of the desktop."""
        return self._type(script, USER, SESSION, answers, seconds)

    def _type(
        self,
        script: str,
        user: str | None,
        environ: dict[str, str],
        answers: str,
        seconds: float,
    ) -> str:
        done = self.machine.run(
            ["sh", "-ec", script],
            env=environ,
            user=user,
            cwd=f"/home/{USER}",
            stdin=answers.encode(),
            timeout=seconds,
        )
        said = _text(done)
        with (OUT / "log").open("a") as log:
            log.write(f"--- {user or 'root'}\n{script}\n---\n{said}\n")
        assert done.ok, said
        return said

    def timed(self, what: str, work: Callable[[], str]) -> str:
        """Do something, and note how long it took."""
        begun = time.monotonic()
        said = work()
        self.steps.append((what, time.monotonic() - begun))
        return said

    def status(self) -> dict[str, object]:
        document = json.loads(self.user(f"wlproxy status --name {DOMAIN} --json"))
        assert isinstance(document, dict)
        return document

    def until(self, check: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if check():
                    return
                why = ""
            except AssertionError as exc:
                why = str(exc)
            assert time.monotonic() < deadline, f"not within {seconds} s: {what}: {why}"
            time.sleep(EVERY)


def _text(done: Completed) -> str:
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packages")
    debs.build(directory)
    return directory


@pytest.fixture(scope="module")
def host(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The host, with a domain that has never heard of wlproxy, and our packages downloaded."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "log").unlink(missing_ok=True)
    directory = tmp_path_factory.mktemp("host")
    as_root, as_user = (
        block(LET_RUN, lead) for lead in ("package, as root:", "are to run as:")
    )
    disk = libvirt_host.guest_disk(
        packages,
        agent="\n".join(block(GUEST_AGENT).lines),
        as_root="\n".join(as_root.lines),
        as_user="\n".join(as_user.lines),
        into=directory / "vm.img",
    )
    with Guest(libvirt_host.machine(directory / "host", disk)) as machine:
        yield bring_up(machine, packages)
        machine.power_off()


def bring_up(machine: Guest, packages: Path) -> Host:
    """Boot the host; download our packages to where its user is, and define the domain."""
    machine.boot()
    host = Host(machine)
    host.until(
        lambda: bool(host.root(f"test -S /run/user/{UID}/{DESKTOP}; echo up")),
        "the desktop is up",
        180,
    )
    for path in packages.glob("*.deb"):
        if path.name.startswith(("wlproxy_", "python3-wlproxy-protocol_")):
            machine.put(f"/home/{USER}/{path.name}", path.read_bytes())
    boot = libvirt_host.guest_boot(images.find(recipe.GUEST_IMAGE))
    for name, contents in boot.items():
        machine.put(f"{IMAGES}/{name}", contents)
    kvm = bool(host.root("ls /dev/kvm || true").strip())
    xml = libvirt_host.domain_xml(kvm=kvm)
    machine.put("/tmp/work.xml", xml.encode())
    host.user("virsh --connect qemu:///system define /tmp/work.xml")
    return host


def test_a_strangers_first_window(host: Host) -> None:
    assert "N" not in host.root("cat /sys/module/apparmor/parameters/enabled")
    install = "\n".join(block(INSTALL).lines)
    host.timed("apt install", lambda: host.root(install, "y\n"))

    limit = host.root("cat /sys/module/udmabuf/parameters/list_limit")
    assert int(limit) == 65536

    setup, start = block(SET_UP).lines
    told = host.timed("wlproxy setup", lambda: host.user(setup, "y\n" * 9))
    assert "It failed" not in told
    host.timed("virsh start", lambda: host.user(start))

    export = "\n".join(block(EXPORT).lines)

    def guest_up() -> bool:
        return bool(host.user(export))

    def export_apps() -> str:
        host.until(guest_up, "the VM's apps are there", 900)
        return ""

    host.timed("until the guest has booted, its apps exported", export_apps)
    entry = f"/home/{USER}/.local/share/applications/wlproxy.{DOMAIN}.{APP}.desktop"

    def first_window() -> str:
        host.user(f"gio launch {entry}")
        host.until(lambda: bool(shown(host)), "a frame of a window is shown", 600)
        return ""

    host.timed("from the menu to the window", first_window)
    window, *_ = shown(host)
    assert window["mode"] in ("A", "B"), window
    assert window["bytes_copied"] == 0, window
    report(host, window)


def shown(host: Host) -> list[dict[str, object]]:
    """Windows of which a frame is shown."""
    surfaces = host.status()["surfaces"]
    assert isinstance(surfaces, list)
    return [each for each in surfaces if each["frames"]]


def report(host: Host, window: dict[str, object]) -> None:
    """Leave times and a picture; see to it that something is in that."""
    host.user("cd /tmp && weston-screenshooter")
    (name,) = host.user("ls /tmp/wayland-screenshot-*.png").split()
    png = host.machine.get(name)
    (OUT / "desktop.png").write_bytes(png)
    lines = [f"{seconds:6.1f} s  {what}" for what, seconds in host.steps]
    (OUT / "times").write_text("\n".join([*lines, json.dumps(window), ""]))
    with Image.open(io.BytesIO(png)) as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 100, "no window in the picture"
