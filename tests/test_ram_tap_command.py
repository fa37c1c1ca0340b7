"""`wlproxy ram-tap` as a user starts it, with a real QEMU where there is one."""

import fcntl
import grp
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner

from lab.qemu import Qmp
from tests.host.vhost_user.front_end import answer_of, ask, u64
from tests.peers.ram_tap import SECONDS, RamTap
from wlproxy.cli import main
from wlproxy.host.qemu.tapped import TapClient
from wlproxy.host.vhost_user.messages import Request

GROUP = grp.getgrgid(os.getegid()).gr_name


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that a group may enter: pytest's are its user's alone."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}


@pytest.fixture
def tap(environ: Mapping[str, str]) -> Iterator[RamTap]:
    tap = RamTap(environ, "--group", GROUP)
    yield tap
    if tap.process.poll() is None:
        assert tap.end() == 0


def test_its_sockets_are_there_while_it_runs(tap: RamTap, tmp_path: Path) -> None:
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


def test_one_that_was_killed_is_replaced(
    tap: RamTap, environ: Mapping[str, str]
) -> None:
    assert tap.end(signal.SIGKILL) == -signal.SIGKILL
    assert RamTap(environ).end() == 0


def test_a_group_that_is_none(environ: Mapping[str, str]) -> None:
    arguments = ["ram-tap", "--group", "no such group"]
    result = CliRunner().invoke(main, arguments, env=environ)
    assert result.exit_code == 1
    assert "there is no group" in result.output
    assert "There are: " in result.output


def test_a_log_that_nobody_reads_holds_up_no_vmm(
    environ: Mapping[str, str], tmp_path: Path
) -> None:
    """Its reader is stopped, as a pager may be, and the pipe is full."""
    tap = RamTap(environ)
    assert tap.process.stderr is not None
    try:
        fcntl.fcntl(tap.process.stderr, fcntl.F_SETPIPE_SZ, 4096)
        for _ in range(200):
            with socket.socket(socket.AF_UNIX) as nonsense:
                nonsense.connect(str(tmp_path / "wlproxy-work.ram"))
                nonsense.settimeout(SECONDS)
                nonsense.send(b"GET / HTTP/1.0\r\n")
                with suppress(ConnectionResetError):
                    assert nonsense.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as vmm:
            vmm.connect(str(tmp_path / "wlproxy-work.ram"))
            vmm.settimeout(SECONDS)
            vmm.send(ask(Request.GET_QUEUE_NUM))
            assert answer_of(vmm.recv(100)) == u64(256)
        tap.send(signal.SIGTERM)
        assert tap.process.wait(SECONDS) == 0
    finally:
        tap.end_anyhow()
        tap.process.stderr.close()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
def test_a_socket_that_others_could_make(
    environ: Mapping[str, str], tmp_path: Path, mode: int
) -> None:
    """A sticky bit only keeps them from removing ours."""
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(mode)
    arguments = ["ram-tap", "--socket", str(place / "ram")]
    result = CliRunner().invoke(main, arguments, env=environ)
    assert result.exit_code == 1
    assert f"others can write to {place}" in result.output
    assert f"chmod go-w {place}" in result.output
    assert not (place / "ram").exists()


@pytest.mark.skipif(
    not shutil.which("qemu-system-x86_64"), reason="no qemu-system-x86_64"
)
def test_a_qemu_connects_and_can_be_saved(
    tap: RamTap, environ: Mapping[str, str], tmp_path: Path
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
