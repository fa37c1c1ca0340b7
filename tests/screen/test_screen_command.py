"""`wlproxy screen` as a user starts it: a process with a real QEMU and a real weston."""

import json
import math
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.host.conftest import Weston, running_weston
from tests.screen.conftest import Machine, MakeMachine, has_text, wait_until
from tests.status_schema import judged
from wlproxy.cli import main
from wlproxy.commands import screen as command
from wlproxy.screen.connecting import connect_by_monitor

PATIENCE = 30


@pytest.fixture(scope="module")
def weston(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weston]:
    with running_weston(tmp_path_factory) as weston:
        yield weston


class Screen:
    """The command, as it runs."""

    def __init__(
        self, environ: Mapping[str, str], *options: str, fds: tuple[int, ...] = ()
    ) -> None:
        words = [sys.executable, "-m", "wlproxy", "screen", "--name", "work", *options]
        notify = Path(environ["XDG_RUNTIME_DIR"], f"notify-{random.random()}")
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ready.bind(str(notify))
        self._ready.settimeout(0.5)
        self._ended = False
        self.process = subprocess.Popen(
            words,
            env={**os.environ, **environ, "NOTIFY_SOCKET": str(notify)},
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=fds,
            start_new_session=True,  # as a service, which has no terminal
        )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                assert self._ready.recv(100) == b"READY=1"
                return
            if self.process.poll() is not None:
                raise AssertionError(f"it ended: {self.end()}")
        self.process.kill()
        raise AssertionError(f"not ready after {PATIENCE} s: {self.end()}")

    def hear(self, words: str) -> str:
        """Read what it says until it says this; return all of that."""
        assert self.process.stderr is not None
        said = ""
        for line in self.process.stderr:
            said += line
            if words in line:
                break
        return said

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Wait for its end, after a signal if one is given: status, and what it said."""
        if number is not None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE)
        self._ready.close()
        self._ended = True
        return self.process.returncode, said

    def end_anyhow(self) -> None:
        """Kill it, unless its end was waited for."""
        if not self._ended:
            self.end(signal.SIGKILL)


def resident(vm: Machine) -> int:
    """MiB of memory that QEMU has."""
    text = Path(f"/proc/{vm.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    assert found
    return int(found[1]) // 1024


@pytest.mark.slow
def test_it_ends_with_a_signal_or_with_qemu(
    machine: MakeMachine, weston: Weston
) -> None:
    vm = machine("-vga", "std")
    first = Screen(weston.environ, "--qmp", str(vm.monitor))
    first.wait_ready()
    status, said = first.end(signal.SIGTERM)
    assert (status, "Traceback" in said) == (0, False)
    second = Screen(weston.environ, "--qmp", str(vm.monitor))
    second.wait_ready()
    vm.stop()
    status, said = second.end()
    assert status == 1
    assert "QEMU has ended" in said
    assert "Traceback" not in said


def status_of(environ: Mapping[str, str]) -> dict[str, Any]:
    """What `wlproxy status` says of the screen of the only VM; nothing if there is none."""
    words = [sys.executable, "-m", "wlproxy", "status", "--json"]
    asked = subprocess.run(
        words, env={**os.environ, **environ}, capture_output=True, check=False
    )
    if asked.returncode:
        return {"uptime": math.inf, "surfaces": []}
    document = judged(json.loads(asked.stdout))
    assert document["name"] == "work"
    found: dict[str, Any] = document["screen"]
    return found


@pytest.mark.slow
def test_status_has_the_screen(machine: MakeMachine, weston: Weston) -> None:
    vm = machine("-vga", "std")
    first = Screen(weston.environ, "--qmp", str(vm.monitor))
    first.wait_ready()
    wait_until(
        lambda: any(each["frames"] for each in status_of(weston.environ)["surfaces"]),
        "a frame",
    )
    (surface,) = status_of(weston.environ)["surfaces"]
    assert (surface["mode"], surface["bytes_copied"]) == ("A", 0)
    began = time.monotonic()
    second = Screen(weston.environ, "--qmp", str(vm.monitor))
    second.wait_ready()
    assert first.end()[0] == 1
    wait_until(
        lambda: status_of(weston.environ)["uptime"] < time.monotonic() - began,
        "the status of the one that took its place",
    )
    assert second.end(signal.SIGTERM)[0] == 0
    assert not list(Path(weston.environ["XDG_RUNTIME_DIR"], "wlproxy").iterdir())


@pytest.mark.slow
def test_the_policy_is_read_again(
    machine: MakeMachine, weston: Weston, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[vm.work.policy]\nclipboard.direction = "of"\n')
    vm = machine("-vga", "std")
    options = "--qmp", str(vm.monitor), "--config", str(config)
    status, said = Screen(weston.environ, *options).end()
    assert (status, f"{config}:2: " in said) == (1, True)
    config.write_text('[vm.work.policy]\nclipboard.direction = "off"\n')
    screen = Screen(weston.environ, *options)
    screen.wait_ready()
    config.write_text('[vm.work.policy]\nclipboard.direction = "ask"\n')
    screen.process.send_signal(signal.SIGHUP)
    screen.hear(f'policy: clipboard.direction = "ask"  # {config}:2, at once')
    shown = subprocess.run(
        [sys.executable, "-m", "wlproxy", "policy", "show", "work"],
        env={**os.environ, **weston.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f'clipboard.direction = "ask"  # {config}:2' in shown.stdout
    assert screen.end(signal.SIGTERM)[0] == 0


@pytest.mark.slow
def test_it_waits_for_qemu_if_asked(
    machine: MakeMachine, weston: Weston, tmp_path: Path
) -> None:
    place = tmp_path / "q"
    screen = Screen(weston.environ, "--qmp", str(place), "--wait")
    waiting = "waiting: no answer from QEMU's monitor"
    for _ in range(2):
        assert waiting in screen.hear(waiting)
        vm = machine("-vga", "std")
        place.unlink(missing_ok=True)
        place.symlink_to(vm.monitor)
        screen.wait_ready()
        vm.stop()
        assert "in place (mode A)" in screen.hear("QEMU has ended")
    screen.hear(waiting)
    place.unlink()
    place.symlink_to(machine("-vga", "std").monitor)
    screen.wait_ready()
    assert screen.end(signal.SIGTERM)[0] == 0


@pytest.mark.slow
def test_a_socket_that_was_passed(machine: MakeMachine, weston: Weston) -> None:
    vm = machine("-vga", "std")
    with connect_by_monitor(vm.monitor) as qemu:
        number = qemu.fileno()
        screen = Screen(weston.environ, "--fd", str(number), fds=(number,))
    screen.wait_ready()
    assert screen.end(signal.SIGINT)[0] == 0


@pytest.mark.slow
def test_another_one_takes_its_place(machine: MakeMachine, weston: Weston) -> None:
    vm = machine("-vga", "std")
    first = Screen(weston.environ, "--qmp", str(vm.monitor))
    first.wait_ready()
    second = Screen(weston.environ, "--qmp", str(vm.monitor))
    status, said = first.end()
    assert status == 1
    assert "another viewer" in said
    second.wait_ready()
    assert second.end(signal.SIGTERM)[0] == 0


def test_no_monitor(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    status, said = Screen(environ, "--display", "none-such").end()
    assert status == 1
    assert f"no answer from QEMU's monitor at {tmp_path}/wlproxy-work.qmp" in said


@pytest.mark.slow
def test_what_qemu_args_prints_is_what_it_takes(
    machine: MakeMachine, weston: Weston, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = weston.environ["XDG_RUNTIME_DIR"]
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    words = ["qemu-args", "--name", "work", "--screen", "--memory", "64M"]
    words += ["--render-node", "none"]  # of what GL shows there is no `screendump`
    printed = CliRunner().invoke(main, words).output
    options = shlex.split(printed.replace("\\\n", " "))
    vm = machine(*options, alone=True)
    vm.wait_monitor(Path(runtime, "wlproxy-work.qmp"))
    screen = Screen(weston.environ)
    screen.wait_ready()
    wait_until(lambda: has_text(vm.picture()), "SeaBIOS's text")
    status, said = screen.end(signal.SIGTERM)
    assert (status, "in place (mode A)" in said) == (0, True), said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--qmp /x --fd 3", "only one of --qmp, --fd and --libvirt"),
        ("--fd 3 --libvirt work", "only one of --qmp, --fd and --libvirt"),
        ("--connect qemu:///system", "--connect is for --libvirt"),
        ("--fd 3 --wait", "--wait is not for --fd"),
    ],
)
def test_what_does_not_go_together(
    monkeypatch: pytest.MonkeyPatch, words: str, said: str
) -> None:
    monkeypatch.setattr(command, "set_up_logging", lambda _level: None)
    result = CliRunner().invoke(main, ["screen", *words.split()])
    assert (result.exit_code, said in result.output) == (2, True)
