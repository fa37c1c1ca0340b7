"""Commands and apps of a real guest, started from the host as a user would."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.harness import (
    GUEST_DISPLAY,
    GUEST_TREE,
    RUNTIME,
    Compositor,
    GuestSide,
    Proxy,
    ProxySlot,
    eventually,
)
from tests.integration.test_apps import swaymsg, windows
from wlproxy_guest.launcher.entries import read_entry

pytestmark = [pytest.mark.guest, pytest.mark.timeout(400)]

LAUNCH = "/run/launch"
USER = "lab"
"""An ordinary user of the guest."""
LOG = "/run/launcher.log"


@pytest.fixture(scope="module", autouse=True)
def launcher(guest_side: GuestSide) -> Iterator[int]:
    """An agent that lets the user's launcher in, and that."""
    guest = guest_side.guest
    guest_side.stop_agent()
    guest_side.start_agent(
        "wlproxy_guest", "--launch-socket", LAUNCH, "--launch-user", USER
    )
    eventually(lambda: guest.run(["test", "-S", LAUNCH]).ok, "the agent listens")
    # As its unit's socket is: for every user.
    assert guest.run(["chmod", "666", GUEST_DISPLAY]).ok
    argv = ["python3", "-m", "wlproxy_guest.launcher.service"]
    argv += ["--agent", LAUNCH, "--display", GUEST_DISPLAY]
    home = guest.run(["sh", "-c", f"echo ~{USER}"]).stdout.decode().strip()
    runtime = "/run/user-lab"
    guest.run(["install", "-d", "-m700", "-o", USER, runtime])
    environment = {"PYTHONPATH": GUEST_TREE, "HOME": home, "XDG_RUNTIME_DIR": runtime}
    pid = guest.spawn(argv, env=environment, log=LOG, user=USER)
    yield pid
    guest_side.kill_app(pid)
    print(guest.get(LOG).decode())
    guest_side.stop_agent()
    guest_side.start_agent()


@pytest.fixture
def proxy(proxy_slot: ProxySlot, sway: Compositor) -> Proxy:
    proxy = proxy_slot.use(sway)
    eventually(lambda: proxy.status()["launchers"] == [USER], "the launcher is there")
    return proxy


def wlproxy(
    *words: str, data: Path | None = None
) -> "subprocess.CompletedProcess[bytes]":
    return run([sys.executable, "-m", "wlproxy", *words], data)


def run(
    argv: list[str], data: Path | None = None
) -> "subprocess.CompletedProcess[bytes]":
    environment = os.environ | {
        "XDG_RUNTIME_DIR": str(RUNTIME),
        "XDG_DATA_HOME": str(data or "/nowhere"),
    }
    return subprocess.run(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_a_command_runs_as_the_user(proxy: Proxy, guest_side: GuestSide) -> None:
    done = wlproxy("exec", "vm", "--", "sh", "-c", "id -un; uname -n; exit 7")

    guest = guest_side.guest.run(["uname", "-n"]).stdout
    assert (done.returncode, done.stdout) == (7, f"{USER}\n".encode() + guest), (
        done.stderr
    )
    assert b"XDG_DATA_HOME" not in wlproxy("exec", "vm", "--", "env").stdout


def test_a_window_of_a_command_is_here(proxy: Proxy, sway: Compositor) -> None:
    """And goes when the host's end of the command does."""
    with subprocess.Popen(
        [sys.executable, "-m", "wlproxy", "exec", "vm", "--", "weston-simple-shm"],
        env=os.environ | {"XDG_RUNTIME_DIR": str(RUNTIME)},
        stdin=subprocess.DEVNULL,
    ) as process:
        eventually(proxy.surfaces, "the window")
        assert proxy.surface()["mode"] in ("A", "B")
        process.terminate()
        assert process.wait(60) == 128 + 15
    proxy.wait_no_clients()


def test_an_app_is_exported_and_started_from_its_entry(
    proxy: Proxy, sway: Compositor, tmp_path: Path
) -> None:
    """The file has the name that the compositor has for the app's window."""
    done = wlproxy("apps", "vm", "--export", data=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = wlproxy("apps", "vm").stdout.decode()
    print(done.stdout.decode(), listed)
    path = tmp_path / "applications" / "wlproxy.vm.foot.desktop"
    assert "Name=Foot (vm)\n" in path.read_text()

    started = run(read_entry("foot", path).argv(), tmp_path)
    assert started.returncode == 0, started.stderr

    def app_ids() -> list[str]:
        return [each["app_id"] for each in windows(swaymsg(sway, "get_tree"))]

    eventually(lambda: path.stem in app_ids(), "foot's window")
    assert wlproxy("exec", "vm", "--", "pkill", "-x", "foot").returncode == 0
    proxy.wait_no_clients()
    icons = sorted(icon.relative_to(tmp_path) for icon in tmp_path.rglob("*.png"))
    print(*icons, sep="\n")
    assert icons
