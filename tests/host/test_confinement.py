"""What a proxy that has confined itself may still do, tried by a process that did."""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wlproxy.host import confinement
from wlproxy.host.channel_address import Listen
from wlproxy.host.config import HostConfig
from wlproxy.host.confinement import confine, rules
from wlproxy.host.errors import NoCompositorError
from wlproxy.host.landlock import abi
from wlproxy.host.policy_file import PolicySource
from wlproxy.host.report.vm_log import VmLog

DEVICE = Path("/dev/null")
"""In place of udmabuf, which not every machine has."""

needs_landlock = pytest.mark.skipif(not abi(), reason="this kernel has no Landlock")


def config_in(place: Path, **other: Any) -> HostConfig:
    settings: dict[str, Any] = {
        "ram_tap": place / "run" / "wlproxy" / "work.ram",
        "status": place / "run" / "wlproxy" / "work.sock",
        "policy_source": PolicySource("work", place / "settings" / "config.toml"),
    }
    return HostConfig(Listen(place / "run" / "channel"), "work", **settings | other)


class Confined:
    """A process that has confined itself as a proxy does, and then does what it is told to."""

    PROGRAM = """\
import errno, fcntl, json, os, socket, subprocess, sys, tempfile, termios
from pathlib import Path
from tests.host.test_confinement import DEVICE, VmLog, config_in, confine
place = Path(sys.argv[1])
config = config_in(place)
print(json.dumps(confine(config, VmLog("work"), device=DEVICE)), flush=True)
for line in sys.stdin:
    try:
        result = eval(line)
    except OSError as exc:
        result = errno.errorcode[exc.errno]
    print(json.dumps(result, default=lambda _: "done"), flush=True)
"""

    def __init__(self, place: Path) -> None:
        environ = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(place / "run"),
            "WAYLAND_DISPLAY": "wayland-0",
        }
        for name in ("DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET"):
            environ.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        self.said = self._answer()

    def do(self, expression: str) -> Any:
        """Evaluate something there; return its value, or the name of the error's number."""
        assert self.process.stdin is not None
        print(expression, file=self.process.stdin, flush=True)
        return self._answer()

    def end(self) -> None:
        self.process.communicate(timeout=30)

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "config.toml").write_text("[vm.work]\n")
    (tmp_path / "secret").write_text("of the user's")
    (tmp_path / "run" / "secret").write_text("of another program's")
    return tmp_path


@pytest.fixture
def confined(place: Path) -> Iterator[Confined]:
    process = Confined(place)
    yield process
    process.end()


@needs_landlock
def test_what_it_may_not_do(confined: Confined, place: Path) -> None:
    assert confined.said.startswith(
        f"to its own files, and no programs (Landlock {abi()}"
    )
    refused = [
        "open('/etc/passwd')",
        "open(place / 'secret')",
        "open(place / 'run' / 'secret')",
        "open(place / 'new', 'w')",
        "open(place / 'run' / 'new', 'w')",
        "open(place / 'settings' / 'config.toml', 'a')",
        "(place / 'secret').unlink()",
        "os.listdir(place)",
        "os.listdir('/root')",
        "(place / 'run' / 'link').symlink_to('/etc')",
        "subprocess.run(['/bin/true'])",
        "open('/proc/self/oom_score_adj', 'w')",
        "open(f'/proc/{os.getppid()}/fd/0', 'rb')",
        "open(f'/proc/{os.getppid()}/mem', 'rb')",
        "os.listdir(f'/proc/{os.getppid()}/root')",
    ]
    answers = {each: confined.do(each) for each in refused}
    assert answers == dict.fromkeys(refused, "EACCES")
    assert (place / "secret").read_text() == "of the user's"


@needs_landlock
def test_programs_get_no_new_rights(confined: Confined) -> None:
    status = confined.do("Path('/proc/self/status').read_text()")
    assert "NoNewPrivs:\t1" in status


@needs_landlock
def test_what_newer_kernels_forbid_too(confined: Confined) -> None:
    with socket.socket() as listener, socket.socket(socket.AF_UNIX) as abstract:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        name = f"wlproxy-test-{os.getpid()}"
        abstract.bind(f"\0{name}")
        abstract.listen()
        where = ("127.0.0.1", listener.getsockname()[1])
        tried = {
            f"socket.socket().connect({where!r})": 4,
            "socket.socket().bind(('127.0.0.1', 0))": 4,
            f"socket.socket(socket.AF_UNIX).connect('\\0{name}')": 6,
            "os.kill(os.getppid(), 0)": 6,
        }
        for each, since in tried.items():
            expected = ("EACCES", "EPERM") if abi() >= since else (None,)
            assert confined.do(each) in expected, each


@needs_landlock
def test_what_a_proxy_does_while_it_runs(confined: Confined, place: Path) -> None:
    """Each is a thing that some part of it does after it was confined."""
    with socket.socket(socket.AF_UNIX) as compositor:
        compositor.bind(str(place / "run" / "wayland-0"))
        compositor.listen()
        done = {
            # Modules, when they are needed.
            "__import__('wlproxy.host.desktop.udmabuf_watch') and None": None,
            "__import__('wlproxy.host.xen.grant_pages') and None": None,
            "__import__('sqlite3') and None": None,
            # Its sockets and locks, and those of a compositor that was restarted.
            "socket.socket(socket.AF_UNIX).bind(str(config.status))": None,
            "config.status.unlink()": None,
            "socket.socket(socket.AF_UNIX).bind(str(config.channel.path))": None,
            "config.channel.path.unlink()": None,
            "os.close(os.open(config.status.parent / 'channel-1.lock', "
            "os.O_RDWR | os.O_CREAT))": None,
            "(config.status.parent / 'channel-1.lock').read_text()": "",
            "(config.status.parent / 'channel-1.lock').unlink()": None,
            "socket.socket(socket.AF_UNIX).connect(str(place / 'run' / 'wayland-0'))": None,
            "os.mkdir(place / 'run' / 'wlproxy-context-1')": None,
            "socket.socket(socket.AF_UNIX).bind("
            "str(place / 'run' / 'wlproxy-context-1' / 'wayland'))": None,
            "os.unlink(place / 'run' / 'wlproxy-context-1' / 'wayland')": None,
            "os.rmdir(place / 'run' / 'wlproxy-context-1')": None,
            # Fds of its own, opened anew; and what others tell of themselves.
            "os.close(os.open(f'/proc/self/fd/{os.memfd_create(\"m\")}', os.O_RDWR))": None,
            "os.close(os.open(f'/proc/self/fd/{os.pipe()[0]}', os.O_RDONLY))": None,
            "bool(Path(f'/proc/{os.getppid()}/cmdline').read_bytes())": True,
            "bool(Path('/proc/self/uid_map').read_text())": True,
            # The device: the driver, and not Landlock, says that this is no ioctl of its.
            "fcntl.ioctl(os.open(DEVICE, os.O_RDWR), termios.TCGETS)": "ENOTTY",
        }
        assert {each: confined.do(each) for each in done} == done


@needs_landlock
def test_the_policy_is_read_again_even_if_its_file_is_another(
    confined: Confined, place: Path
) -> None:
    other = place / "other"
    other.write_text("[vm.work.policy.globals]\ndeny = ['wl_seat']\n")
    other.rename(place / "settings" / "config.toml")
    assert (
        confined.do("'wl_seat' in config.policy_source.read().policy.globals.caps")
        is False
    )


def test_a_file_that_is_a_link_is_read_where_it_is(place: Path) -> None:
    (place / "dotfiles").mkdir()
    link = place / "settings" / "config.toml"
    link.rename(place / "dotfiles" / "work.toml")
    link.symlink_to(place / "dotfiles" / "work.toml")
    environ = {"XDG_RUNTIME_DIR": str(place / "run")}
    paths = [rule.path for rule in rules(config_in(place), environ)]
    assert {place / "settings", place / "dotfiles"} <= set(paths)


def test_a_group_is_looked_up_only_if_it_is_let_in(place: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(place / "run")}
    config = config_in(place)
    assert Path("/etc/group") not in [rule.path for rule in rules(config, environ)]
    listen = Listen(place / "run" / "channel", "kvm")
    config = HostConfig(listen, "work", security_context=False)
    paths = [rule.path for rule in rules(config, {})]
    assert Path("/etc/group") in paths


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"confine": False}, "no: --no-confine"),
        (
            {"ram_tap": None},
            "no: the guest's RAM is found in QEMU's process",
        ),
        ({"xen_domid": 3}, "no: it may be for a domain of Xen's"),
    ],
)
def test_who_is_not_confined(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    other: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setattr(confinement, "no_new_privileges", lambda: None)  # it lasts
    caplog.set_level("INFO")
    answer = confine(config_in(place, **other), VmLog("work"), {}, DEVICE)
    assert answer.startswith(said)
    assert f"confined: {answer}" in caplog.text


def test_it_waits_for_a_device_that_is_not_there(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "no_new_privileges", lambda: None)
    answer = confine(config_in(place), VmLog("work"), {}, place / "udmabuf")
    assert answer == f"no: {place / 'udmabuf'} cannot be used yet, and is waited for"


@pytest.mark.parametrize(
    ("version", "threads", "failure", "said"),
    [
        (0, 1, None, "no: this kernel has no Landlock, or has it switched off"),
        (7, 2, None, "no: it has threads already, which would not be"),
        (
            7,
            1,
            OSError(errno.E2BIG, "too much"),
            "no: the kernel does not do it: too much",
        ),
        (7, 1, None, "to its own files, and no programs (Landlock 7)"),
        (
            *(5, 1, None),
            "to its own files, and no programs (Landlock 5; the kernel is too old to forbid signals)",
        ),
        (
            *(1, 1, None),
            "to its own files, and no programs (Landlock 1; the kernel is too old to forbid TCP and signals)",
        ),
    ],
)
def test_what_comes_of_it(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    threads: int,
    failure: OSError | None,
    said: str,
) -> None:
    """On kernels that cannot be had here; what one that is does is tried above."""
    asked: list[bool] = []

    def confine_thread(_rules: object, *, abstract_sockets: bool) -> None:
        asked.append(abstract_sockets)
        if failure is not None:
            raise failure

    monkeypatch.setattr(confinement, "no_new_privileges", lambda: None)
    monkeypatch.setattr(confinement, "confine_thread", confine_thread)
    monkeypatch.setattr(confinement, "abi", lambda: version)
    for number in range(threads):
        (place / "task" / str(number)).mkdir(parents=True)
    monkeypatch.setattr(confinement, "TASKS", place / "task")
    environ = {"XDG_RUNTIME_DIR": str(place / "run")}
    assert confine(config_in(place), VmLog("work"), environ, DEVICE) == said
    if asked:
        for name, value in (
            ("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=/tmp/bus"),
            ("NOTIFY_SOCKET", "@notify"),
        ):
            confine(config_in(place), VmLog("work"), {**environ, name: value}, DEVICE)
        assert asked == [False, True, True]


def test_without_a_compositor_s_path_it_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "no_new_privileges", lambda: None)
    with pytest.raises(NoCompositorError):
        list(rules(config_in(place), {}))
