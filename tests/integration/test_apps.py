"""Real apps through the whole path: which show their windows, and how."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.clients.capture import Picture
from tests.integration import harness, wayland_info
from tests.integration.harness import (
    Compositor,
    GuestSide,
    Proxy,
    ProxySlot,
    eventually,
)
from wlproxy.relay.policy import effective_policy

pytestmark = [pytest.mark.guest(group="windows"), pytest.mark.timeout(240)]

ROOTFUL = """\
Xwayland :5 -geometry 640x480 -displayfd 3 3>/run/x11-ready &
until [ -s /run/x11-ready ]; do sleep 0.1; done
DISPLAY=:5 exec xterm
"""
APPS: dict[str, list[str]] = {
    "foot": ["foot", "sh", "-c", "seq 100; sleep 600"],
    "weston-terminal": ["weston-terminal"],
    **{
        name: [name]
        for name in (
            "weston-clickdot",
            "weston-cliptest",
            "weston-dnd",
            "weston-eventdemo",
            "weston-flower",
            "weston-fullscreen",
            "weston-presentation-shm",
            "weston-resizor",
            "weston-scaler",
            "weston-simple-egl",
            "weston-simple-shm",
            "weston-smoke",
            "weston-stacking",
            "weston-subsurfaces",
            "weston-tablet",
            "weston-transformed",
        )
    },
    "gtk4-demo": ["gtk4-demo"],
    "qt6": ["python3", "/opt/qt_window.py"],
    "x11-in-cage": ["cage", "--", "xterm"],
    "x11-in-xwayland": ["sh", "-c", ROOTFUL],
}
QT_WINDOW = """\
import sys
from PyQt6.QtWidgets import QApplication, QLabel
app = QApplication(sys.argv)
label = QLabel("wlproxy")
label.resize(333, 200)
label.show()
sys.exit(app.exec())
"""
ENVIRONMENT = {
    "GSK_RENDERER": "cairo",
    "QT_QPA_PLATFORM": "wayland",
    "WLR_BACKENDS": "wayland",
    "WLR_RENDERER": "pixman",
    "HOME": "/root",
}
DESKTOP = bytes.fromhex("336699")
RECTANGLE = ("x", "y", "width", "height")
FEWEST = {"weston-smoke": 1}
"""Colours of a window: it is a veil over the desktop until a pointer makes smoke."""
DMABUF = "zwp_linux_dmabuf_v1"
FORMAT = re.compile(r"= '(\w{4})'")
SECONDS = {"gtk4-demo": 150, "qt6": 150, "weston-simple-egl": 120}


@pytest.fixture(scope="module")
def proxy(proxy_slot: ProxySlot, sway: Compositor) -> Proxy:
    """A proxy on sway, which has a seat and most globals, and here a colour."""
    background = ["output", "*", "bg", f"#{DESKTOP.hex()}", "solid_color"]
    swaymsg(sway, "command", *background)
    eventually(lambda: colours(sway.capture()) == {DESKTOP}, "the desktop's colour")
    return proxy_slot.use(sway)


@pytest.fixture(scope="module", autouse=True)
def qt_window(guest_side: GuestSide) -> None:
    guest_side.guest.put("/opt/qt_window.py", QT_WINDOW.encode())


def windows(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the windows in a part of sway's tree."""
    if node.get("pid"):
        yield node
    for each in (*node["nodes"], *node["floating_nodes"]):
        yield from windows(each)


def colours(picture: Picture) -> set[bytes]:
    """Return the colours in a picture, as red, green, blue."""
    pixels = set(memoryview(picture.data).cast("I"))
    return {each.to_bytes(4, sys.byteorder)[2::-1] for each in pixels}


def look_at_window(sway: Compositor, path: Path) -> set[bytes]:
    """Return the colours in the place that sway gives to the only window; keep a
    picture of it.

    What is smaller than its place is in the corner of it, the desktop around it.
    """
    found = list(windows(swaymsg(sway, "get_tree")))
    assert len(found) <= 1, f"{len(found)} windows"
    if not found:
        return set()
    x, y, width, height = (found[0]["rect"][each] for each in RECTANGLE)
    rows = sway.capture().rows(x, y, width, height)
    picture = Picture(width, height, b"".join(rows))
    picture.save(path)
    return colours(picture) - {DESKTOP}


@pytest.mark.parametrize("app", APPS)
def test_an_app_shows_its_window(
    proxy: Proxy, sway: Compositor, guest_side: GuestSide, app: str
) -> None:
    """Its surface in mode A or B, its pixels on the screen; and it goes on."""
    proxy.wait_no_clients()
    log = f"/run/app-{app}.log"
    path = harness.OUT / f"app-{app}.ppm"
    pid = guest_side.app(*APPS[app], log=log, env=ENVIRONMENT)

    def shown() -> list[dict[str, object]]:
        return [each for each in proxy.surfaces() if each["mode"] in ("A", "B")]

    def drawn() -> bool:
        return len(look_at_window(sway, path)) >= FEWEST.get(app, 2)

    try:
        surfaces = guest_side.wait_app(pid, log, shown, SECONDS.get(app, 60))
        with (harness.OUT / "apps.jsonl").open("a") as file:
            file.write(json.dumps({"app": app, "surfaces": surfaces}) + "\n")
        guest_side.wait_app(pid, log, drawn)

        # And it stays: the answer to what it was sent last precedes this one's end.
        assert guest_side.run_app("wayland-info").ok
        guest_side.wait_app(pid, log, drawn)
        left = {each["surface"] for each in shown()}
        assert {each["surface"] for each in surfaces} <= left
        assert all(each["mode"] in ("A", "B") for each in proxy.surfaces())
        assert proxy.copied() == 0
        assert "protocol error" not in proxy.log()
    finally:
        guest_side.kill_app(pid)


SWAY_KEEPS_BACK = {"zxdg_output_manager_v1"}
"""From clients of a security context (sway 1.10: server.c, is_privileged)."""


def test_wayland_info_differs_from_direct_by_policy_alone(
    proxy: Proxy, sway: Compositor, guest_side: GuestSide
) -> None:
    """In every line but the globals' numbers: those are a registry's own.

    So outputs, seats, the clock and the formats of `wl_shm` are the host's.  A monitor's
    description, which may tell its serial, is made anew of its maker and model.
    """
    proxy.wait_no_clients()
    done = subprocess.run(
        ["wayland-info"], env=_on(sway), capture_output=True, text=True, check=True
    )
    direct = wayland_info.parse(done.stdout)
    through = guest_side.run_app("wayland-info")
    assert through.ok, through.stderr.decode()
    proxied = wayland_info.parse(through.stdout.decode())

    policy = effective_policy()
    assert proxy.status()["isolated"]
    # linux-dmabuf is our own, whatever the compositor has: this one has none.
    (dmabuf,) = (each for each in proxied if each.interface == DMABUF)
    assert DMABUF not in {each.interface for each in direct}
    assert dmabuf.version == policy[DMABUF]
    proxied.remove(dmabuf)

    # A global that the policy caps, says what that version of it says: none is, here.
    assert proxied == [
        described_anew(each)
        for each in direct
        if each.interface in policy and each.interface not in SWAY_KEEPS_BACK
    ]
    assert all(each.version <= policy[each.interface] for each in proxied)
    hidden = {each.interface for each in direct} - {each.interface for each in proxied}
    print(f"hidden: {' '.join(sorted(hidden))}")
    assert {"zwlr_screencopy_manager_v1", "zwp_virtual_keyboard_manager_v1"} <= hidden

    # It names a device of the guest; and the formats are those that can be shown here.
    told = "\n".join(dmabuf.details)
    assert f"main device: {main_device(guest_side):#X}".lower() in told.lower()
    (shm,) = (each for each in proxied if each.interface == "wl_shm")
    assert set(FORMAT.findall(told)) == set(FORMAT.findall("\n".join(shm.details)))
    # wl_output tells the most: it has not come out empty.
    assert any("1024 px" in line for each in proxied for line in each.details)


def described_anew(found: wayland_info.Global) -> wayland_info.Global:
    """Expect of sway's headless monitor what the proxy says of it."""
    sways, ours = "description: Headless output 1", "description: Unknown Unknown"
    details = tuple(ours if each == sways else each for each in found.details)
    assert (details != found.details) == (found.interface == "wl_output")
    return replace(found, details=details)


def main_device(guest_side: GuestSide) -> int:
    """Return the number of the guest's first render node."""
    command = ["stat", "-c", "%Hr %Lr", "/dev/dri/renderD128"]
    major, minor = map(int, guest_side.guest.run(command).stdout.split())
    return os.makedev(major, minor)


@pytest.fixture
def keyboard(sway: Compositor) -> Iterator[None]:
    """A keyboard in sway's seat for as long as the test lasts."""
    environment = _on(sway)
    with subprocess.Popen(
        ["wtype", "-s", "600000", "-k", "Shift_L"], env=environment
    ) as held:
        yield
        held.kill()


def swaymsg(sway: Compositor, kind: str, *words: str) -> Any:
    """Send sway a message of some kind, and return its answer."""
    socket = str(sway.display.parent / "sway.sock")
    command = ["swaymsg", "--socket", socket, "--raw", "-t", kind, *words]
    return json.loads(subprocess.check_output(command, env=_on(sway), timeout=30))


def _on(sway: Compositor) -> dict[str, str]:
    path = shutil.which("sway") or "/usr/bin/sway"
    return {
        "PATH": path.rpartition("/")[0] + ":/usr/bin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "WAYLAND_DISPLAY": str(sway.display),
        "XDG_RUNTIME_DIR": str(sway.display.parent),
    }


@pytest.mark.usefixtures("keyboard")
def test_what_is_typed_on_the_host_arrives_in_a_terminal_of_the_guest(
    proxy: Proxy, sway: Compositor, guest_side: GuestSide
) -> None:
    proxy.wait_no_clients()
    guest = guest_side.guest
    guest.run(["rm", "-f", "/run/typed", "/run/shell-is-up"])
    shell = "touch /run/shell-is-up; exec sh"
    foot = guest_side.app("foot", "sh", "-c", shell, log="/run/foot-typed.log")
    try:
        up = ["test", "-e", "/run/shell-is-up"]
        guest_side.wait_app(foot, "/run/foot-typed.log", lambda: guest.run(up).ok)
        eventually(proxy.surfaces, "foot's window")
        text = "echo 'Grüße, [virtual] \\ world' > /run/typed"
        command = ["wtype", "-d", "20", text, "-k", "Return"]
        subprocess.run(command, env=_on(sway), check=True, timeout=60)
        eventually(lambda: guest.run(["test", "-s", "/run/typed"]).ok, "the command")
        assert guest.get("/run/typed").decode() == "Grüße, [virtual] \\ world\n"
    finally:
        guest_side.kill_app(foot)


@pytest.mark.usefixtures("keyboard")
def test_the_guest_pastes_what_the_host_copied(
    proxy: Proxy, sway: Compositor, guest_side: GuestSide
) -> None:
    proxy.wait_no_clients()
    text = "from the host: äöü " * 500
    subprocess.run(
        ["wl-copy", "--type", "text/plain;charset=utf-8"],
        input=text.encode(),
        env=_on(sway),
        check=True,
        timeout=30,
    )
    pasted = guest_side.run_app("wl-paste", "--no-newline")
    assert pasted.ok, pasted.stderr.decode()
    assert pasted.stdout.decode() == text


@pytest.mark.usefixtures("keyboard")
def test_the_host_pastes_what_the_guest_copied(
    proxy: Proxy, sway: Compositor, guest_side: GuestSide
) -> None:
    proxy.wait_no_clients()
    text = "from the guest: ß € " * 500
    guest_side.guest.put("/run/copied", text.encode())
    script = "exec wl-copy --foreground --type text/plain </run/copied"
    copier = guest_side.app("sh", "-c", script, log="/run/wl-copy.log")
    try:

        def paste() -> str:
            done = subprocess.run(
                ["wl-paste", "--no-newline"],
                env=_on(sway),
                capture_output=True,
                check=False,
                timeout=30,
            )
            return done.stdout.decode()

        eventually(lambda: paste() == text, "the host has it", pause=0.5)
    finally:
        guest_side.kill_app(copier)
