"""`wlproxy ram-tap` as a user starts it, with a real QEMU where there is one."""

import grp
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from lab.qemu import Qmp
from wlproxy.cli import main
from wlproxy.host.qemu.tapped import TapClient

GROUP = grp.getgrgid(os.getegid()).gr_name


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}


class Tap:
    """The command, as it runs."""

    def __init__(self, environ: Mapping[str, str], *options: str) -> None:
        words = [sys.executable, "-m", "wlproxy", "ram-tap", "--name", "work", *options]
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ready.bind(f"{environ['XDG_RUNTIME_DIR']}/notify")
        self._ready.settimeout(30)
        self.process = subprocess.Popen(
            words,
            env={**environ, "NOTIFY_SOCKET": f"{environ['XDG_RUNTIME_DIR']}/notify"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._ready.recv(100) == b"READY=1"
        self._ready.close()
        Path(environ["XDG_RUNTIME_DIR"], "notify").unlink()

    def wait_said(self, words: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if words in line:
                return
        pytest.fail(f"it never said {words!r}")

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.wait(30)


@pytest.fixture
def tap(environ: Mapping[str, str]) -> Iterator[Tap]:
    tap = Tap(environ, "--group", GROUP)
    yield tap
    if tap.process.poll() is None:
        assert tap.end() == 0


def test_its_sockets_are_there_while_it_runs(tap: Tap, tmp_path: Path) -> None:
    vmm, table = tmp_path / "wlproxy-work.ram", tmp_path / "wlproxy" / "work.ram"
    assert stat.S_IMODE(vmm.stat().st_mode) == 0o660
    assert stat.S_IMODE(table.stat().st_mode) == 0o600
    assert stat.S_IMODE(table.parent.stat().st_mode) == 0o700
    assert tap.end(signal.SIGINT) == 0
    assert not vmm.exists()
    assert not table.exists()


@pytest.mark.usefixtures("tap")
def test_there_is_one_of_a_name(environ: Mapping[str, str]) -> None:
    result = CliRunner().invoke(main, ["ram-tap", "--name", "work"], env=environ)
    assert result.exit_code == 1
    assert "runs already" in result.output


def test_one_that_was_killed_is_replaced(tap: Tap, environ: Mapping[str, str]) -> None:
    assert tap.end(signal.SIGKILL) == -signal.SIGKILL
    assert Tap(environ).end() == 0


def test_a_group_that_is_none(environ: Mapping[str, str]) -> None:
    arguments = ["ram-tap", "--group", "no such group"]
    result = CliRunner().invoke(main, arguments, env=environ)
    assert result.exit_code == 1
    assert "cannot be let in" in result.output
    assert "You must be in the group" in result.output


@pytest.mark.skipif(
    not shutil.which("qemu-system-x86_64"), reason="no qemu-system-x86_64"
)
def test_a_qemu_connects_and_can_be_saved(
    tap: Tap, environ: Mapping[str, str], tmp_path: Path
) -> None:
    """A VM with the device has nothing that hinders `virsh save`, and takes as many DIMMs."""
    arguments = ["qemu-args", "--memory", "64M", "--name", "work", "--ram-tap"]
    printed = CliRunner().invoke(main, arguments, env=environ).output
    own = ["-S", "-display", "none", "-nodefaults", "-accel", "tcg"]
    own += ["-qmp", f"unix:{tmp_path}/qmp,server=on,wait=off"]
    words = shlex.split(printed.replace("\\\n", " "))
    with subprocess.Popen(["qemu-system-x86_64", *own, *words]) as qemu:
        try:
            tap.wait_said(f"process {qemu.pid} is connected")
            with Qmp(tmp_path / "qmp") as qmp:
                assert not qmp("query-migrate").get("blocked-reasons")
                with TapClient(tmp_path / "wlproxy" / "work.ram") as client:
                    table = client.receive()
                assert (table.pid, table.regions) == (qemu.pid, ())
                qmp("quit")
        finally:
            qemu.kill()
        tap.wait_said(f"process {qemu.pid} has hung up")
