"""Who stands between an app and the compositor: nobody, wlproxy, or waypipe.

A peer has up to two ends, each a process and whatever that starts: one at the app's side
(wlproxy's agent, `waypipe server`) and one at the compositor's (wlproxy's proxy,
`waypipe client`).  All of them are there all the while, and share one compositor; the one that
is not measured has no app and nothing to do.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, cast

from bench.counting import descendants, tree_bytes_written
from bench.processes import BenchError, Started, started, wait_until
from lab.ordinary_user import NOBODY, as_nobody
from lab.weston import Weston
from tests.clients.wire import Connection, DisconnectedError
from wlproxy.host.errors import HostError
from wlproxy.host.report.status_socket import read_status
from wlproxy.host.runtime_dir import status_path

APP_SIDE: Final = "app_side"
COMPOSITOR_SIDE: Final = "compositor_side"
SIDES: Final = (APP_SIDE, COMPOSITOR_SIDE)

OUTPUT: Final = (3840, 2160)
"""The compositor's output: as large as the largest window, so that all of it is drawn."""
SOCKET: Final = "wl-bench"
"""The compositor's, in a directory that its peers have for themselves."""
SWAY_CONFIG: Final = """\
xwayland disable
default_border none
output * mode 1024x768
for_window [shell=".*"] floating enable
"""
"""One above the other: no window makes room when the last app's has gone."""
"""The user with no rights: Debian 12's sway refuses to run as root."""
NAME: Final = "bench"
NOT_THERE: Final = "not there"
"""Instead of a version."""
TREE: Final = Path(__file__).resolve().parents[1]
PYTHON: Final = (sys.executable, "-m")
MODULES: Final = {
    "PYTHONPATH": f"{TREE}:{TREE / 'guest-agent'}",
    # As where it is installed, Python compiles them once, and not at each start.
    "PYTHONDONTWRITEBYTECODE": "",
}


@dataclass(slots=True)
class Peer:
    """What an app may be connected through; as it is, that is nothing at all.

    Attributes:
        name: in tables and files.
        display: where apps connect.
        compositor: the compositor's process.
        ends: side to the process that is first there.
        version_command: what prints its version.
    """

    name: str
    display: str
    compositor: int
    ends: Mapping[str, int] = field(default_factory=dict)
    version_command: Sequence[str] = ()

    def wait_quiet(self) -> None:
        """Wait until it has let go of apps that have gone.

        Raises:
            BenchError: it has not, in time.
        """

    def pixel_bytes_copied(self) -> int | None:
        """How many bytes of pixels it has copied; None: it does not count them."""
        return None

    def bytes_between(self) -> int | None:
        """How many bytes have passed between its ends, both ways; None: it has none."""
        return None

    def start_another(self, _directory: Path) -> AbstractContextManager[Started] | None:
        """Start its compositor side once more, and wait until apps may come."""
        return None


@dataclass(slots=True)
class Wlproxy(Peer):
    """Agent and proxy, joined by a socket."""

    runtime: Path = Path()

    def status(self) -> Mapping[str, object]:
        """What the proxy says of itself.

        Raises:
            HostError: it does not answer.
        """
        return read_status(status_path({"XDG_RUNTIME_DIR": str(self.runtime)}, NAME))

    def serves(self) -> bool:
        """Whether apps may come."""
        with contextlib.suppress(HostError):
            return self.status()["state"] == "serving"
        return False

    def wait_quiet(self) -> None:
        """As `Peer`: it says itself who is there."""
        wait_until(lambda: not self.status()["clients"], "wlproxy lets apps go")

    def pixel_bytes_copied(self) -> int | None:
        """As `Peer`."""
        return self._metric("pixel_bytes_copied")

    def bytes_between(self) -> int | None:
        """As `Peer`."""
        return self._metric("bytes_received") + self._metric("bytes_sent")

    def _metric(self, name: str) -> int:
        return cast("dict[str, int]", self.status()["metrics"])[name]

    @contextlib.contextmanager
    def start_another(self, directory: Path) -> Iterator[Started]:
        """As `Peer`: the proxy as users have it, until it would tell systemd."""
        notify = directory / "notify"
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready,
            ExitStack() as up,
        ):
            ready.bind(str(notify))
            ready.settimeout(0)
            up.callback(notify.unlink)
            words = [*PYTHON, "wlproxy", "run", "--name", "another"]
            words += ["--channel", str(directory / "none")]
            words += ["--display", str(directory / SOCKET)]
            environ = {**_runtime(directory), "NOTIFY_SOCKET": str(notify)}
            program = up.enter_context(started(words, directory / "log", environ))

            def said_so() -> bool:
                with contextlib.suppress(BlockingIOError):
                    return b"READY=1" in ready.recv(4096)
                return False

            program.wait_until(said_so, "wlproxy is ready")
            yield program


@dataclass(slots=True)
class Waypipe(Peer):
    """Debian's waypipe, its two ends joined by a socket."""

    def wait_quiet(self) -> None:
        """As `Peer`: each app has a process of its own."""

        # And `waypipe server` has something to run.
        def alone() -> bool:
            processes = [len(descendants(pid)) for pid in self.ends.values()]
            return sum(processes) <= len(processes) + 1

        wait_until(alone, "waypipe lets apps go")

    def bytes_between(self) -> int | None:
        """As `Peer`."""
        # What it sends to app and compositor it does not write, but sendmsg.
        return sum(map(tree_bytes_written, self.ends.values()))

    @contextlib.contextmanager
    def start_another(self, directory: Path) -> Iterator[Started]:
        """As `Peer`: until its socket is there."""
        path = directory / "another.sock"
        environ = {**_runtime(directory), "WAYLAND_DISPLAY": SOCKET}
        words = [*self.version_command[:1], "--no-gpu", "-s", str(path), "client"]
        with started(words, directory / "log", environ) as program:
            program.wait_until(path.exists, "waypipe is ready")
            yield program
        path.unlink(missing_ok=True)


def _runtime(directory: Path) -> dict[str, str]:
    return {**MODULES, "XDG_RUNTIME_DIR": str(directory)}


@contextlib.contextmanager
def weston(directory: Path) -> Iterator[Started]:
    """Run a headless weston at DIRECTORY/wl-bench.

    Raises:
        BenchError: there is none, or it does not answer.
    """
    if not shutil.which("weston"):
        raise BenchError("there is no weston: apt-get install weston")
    # Not the kiosk shell: it would have no other size than the output's.
    words = [*Weston().command("pixman", "desktop", OUTPUT, SOCKET), "--no-config"]
    environ = {"XDG_RUNTIME_DIR": str(directory)}
    with started(words, directory / "weston.log", environ) as program:
        program.wait_until(partial(_answers, directory / SOCKET), "weston is up")
        yield program


@contextlib.contextmanager
def sway(directory: Path, settings: str = SWAY_CONFIG) -> Iterator[Started]:
    """Run a headless sway at DIRECTORY/wl-bench: it has a seat, whose input can be made up.

    Args:
        directory: if we are root, it becomes that of an ordinary user.
        settings: its configuration file.

    Raises:
        BenchError: there is none, or it does not answer.
    """
    if not shutil.which("sway"):
        raise BenchError("there is no sway: apt-get install sway")
    config = directory / "config"
    config.write_text(settings)
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
    words = as_nobody(["sway", "--config", str(config)], dies_with_parent=True)
    environ = {
        "WLR_BACKENDS": "headless",
        "WLR_RENDERER": "pixman",
        "WLR_LIBINPUT_NO_DEVICES": "1",
        "XDG_RUNTIME_DIR": str(directory),
        "SWAYSOCK": str(directory / "sway.sock"),
    }

    def named() -> bool:
        # It chooses a name itself, and listens before it says so.
        for path in directory.glob("wayland-*"):
            if path.is_socket():
                (directory / SOCKET).symlink_to(path.name)
                return True
        return False

    with started(words, directory / "sway.log", environ) as program:
        program.wait_until(named, "sway has a socket")
        program.wait_until(partial(_answers, directory / SOCKET), "sway is up")
        yield program


COMPOSITORS: Final = {"weston": weston, "sway": sway}
"""By the name of the program, which a machine may not have."""


def _answers(display: Path) -> bool:
    try:
        Connection(str(display)).close()
    except (OSError, TimeoutError, DisconnectedError):
        return False
    return True


@contextlib.contextmanager
def direct(directory: Path, compositor: Started) -> Iterator[Peer]:
    """Have the app talk to the compositor itself."""
    yield Peer("direct", str(directory / SOCKET), compositor.pid)


@contextlib.contextmanager
def wlproxy(
    directory: Path, compositor: Started, *, sampled: bool = False
) -> Iterator[Peer]:
    """Run agent and proxy.

    Args:
        directory: where the compositor's socket is.
        compositor: its process.
        sampled: let both be looked at by `sampled`, which writes `samples` of each.

    Raises:
        BenchError: they do not find each other.
    """
    runtime = directory / "wlproxy"
    runtime.mkdir(mode=0o700)
    environ, log = _runtime(runtime), runtime / "log"
    with ExitStack() as up:
        agents, proxies = (
            [
                *PYTHON,
                *(("bench.sampled", str(samples(directory, each))) if sampled else ()),
            ]
            for each in SIDES
        )
        words = [*agents, "bench.agent", str(runtime), "-machine", "q35"]
        agent = up.enter_context(started(words, log, environ))
        channel = runtime / "channel"
        agent.wait_until(channel.exists, "wlproxy's agent is up")
        words = [*proxies, "bench.proxy", "run", "--name", NAME, "--present", "a"]
        words += ["--channel", str(channel), "--display", str(directory / SOCKET)]
        proxy = up.enter_context(started(words, log, environ))
        peer = Wlproxy(
            "wlproxy",
            str(runtime / "wayland-0"),
            compositor.pid,
            {APP_SIDE: agent.pid, COMPOSITOR_SIDE: proxy.pid},
            (*PYTHON, "wlproxy", "--version"),
            runtime,
        )
        proxy.wait_until(peer.serves, "wlproxy serves")
        yield peer


def samples(directory: Path, side: str) -> Path:
    """Say where one end of wlproxy writes where it was."""
    return directory / "wlproxy" / f"{side}.samples"


@contextlib.contextmanager
def waypipe(compression: str, directory: Path, compositor: Started) -> Iterator[Peer]:
    """Run both ends of waypipe.

    Args:
        compression: ``none`` or ``lz4``.
        directory: where the compositor's socket is.
        compositor: its process.

    Raises:
        BenchError: there is none, or its ends do not come up.
    """
    program = shutil.which("waypipe")
    if program is None:
        raise BenchError("there is no waypipe: apt-get install waypipe")
    runtime = directory / f"waypipe-{compression}"
    runtime.mkdir(mode=0o700)
    joint, display, log = runtime / "joint", runtime / "wayland-0", runtime / "log"
    options = ["--no-gpu", "--compress", compression, "-s", str(joint)]
    environ = {"XDG_RUNTIME_DIR": str(directory)}
    with ExitStack() as up:
        client = up.enter_context(
            started(
                [program, *options, "client"],
                log,
                {**environ, "WAYLAND_DISPLAY": SOCKET},
            )
        )
        client.wait_until(joint.exists, "waypipe client is up")
        words = [program, *options, "--display", str(display), "server"]
        server = up.enter_context(
            started([*words, "--", "sleep", "infinity"], log, environ)
        )
        server.wait_until(display.exists, "waypipe server is up")
        yield Waypipe(
            f"waypipe {compression}",
            str(display),
            compositor.pid,
            {APP_SIDE: server.pid, COMPOSITOR_SIDE: client.pid},
            (program, "--version"),
        )


def version(words: Sequence[str]) -> str:
    """Run a program that prints its version; return the first line, or why there is none."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=30
        )
    except FileNotFoundError:
        return NOT_THERE
    return (done.stdout or done.stderr).partition("\n")[0].strip()
