"""`wlproxy xl-cfg`, `wlproxy xen-gntdev`, and Xen's options of `wlproxy run`."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner

from wlproxy.cli import main
from wlproxy.commands import run as run_command
from wlproxy.host.config import HostConfig
from wlproxy.host.errors import GrantError
from wlproxy.host.xen.domain import Domain, find_domain
from wlproxy.host.xen.lending import LentGrants


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that others may enter, as a place for a user's socket is."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


def test_the_lines_for_xl(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    printed = CliRunner().invoke(
        main, "xl-cfg --name work --grant-frames 256", env=environ
    )
    assert printed.exit_code == 0, printed.output
    assert f"path={tmp_path}/wlproxy-work.channel" in printed.output
    assert "max_grant_frames = 256\n" in printed.output
    assert "14 of 3840x2160" in printed.output


def test_a_path_that_xl_cannot_have() -> None:
    refused = CliRunner().invoke(main, "xl-cfg --channel /a,b")
    assert refused.exit_code == 2
    assert "xl.cfg has no way to write" in refused.output


def test_no_place_for_a_socket() -> None:
    refused = CliRunner().invoke(main, "xl-cfg", env={"XDG_RUNTIME_DIR": ""})
    assert refused.exit_code == 1


def test_run_with_a_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[HostConfig] = []

    async def serve(config: HostConfig) -> None:
        configs.append(config)

    monkeypatch.setattr(run_command, "run_server", serve)
    result = CliRunner().invoke(
        main,
        "run --channel vsock:3:5 --xen-domid 7 --xen-gntdev /g --xen-grant-frames 128",
        env={"XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert result.exit_code == 0, result.output
    [config] = configs
    assert (config.xen_domid, config.xen_gntdev) == (7, Path("/g"))
    assert config.xen_grant_frames == 128


def start(directory: Path, user: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "wlproxy", "xen-gntdev", "--domid", "5"),
            *("--socket", str(directory / "socket"), "--user", user),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_without_gntdev_it_says_what_to_do(directory: Path) -> None:
    if Path("/dev/xen/gntdev").exists():
        pytest.skip("this machine has a /dev/xen/gntdev")
    with start(directory, str(os.geteuid())) as process:
        _, said = process.communicate(timeout=30)
        assert process.returncode == 1
    assert "modprobe xen-gntdev" in said
    assert not (directory / "socket").exists()


@contextmanager
def serving(
    program: str, command: str, path: Path
) -> "Iterator[subprocess.Popen[str]]":
    """Have a command serve this user, by a program that stands for its devices, until it is stopped."""
    words = [sys.executable, "-c", program, command, "--domid", "5"]
    with subprocess.Popen(
        [*words, "--socket", str(path), "--user", str(os.geteuid())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_uid == os.geteuid()
        yield process
    assert not path.exists()


SERVING = """
import sys
from pathlib import Path
from wlproxy.commands import xen_gntdev
from wlproxy.host.xen import gntdev
# A device that can be opened, and takes no grants.
xen_gntdev.Gntdev = lambda domid: gntdev.Gntdev(domid, Path("/dev/null"))
xen_gntdev.notify = lambda *_: print("ready", flush=True)
from wlproxy.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_it_serves_a_user_until_it_is_told_to_stop(directory: Path) -> None:
    path = directory / "socket"
    with serving(SERVING, "xen-gntdev", path) as process:
        granted = LentGrants(path)
        assert granted.limit() > 0
        with pytest.raises(GrantError, match="could not make a fd"):
            granted.open([(8, 1)])
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(str(path))
        assert granted.limit() > 0
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0
    assert "domain 5" in said


def test_a_user_who_is_not_there(directory: Path) -> None:
    arguments = (
        f"xen-gntdev --domid 5 --socket {directory}/s --user nobody-of-that-name"
    )
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert "there is no user" in refused.output


@pytest.mark.parametrize("domid", ["0", "32752", "x"])
def test_domains_that_are_none(domid: str) -> None:
    refused = CliRunner().invoke(
        main, f"xen-gntdev --domid {domid} --socket /s --user root"
    )
    assert refused.exit_code == 2


@pytest.mark.slow
def test_a_vchan_says_what_it_lacks(directory: Path) -> None:
    if Path("/dev/xen/gntdev").exists():
        pytest.skip("this machine has a /dev/xen/gntdev")
    refused = CliRunner().invoke(
        main, f"xen-vchan --domid 5 --socket {directory}/s --user {os.geteuid()}"
    )
    assert refused.exit_code == 1
    assert "modprobe xen-gntdev" in refused.output
    assert not (directory / "s").exists()


VCHAN = """
import os, sys
from wlproxy.commands import xen_vchan
class NoVchans:
    def __init__(self, *_): self.fd = os.eventfd(0)
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def open(self): return None
    def fileno(self): return self.fd
xen_vchan.open_device = lambda: open("/dev/null")
xen_vchan.Library = lambda: None
xen_vchan.DomainVchans = NoVchans
xen_vchan.notify = lambda *_: print("ready", flush=True)
from wlproxy.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_vchans_socket_is_a_users_and_tells_the_domain(directory: Path) -> None:
    path = directory / "socket"
    with (
        serving(VCHAN, "xen-vchan", path) as process,
        socket.socket(socket.AF_UNIX) as channel,
    ):
        channel.connect(str(path))
        assert find_domain(channel) == Domain(5, process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
