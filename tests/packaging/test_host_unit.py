"""The proxy's unit: systemd understands it, and all that the proxy does works under it.

There is no systemd here that would start it.  What its options forbid is enforced by
`confine`; those that are not are listed, with why they cannot matter.
"""

import ctypes.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.host.conftest import Weston, running_weston
from tests.screen.conftest import MakeMachine, machine  # noqa: F401 - a fixture
from wlproxy.host.landlock import abi

UNITS = Path(__file__).parents[2] / "wlproxy" / "host" / "systemd"
UNIT, RAM_UNIT = UNITS / "wlproxy@.service", UNITS / "wlproxy-ram@.service"
SCREEN_UNIT = UNITS / "wlproxy-screen@.service"
ALL = UNIT, RAM_UNIT, SCREEN_UNIT
ALL_VMS = UNITS / "wlproxy.service"
AGENT_UNIT = (
    Path(__file__).parents[2] / "guest-agent/systemd/wlproxy-guest-agent.service"
)
CONFINE = Path(__file__).with_name("confine.py")
PROGRAM = Path(sys.executable).with_name("wlproxy")
NAME = "work"

ENFORCED = {
    "NoNewPrivileges",  # without it, no filter
    "RestrictAddressFamilies",
    "MemoryDenyWriteExecute",
    "RestrictNamespaces",
    "SystemCallFilter",
    "SystemCallErrorNumber",
}
HARMLESS = {
    "LimitNOFILE",  # the proxy raises its own limit anyway
    "LockPersonality",  # nothing of it calls personality(2)
    "RestrictRealtime",  # nor sched_setscheduler(2), which the filter has not either
    "RestrictSUIDSGID",  # nor gives anything these modes
    "SystemCallArchitectures",  # one interpreter, and it is native
    "UMask",  # who else may connect to a socket is said with chmod(2)
}
MOST_EXPOSED = {
    UNIT: 6.4,
    ALL_VMS: 6.4,
    RAM_UNIT: 6.2,
    SCREEN_UNIT: 6.1,
    AGENT_UNIT: 1.7,
}
"""The scores of `systemd-analyze security`, from 0 to 10: they only sink (docs/security.md)."""
MANNERS = {"Type", "NotifyAccess", "ExecStart", "Restart", "RestartSec"}


needs_filters = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and ctypes.util.find_library("seccomp")),
    reason="needs the sets of systemd-analyze, and libseccomp for the numbers",
)


def settings(unit: Path = UNIT) -> dict[str, str]:
    service = unit.read_text().partition("[Service]\n")[2].partition("\n[")[0]
    return dict(re.findall(r"^(\w+)=(.*)$", service, re.MULTILINE))


def command(runtime: Path, unit: Path = UNIT) -> list[str]:
    """What systemd would start, with the specifiers of the unit replaced."""
    text = settings(unit)["ExecStart"].replace("%i", NAME).replace("%t", str(runtime))
    assert "%" not in text
    program, *arguments = shlex.split(text)
    assert program == PROGRAM.name
    return [str(PROGRAM), *arguments]


@pytest.mark.parametrize("unit", ALL, ids=lambda unit: unit.stem)
def test_no_option_that_is_not_tried_here(unit: Path) -> None:
    """Who adds one sees to it that the program works under it, and that a test says so."""
    assert settings(unit).keys() - {"ExecReload"} == ENFORCED | HARMLESS | MANNERS


def test_the_service_for_all_vms_forbids_what_that_of_one_does() -> None:
    """Their proxies are its children: they do the same, under its options, but for setpriv."""
    sandbox = ENFORCED | HARMLESS
    alone, together = settings(UNIT), settings(ALL_VMS)
    assert together.keys() == alone.keys()
    assert together.pop("SystemCallFilter") == "@chown capset"
    assert alone.pop("SystemCallFilter") == "@chown"
    for name in sandbox & alone.keys():
        assert together[name] == alone[name], name


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.parametrize("source", ALL, ids=lambda unit: unit.stem)
def test_systemd_understands_it(tmp_path: Path, source: Path) -> None:
    unit = tmp_path / source.name.replace("@", f"@{NAME}")
    # It looks for the program where packages put it.
    start = f"ExecStart={PROGRAM} "
    unit.write_text(source.read_text().replace("ExecStart=wlproxy ", start))
    done = subprocess.run(
        ["systemd-analyze", "--user", "--man=no", "verify", str(unit)],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.parametrize("source", MOST_EXPOSED, ids=lambda unit: unit.stem)
def test_how_exposed_systemd_finds_it(tmp_path: Path, source: Path) -> None:
    unit = tmp_path / source.name.replace("@", f"@{NAME}")
    unit.write_text(source.read_text())
    most = round(10 * MOST_EXPOSED[source])
    whose = [] if source == AGENT_UNIT else ["--user"]
    words = ["systemd-analyze", *whose, "security", "--no-pager", "--offline=true"]
    done = subprocess.run(
        [*words, f"--threshold={most}", str(unit)],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    page = (Path(__file__).parents[2] / "docs/security.md").read_text()
    assert f"| `{source.name}` | {MOST_EXPOSED[source]} |" in page


TRIED = {
    "socket.socket(socket.AF_INET)": "EAFNOSUPPORT",
    "mmap.mmap(-1, 4096, prot=7)": "EPERM",
    "call('unshare', 0x10000000)": "EPERM",
    "call('ptrace', 0, 0, 0, 0)": "EPERM",
    "call('mount', 0, 0, 0, 0, 0)": "EPERM",
    "call('chroot', b'/')": "EPERM",
    "os.setpriority(os.PRIO_PROCESS, 0, 1)": "EPERM",
    "os.memfd_create('x')": "",
    "os.chown('.', os.getuid(), -1)": "",
    "subprocess.run(['true'], check=True)": "",
    **({"call('syscall', 444, None, 0, 1)": ""} if abi() else {}),  # Landlock
}
"""What a fault in us would let a guest try, and what comes of it; and what we do ourselves."""
TRY = """
import ctypes, errno, mmap, os, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    if getattr(libc, name, libc.syscall)(*args) < 0:
        raise OSError(ctypes.get_errno(), name)
try:
    exec(sys.argv[1])
except OSError as exc:
    print(errno.errorcode[exc.errno])
"""


@needs_filters
@pytest.mark.parametrize("tried", TRIED)
def test_what_the_filters_let_through(tmp_path: Path, tried: str) -> None:
    done = subprocess.run(
        [sys.executable, str(CONFINE), str(UNIT), sys.executable, "-c", TRY, tried],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (TRIED[tried], "")


@needs_filters
def test_qemus_ram_can_be_opened_under_the_filters(tmp_path: Path) -> None:
    """By /proc/PID/fd, as `host/qemu` does: it is why the unit makes no user namespace."""
    with (tmp_path / "ram").open("w+") as ram:
        ram.write("RAM")
        ram.flush()
        with subprocess.Popen(["sleep", "60"], pass_fds=[ram.fileno()]) as qemu:
            program = f"print(open('/proc/{qemu.pid}/fd/{ram.fileno()}').read())"
            words = [sys.executable, str(CONFINE), str(UNIT)]
            try:
                read = subprocess.run(
                    [*words, sys.executable, "-c", program],
                    capture_output=True,
                    text=True,
                    check=True,
                )
            finally:
                qemu.kill()
    assert read.stdout.strip() == "RAM"


@pytest.fixture
def weston(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weston]:
    with running_weston(tmp_path_factory) as weston:
        yield weston


@pytest.fixture
def qemu(weston: Weston) -> Iterator[None]:
    """A VM as `wlproxy qemu-args` has it, its channel where the unit looks for it."""
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("needs QEMU: apt-get install qemu-system-x86")
    channel = str(weston.directory / f"wlproxy-{NAME}.channel")
    told = subprocess.run(
        [PROGRAM, "qemu-args", "--memory", "64M", "--channel", channel],
        capture_output=True,
        text=True,
        check=True,
    )
    arguments = shlex.split(told.stdout.replace("\\\n", " "))
    stopped = ["-S", "-accel", "tcg", "-display", "none", "-nodefaults"]
    with subprocess.Popen(["qemu-system-x86_64", *stopped, *arguments]) as process:
        yield
        process.kill()


def logged(unit: Path, weston: Weston, environ: Mapping[str, str]) -> str:
    """Start a unit's command under its filters; return what it says until an agent is waited for."""
    words = [sys.executable, str(CONFINE), str(unit)]
    with subprocess.Popen(
        [*words, *command(weston.directory, unit)],
        env={
            **weston.environ,
            # Where the tree is not what is installed, it is what is tested.
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            **environ,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stderr is not None
        said = []
        for line in program.stderr:
            said.append(line)
            if "waiting for the guest agent" in line or " failed (" in line:
                break
        program.send_signal(signal.SIGTERM)
        said += program.stderr
        status = program.wait(10)
    log = "".join(said)
    assert status == 0, log
    return log


@needs_filters
@pytest.mark.slow
@pytest.mark.usefixtures("qemu")
def test_the_proxy_works_under_it(weston: Weston) -> None:
    """As far as it goes without an agent: compositor, QEMU's RAM, and udev."""
    log = logged(UNIT, weston, {})

    assert "guest RAM: 64 MiB" in log
    assert "/dev/udmabuf is only looked for at the start" not in log


@needs_filters
@pytest.mark.slow
@pytest.mark.usefixtures("qemu")
def test_the_service_for_all_vms_works_under_it(weston: Weston) -> None:
    """It starts each VM's proxy by setpriv(1), which is to be there and to work."""
    assert shutil.which("setpriv")
    channel = weston.directory / f"wlproxy-{NAME}.channel"
    configured = weston.directory / "config/wlproxy/config.toml"
    configured.parent.mkdir(parents=True)
    configured.write_text(f"[vm.{NAME}]\nchannel = '{channel}'\n")

    log = logged(ALL_VMS, weston, {"XDG_CONFIG_HOME": str(configured.parents[1])})

    assert "guest RAM: 64 MiB" in log
    assert " failed (" not in log


@needs_filters
@pytest.mark.slow
def test_the_screen_works_under_it(
    weston: Weston,
    machine: MakeMachine,  # noqa: F811 - the fixture
) -> None:
    monitor = weston.directory / f"wlproxy-{NAME}.qmp"
    vm = machine("-vga", "std", "-qmp", f"unix:{monitor},server=on,wait=off")
    vm.wait_monitor(monitor)
    words = command(weston.directory, SCREEN_UNIT)
    # Where the tree is not what is installed, it is what is tested.
    tree = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    with subprocess.Popen(
        [sys.executable, str(CONFINE), str(SCREEN_UNIT), *words],
        env={**weston.environ, **tree},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as screen:
        assert screen.stderr is not None
        assert any("in place (mode A)" in line for line in screen.stderr)
        screen.send_signal(signal.SIGTERM)
        said = screen.stderr.read()
        assert screen.wait(10) == 0, said
