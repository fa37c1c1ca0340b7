"""Real apps through the whole path: which show their windows, and how."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.integration import harness
from tests.integration.harness import (
    Compositor,
    GuestSide,
    Proxy,
    ProxySlot,
    eventually,
)
from wlproxy.relay.policy import effective_policy

pytestmark = [pytest.mark.guest, pytest.mark.timeout(240)]

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
            "weston-simple-damage",
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
ENVIRONMENT = {"GSK_RENDERER": "cairo", "QT_QPA_PLATFORM": "wayland", "HOME": "/root"}
SECONDS = {"gtk4-demo": 150, "qt6": 150, "weston-simple-egl": 120}


@pytest.fixture(scope="module")
def proxy(proxy_slot: ProxySlot, sway: Compositor) -> Proxy:
    """A proxy on sway, which has a seat and most globals."""
    return proxy_slot.use(sway)


@pytest.fixture(scope="module", autouse=True)
def qt_window(guest_side: GuestSide) -> None:
    guest_side.guest.put("/opt/qt_window.py", QT_WINDOW.encode())


@pytest.mark.parametrize("app", APPS)
def test_an_app_shows_its_window(proxy: Proxy, guest_side: GuestSide, app: str) -> None:
    proxy.wait_no_clients()
    log = f"/run/app-{app}.log"
    pid = guest_side.app(*APPS[app], log=log, env=ENVIRONMENT)

    def shown() -> list[dict[str, object]]:
        return [each for each in proxy.surfaces() if each["mode"] in ("A", "B")]

    try:
        surfaces = guest_side.wait_app(pid, log, shown, SECONDS.get(app, 60))
        with (harness.OUT / "apps.jsonl").open("a") as file:
            file.write(json.dumps({"app": app, "surfaces": surfaces}) + "\n")
        assert proxy.copied() == 0
        # And it stays: no protocol error follows the first frame.
        assert "protocol error" not in proxy.log()
    finally:
        guest_side.kill_app(pid)


GLOBAL = re.compile(r"interface: '(\w+)',\s+version:\s+(\d+)")


SWAY_KEEPS_BACK = {"zxdg_output_manager_v1"}
"""From clients of a security context (sway 1.10: server.c, is_privileged)."""


def test_wayland_info_differs_from_direct_by_policy_alone(
    proxy: Proxy, sway: Compositor, guest_side: GuestSide
) -> None:
    done = subprocess.run(
        ["wayland-info"], env=_on(sway), capture_output=True, text=True, check=True
    )
    direct = {name: int(version) for name, version in GLOBAL.findall(done.stdout)}
    through = guest_side.run_app("wayland-info")
    assert through.ok, through.stderr.decode()
    found = GLOBAL.findall(through.stdout.decode())
    proxied = {name: int(version) for name, version in found}

    policy = effective_policy()
    assert proxy.status()["isolated"]
    expected = {
        name: min(version, policy[name])
        for name, version in direct.items()
        if name in policy and name not in SWAY_KEEPS_BACK
    }
    # Our own, whatever the compositor has.
    expected["zwp_linux_dmabuf_v1"] = policy["zwp_linux_dmabuf_v1"]
    assert proxied == expected
    hidden = sorted(direct.keys() - proxied.keys())
    print(f"hidden: {' '.join(hidden)}")
    assert "zwlr_screencopy_manager_v1" in hidden
    assert "zwp_virtual_keyboard_manager_v1" in hidden
    assert "wl_compositor" in proxied


@pytest.fixture
def keyboard(sway: Compositor) -> Iterator[None]:
    """A keyboard in sway's seat for as long as the test lasts."""
    environment = _on(sway)
    with subprocess.Popen(
        ["wtype", "-s", "600000", "-k", "Shift_L"], env=environment
    ) as held:
        yield
        held.kill()


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
