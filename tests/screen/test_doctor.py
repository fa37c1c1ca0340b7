import os
import socket
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from tests.peers.compositor import Compositor
from tests.peers.qmp import GREETING, FakeMonitor
from tests.screen.conftest import MakeMachine
from wlproxy.cli import main
from wlproxy.host.doctor import Finding, Verdict
from wlproxy.host.runtime_dir import screen_path
from wlproxy.screen.doctor import examine_screen, judge, judge_viewer
from wlproxy.screen.holders import Holder

DBUS = {"type": "dbus", "p2p": True}


def qemu(directory: Path, script: str) -> str:
    """A QEMU that says what it has."""
    program = directory / "qemu"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_the_module_is_missing(tmp_path: Path) -> None:
    program = qemu(
        tmp_path, "echo Available display backend types:; echo none; echo gtk"
    )
    found, last = examine_screen(tmp_path / "none", program)
    assert found.verdict is Verdict.WARNING
    assert "ui-dbus.so is missing" in found.explanation
    assert "qemu-system-modules-opengl" in found.remedy
    assert (last.verdict, last.explanation[:10]) == (Verdict.OK, "no monitor")


def test_the_module_is_there(tmp_path: Path) -> None:
    program = qemu(tmp_path, "echo none; echo dbus")
    assert len(examine_screen(tmp_path / "none", program)) == 1


def test_there_is_no_qemu(tmp_path: Path) -> None:
    assert len(examine_screen(tmp_path / "none", "no-such-qemu")) == 1


def test_a_qemu_that_cannot_be_run(tmp_path: Path) -> None:
    program = tmp_path / "qemu"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o755)
    found, _ = examine_screen(tmp_path / "none", str(program))
    assert "does not answer" in found.explanation


def test_a_monitor_that_is_not_served(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "q"))
    found = examine_screen(tmp_path / "q", "no-such-qemu")
    assert [each.verdict for each in found] == [Verdict.PROBLEM]
    assert "no answer from QEMU's monitor" in found[0].explanation


@pytest.mark.parametrize(
    ("options", "devices", "verdict", "said"),
    [
        (DBUS, "", Verdict.OK, "is D-Bus"),
        (DBUS, "    blob = false\n", Verdict.OK, "is D-Bus"),
        (DBUS, "    blob = true\n", Verdict.WARNING, "stdin"),
        ({**DBUS, "gl": "off"}, "    blob = true\n", Verdict.WARNING, "stdin"),
        ({**DBUS, "gl": "es"}, "    blob = true\n", Verdict.OK, "is D-Bus"),
        ({"type": "dbus"}, "", Verdict.PROBLEM, "without p2p"),
        ({"type": "gtk"}, "", Verdict.PROBLEM, "display is gtk"),
        (None, "", Verdict.PROBLEM, "display is None"),
    ],
)
def test_displays(options: object, devices: str, verdict: Verdict, said: str) -> None:
    (found,) = judge(options, devices)
    assert found.verdict is verdict
    assert said in found.explanation


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blob", "verdict"), [("off", Verdict.OK), ("on", Verdict.WARNING)]
)
def test_a_real_one(machine: MakeMachine, blob: str, verdict: Verdict) -> None:
    if blob == "on" and not Path("/dev/udmabuf").exists():
        pytest.skip("needs /dev/udmabuf, without which QEMU has no blobs")
    ram = "memory-backend-memfd,id=ram,size=32M,share=on"
    device = f"virtio-gpu-pci,blob={blob}"
    vm = machine(*("-object", ram, "-machine", "memory-backend=ram", "-device", device))
    found = examine_screen(vm.monitor)
    assert [each.verdict for each in found] == [verdict]


@pytest.mark.slow
def test_another_display(machine: MakeMachine) -> None:
    vm = machine("-vga", "std", "-display", "none")
    (found,) = examine_screen(vm.monitor)
    assert found == Finding(
        "screen",
        Verdict.PROBLEM,
        "QEMU's display is none",
        "Start it with what `wlproxy qemu-args --screen` prints.",
    )


def test_another_viewer_has_it(tmp_path: Path) -> None:
    """This process is QEMU: it has a monitor, and one end of a display's connection."""
    monitor = FakeMonitor(tmp_path / "q")
    monitor.serve(GREETING, {"return": {}}, {"return": DBUS}, {"return": ""})
    status = tmp_path / "wlproxy" / "work.sock"
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            viewer = subprocess.Popen(["sleep", "100"], pass_fds=[theirs.fileno()])
        with viewer:
            _, found = examine_screen(monitor.path, "no-such-qemu", status)
            viewer.kill()
    monitor.close()
    assert found.verdict is Verdict.WARNING
    assert found.explanation == (
        f"another viewer has it: process {viewer.pid} (sleep 100)"
    )
    assert "one viewer at a time" in found.remedy


def test_it_is_ours() -> None:
    found = judge_viewer(Holder(7, "wlproxy screen"), 7)
    assert found.verdict is Verdict.OK


@pytest.mark.slow
async def test_who_shows_it(machine: MakeMachine, tmp_path: Path) -> None:
    vm = machine("-vga", "std")
    compositor, path = Compositor(), tmp_path / "wl"
    status = tmp_path / "wlproxy" / "work.sock"
    words = "screen", "--name", "work", "--qmp", str(vm.monitor), "--display", str(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(compositor.run, path)
        viewer = await trio.lowlevel.open_process(
            [sys.executable, "-m", "wlproxy", *words],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )
        with trio.fail_after(30):
            while not screen_path(status).is_socket():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)
        for place, verdict, said in (
            (status, Verdict.OK, "it is shown by process"),
            (None, Verdict.WARNING, "another viewer has it: process"),
        ):
            examine = partial(examine_screen, vm.monitor, None, place)
            display, shown = await trio.to_thread.run_sync(examine)
            assert display.explanation == "QEMU's display is D-Bus"
            assert (shown.verdict, shown.explanation) == (
                verdict,
                f"{said} {viewer.pid} ({sys.executable} -m wlproxy {' '.join(words)})",
            )
        viewer.terminate()
        await viewer.wait()
        nursery.cancel_scope.cancel()
    assert len(await trio.to_thread.run_sync(examine)) == 1


def test_the_command_looks_at_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("wlproxy.host.vm_doctor.CHANNEL_SECONDS", 0.01)
    said = CliRunner().invoke(main, ["doctor", "--name", "work", "--json"]).output
    assert f"no monitor at {tmp_path}/wlproxy-work.qmp" in said
