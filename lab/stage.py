"""Sets up what the demo shows, and where: a compositor, the proxy, apps in a guest.

Everything is started as a user would start it, and is stopped with the stage.  What is
shown, and whether that is right, is judged in `lab.demo_report`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import guest_agent, paths, proc
from lab.demo_report import is_of
from lab.errors import LabError
from lab.guest import Guest
from lab.weston import Weston
from tests.clients import capture
from tests.clients.capture import Picture
from tests.clients.wire import DisconnectedError, WaylandError
from wlproxy.host.errors import HostError
from wlproxy.host.report.status_socket import read_status
from wlproxy.host.runtime_dir import status_path

WIDTH, HEIGHT = 1440, 900
WESTON_INI = """\
[core]
idle-time=0
[shell]
background-color=0xff26404f
panel-position=top
clock-format=minutes
locking=false
animation=none
close-animation=none
startup-animation=none
"""
NAME = "demo"
GUEST_RUNTIME = "/run/wlproxy"
GUEST_DISPLAY = f"{GUEST_RUNTIME}/wayland-0"
AGENT_LOG = "/run/agent.log"
PROGRAMS = "/opt/wlproxy-demo"
PATIENCE = 240.0
"""Seconds for anything that takes some, under emulation twice over."""
STOP_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class App:
    """A program of the guest's image with a window.

    Attributes:
        name: for the table.
        argv: the program and its arguments.
        env: further variables.
        patience: seconds until its first frame has to be there.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    patience: float = PATIENCE


def wait_for(look: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Look until something is true.

    Raises:
        LabError: it was not, in time.
    """
    deadline = time.monotonic() + patience
    while not look():
        if time.monotonic() > deadline:
            raise LabError(f"not within {patience:.0f} s: {what}")
        time.sleep(0.1)


class NoPictureError(LabError):
    """A compositor does not let itself be looked at."""


class Stage:
    """A running demo.  A context manager: what it started ends with it.

    Attributes:
        guest: the machine whose windows are shown.
        display: the compositor's socket.
        logs: where everybody's log goes.
        own_compositor: it was started here.
        has_module: the guest's kernel has gem_locate, so that the agent needs no rights.
    """

    def __init__(self, guest: Guest, logs: Path) -> None:
        self.guest = guest
        self.display = Path()
        self.logs = logs
        self.own_compositor = False
        self.has_module = False
        self._weston = Weston()
        self._proxy: subprocess.Popen[bytes] | None = None
        self._agent: int | None = None
        self._cleanup = contextlib.ExitStack()
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    # ---- the compositor

    def use_compositor(self, display: Path) -> None:
        """Show on a compositor that runs already."""
        self.display = display

    def start_weston(self, weston: Weston, renderer: str) -> None:
        """Start a headless weston with its desktop shell, to be looked at.

        Args:
            weston: which.
            renderer: "gl" or "pixman".

        Raises:
            LabError: there is no weston, or it does not come up.
        """
        ini = self.logs / "weston.ini"
        ini.write_text(WESTON_INI)
        runtime = Path(os.environ["XDG_RUNTIME_DIR"])
        self.display = runtime / "wlproxy-demo"
        self.own_compositor = True
        self._weston = weston
        command = weston.command(
            renderer, "desktop", (WIDTH, HEIGHT), self.display.name
        )
        process = self._spawn(
            "weston",
            [*command, f"--config={ini.resolve()}"],
            {"LIBGL_ALWAYS_SOFTWARE": "1"},
        )
        self._await_process("weston", process, self.display.exists)

    def capture(self) -> Picture:
        """Return a picture of what the compositor shows.

        Raises:
            NoPictureError: it is not ours, and gives none.
        """
        if not self.own_compositor:
            return foreign_picture(self.display)
        if self._weston.has_capture_protocol:
            return capture.weston(str(self.display))
        return capture.old_weston(str(self.display), WIDTH, HEIGHT)

    # ---- the guest's side

    def start_agent(self) -> None:
        """Start the installed agent and wait until apps can connect.

        As its unit does: as a user without rights where the module is, else as root.
        """
        self.guest.run(["mkdir", "-p", GUEST_RUNTIME])
        command = ["wlproxy-guest-agent", "--socket", GUEST_DISPLAY]
        self.has_module = guest_agent.has_module(self.guest)
        if self.has_module:
            guest_agent.add_user(self.guest)
            self.guest.run(["chown", guest_agent.USER, GUEST_RUNTIME])
            command = guest_agent.as_user(command)
        self._agent = self.guest.spawn(command, log=AGENT_LOG)
        self._cleanup.callback(self._keep_guest_log, AGENT_LOG)
        test = ["test", "-S", GUEST_DISPLAY]
        wait_for(lambda: self.guest.run(test).ok, "the agent listens")

    def agent_rights(self) -> str:
        """Say as whom the agent runs, and what the kernel lets it do."""
        assert self._agent is not None
        uid, capabilities = guest_agent.privileges(self.guest, self._agent)
        held = f"capabilities {capabilities:#x}" if capabilities else "no capability"
        module = "with" if self.has_module else "without"
        return f"uid {uid}, {held}; a guest {module} gem_locate"

    def ship_programs(self) -> None:
        """Copy the demo's own programs into the guest."""
        for name in ("demo-terminal", "demo-clock"):
            data = (paths.LAB / "vm" / name).read_bytes()
            self.guest.put(f"{PROGRAMS}/{name}", data, 0o755)

    def start_app(self, app: App) -> int:
        """Start an app and return its process id in the guest."""
        environment = {
            "WAYLAND_DISPLAY": GUEST_DISPLAY,
            "XDG_RUNTIME_DIR": GUEST_RUNTIME,
            **app.env,
        }
        log = f"/run/app-{app.name.replace(' ', '-')}.log"
        self._cleanup.callback(self._keep_guest_log, log)
        return self.guest.spawn(list(app.argv), env=environment, log=log)

    def _keep_guest_log(self, path: str) -> None:
        with contextlib.suppress(LabError):
            (self.logs / Path(path).name).write_bytes(self.guest.get(path))

    # ---- the proxy

    def start_proxy(self) -> None:
        """Start `wlproxy run` and wait until it serves the guest.

        Raises:
            LabError: it ended, or never did; says what the agent logged.
            GuestLostError: it never did, and nor does the guest answer anybody else.
        """
        command = [sys.executable, "-m", "wlproxy", "run", "--name", NAME]
        command += ["--channel", str(self.guest.machine.channel)]
        command += ["--display", str(self.display)]
        self._proxy = self._spawn("wlproxy", command)

        def serves() -> bool:
            with contextlib.suppress(HostError):
                return bool(self.status()["state"] == "serving")
            return False

        try:
            self._await_process("wlproxy", self._proxy, serves)
        except LabError as error:
            # Asking also tells an agent that is silent from a machine that stands still.
            said = self.guest.get(AGENT_LOG).decode(errors="replace")
            raise LabError(f"{error}\nthe agent's log ends:\n{said[-3000:]}") from None

    def status(self) -> dict[str, Any]:
        """Return what `wlproxy status --json` prints.

        Raises:
            HostError: the proxy does not answer.
        """
        return read_status(status_path(os.environ, NAME))

    def has_window(self, pid: int) -> bool:
        """Say whether a process of the guest has shown something."""
        return any(
            is_of(surface, pid) and surface["frames"]
            for surface in self.status()["surfaces"]
        )

    def costs(self) -> dict[str, dict[str, int]]:
        """Return what proxy and agent have used so far: `cpu_ns` and `io_bytes`."""
        assert self._proxy is not None
        mine = Path("/proc") / str(self._proxy.pid)
        agents = f"/proc/{self._agent}"
        return {
            "proxy": _costs((mine / "stat").read_text(), (mine / "io").read_text()),
            "agent": _costs(
                self.guest.get(f"{agents}/stat").decode(),
                self.guest.get(f"{agents}/io").decode(),
            ),
        }

    # ---- processes

    def _spawn(
        self, name: str, command: list[str], env: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        try:
            with (self.logs / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **(env or {})},
                )
        except FileNotFoundError:
            raise LabError(f"{command[0]} is not installed") from None
        self._cleanup.callback(_stop, process)
        return process

    def _await_process(
        self,
        name: str,
        process: "subprocess.Popen[bytes]",
        ready: Callable[[], object],
    ) -> None:
        def settled() -> bool:
            return process.poll() is not None or bool(ready())

        problem = ""
        try:
            wait_for(settled, f"{name} is up")
        except LabError as error:
            problem = str(error)
        if process.returncode is not None:
            problem = f"{name} ended with status {process.returncode}"
        if problem:
            log = self.logs / f"{name}.log"
            tail = log.read_text(errors="replace")[-3000:]
            raise LabError(f"{problem}; {log.name} ends:\n{tail}")


def foreign_picture(display: Path) -> Picture:
    """Return a picture of what some compositor shows, in any way that it knows.

    Raises:
        NoPictureError: it knows none, or grants none; says why.
    """
    try:
        return capture.weston(str(display))
    except KeyError:
        why = "it has no weston_capture_v1"
    except (AssertionError, DisconnectedError, WaylandError, OSError) as error:
        why = str(error)
    try:
        return capture.grim(str(display), display.parent)
    except FileNotFoundError:
        why += "; there is no grim here"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        why += f"; grim: {said or error}"
    raise NoPictureError(f"{display.name} gives no picture ({why})")


def shows_pattern(
    picture: Picture, size: tuple[int, int], frame: int
) -> tuple[int, int]:
    """Say where a picture shows a frame of the pattern, every pixel of it.

    Raises:
        LabError: it does not.
    """
    try:
        return capture.assert_shows(picture, *size, frame)
    except AssertionError as error:
        raise LabError(f"wrong pixels: {error}") from None


def _costs(stat: str, io: str) -> dict[str, int]:
    fields = dict(line.split(": ") for line in io.splitlines())
    moved = int(fields["rchar"]) + int(fields["wchar"])
    return {"cpu_ns": round(1e9 * proc.cpu_seconds(stat)), "io_bytes": moved}


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
