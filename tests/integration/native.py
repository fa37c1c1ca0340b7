"""Drives the real path on a machine without udmabuf: no lab, no nesting.

The guest's QEMU runs right here and boots a real systemd; the agent in it was installed
as the documentation says; weston and the proxy are this machine's own.
"""

import contextlib
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.guest import Completed, Guest
from lab.weston import Weston
from tests.clients import capture
from tests.clients.capture import Picture, assert_shows
from tests.docs.blocks import read_page
from tests.integration.harness import (
    TREE,
    ClientError,
    RunningProxy,
    eventually,
)
from wlproxy.host.report.status_socket import read_status
from wlproxy.host.runtime_dir import status_path

SERVICE = "wlproxy-guest-agent.service"
SOCKET = "wlproxy-guest-agent.socket"
DISPLAY = "/run/wlproxy/wayland-0"
USER = "lab"
"""An ordinary user of the guest."""

CLIENTS = "/opt/wlproxy-tests"
CLIENT_FILES = "/run/native-clients"
NAME = "native"
STOP_SECONDS = 30.0
HAS_UDMABUF = Path("/dev/udmabuf").exists()
"""Then the proxy is told to copy, which it otherwise decides itself."""


def documented_commands(markdown: Path, heading: str) -> list[str]:
    """Return the commands that a section of a document has the guest's root run."""
    return list(read_page(markdown).block(heading, "as root:").lines)


def documented_exposure(*, with_module: bool = False) -> float:
    """Return what the agent's README says that `systemd-analyze security` says."""
    text = (TREE / "guest-agent" / "README.md").read_text()
    said = r"`systemd-analyze\s+security`[^.]*?says (\d+\.\d)"
    if with_module:
        said = r"(\d+\.\d)\s+with\s+`gem-locate.conf`"
    found = re.search(said, text)
    assert found is not None
    return float(found[1])


class NativeGuest:
    """A guest with systemd as its init."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._forgotten: list[str] = []

    def shell(self, script: str, *, timeout: float = 120) -> str:
        """Run a script as root and return its output; it must not fail."""
        done: Completed = self.guest.run(["bash", "-ec", script], timeout=timeout)
        out, err = done.stdout.decode(), done.stderr.decode()
        assert done.ok, f"{script!r}: status {done.returncode}\n{out}{err}"
        return out

    def systemctl(self, *words: str) -> str:
        """Run systemctl; it must not fail."""
        return self.shell(shlex.join(["systemctl", "--no-pager", *words]))

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        """Return properties of a unit."""
        text = self.systemctl("show", unit, f"--property={','.join(names)}")
        return dict(line.split("=", 1) for line in text.splitlines())

    def state(self, unit: str) -> str:
        """Return what `systemctl is-active` says: active, inactive, failed, ..."""
        return self.properties(unit, "ActiveState")["ActiveState"]

    def status_text(self) -> str:
        """Return what the service says of itself."""
        return self.properties(SERVICE, "StatusText")["StatusText"]

    def main_pid(self) -> int:
        """Return the service's process; 0 if there is none."""
        return int(self.properties(SERVICE, "MainPID")["MainPID"])

    def journal(self, *options: str) -> str:
        """Return what the units have logged since boot, or since `forget_journal`."""
        words = ["journalctl", "-b", "--no-pager", "-o", "short-monotonic"]
        words += [*self._forgotten, *options]
        return self.shell(shlex.join([*words, "-u", SERVICE, "-u", SOCKET]))

    def forget_journal(self) -> None:
        """Leave what was logged so far, on purpose, out of `journal`."""
        said = self.shell("journalctl -b -n 0 --show-cursor")
        self._forgotten = [f"--after-cursor={said.partition('cursor: ')[2].strip()}"]

    def login(self, script: str, user: str = USER) -> Completed:
        """Have an ordinary user log in, and run a script."""
        return self.guest.run(["su", "-l", user, "-c", script], timeout=180)

    def ship_clients(self) -> None:
        """Copy the test clients into the guest."""
        self.guest.put_directory(TREE / "tests" / "clients", f"{CLIENTS}/tests/clients")
        self.shell(f"install -d -o {USER} {CLIENT_FILES}")


class UserClient:
    """A `pattern_client` in the guest, started by its ordinary user."""

    _numbers = itertools.count(1)

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        name = f"client{next(self._numbers)}"
        self._commands, self._log = f"{CLIENT_FILES}/{name}.in", f"/run/{name}.log"
        self._answered = 0
        script = f"mkfifo -m 644 {self._commands} && chown {USER} {self._commands}"
        assert guest.run(["sh", "-c", script]).ok
        # Open for writing as well: no end of file between two commands.
        script = (
            f"exec python3 -m tests.clients.pattern_client {DISPLAY} <>{self._commands}"
        )
        self.pid = guest.spawn(
            ["sh", "-c", script], env={"PYTHONPATH": CLIENTS}, log=self._log, user=USER
        )

    def call(self, operation: str, **arguments: Any) -> Any:
        """Have it do something, and return what it says.

        Raises:
            ClientError: it could not.
        """
        line = json.dumps({"op": operation, **arguments}).encode() + b"\n"
        self._guest.put(self._commands, line)

        def answer() -> bytes:
            lines = self._guest.get(self._log).splitlines(keepends=True)[
                self._answered :
            ]
            if lines and lines[0].endswith(b"\n"):
                return lines[0]
            assert self._guest.alive(self.pid), f"the client has ended: {lines}"
            return b""

        told = json.loads(eventually(answer, f"{operation} is done", pause=0.2))
        self._answered += 1
        if "error" in told:
            raise ClientError(*told["error"])
        return told["ok"]

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(Exception):
            self._guest.kill(self.pid, signal.SIGKILL)


class NativeWeston:
    """A headless weston of this machine, old or new, that can be looked at."""

    WIDTH, HEIGHT = 800, 600

    def __init__(self, runtime: Path) -> None:
        self.display = runtime / "wl-native"
        self._log = runtime / "weston.log"
        self._weston = Weston()
        shell = "kiosk" if self._weston.has_capture_protocol else "desktop"
        size = (self.WIDTH, self.HEIGHT)
        command = self._weston.command("pixman", shell, size, self.display.name)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--no-config"],
                env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            eventually(self.display.exists, "weston is up")
        except AssertionError:
            self.stop()
            raise AssertionError(f"weston:\n{self._log.read_text()}") from None

    def capture(self) -> Picture:
        """Return a picture of its output."""
        display = str(self.display)
        if self._weston.has_capture_protocol:
            return capture.weston(display)
        return capture.old_weston(display, self.WIDTH, self.HEIGHT)

    def wait_shows(
        self, width: int, height: int, frame: int, origin: tuple[int, int] = (0, 0)
    ) -> tuple[int, int]:
        """Wait until it shows a part of a frame; as `capture.assert_shows`."""
        problem = ""

        def shown() -> tuple[int, int] | None:
            nonlocal problem
            try:
                return assert_shows(self.capture(), width, height, frame, origin)
            except AssertionError as error:
                problem = str(error)
                return None

        try:
            found = eventually(shown, "the pattern is shown", timeout=20)
        except AssertionError:
            raise AssertionError(problem) from None
        assert found is not None
        return found

    def stop(self) -> None:
        """Stop it, and wait for its end."""
        _stop(self._process)


@dataclass(slots=True)
class NativeProxy(RunningProxy):
    """`wlproxy run` on this machine, without udmabuf unless it has that.

    Attributes:
        environ: for it and for whoever asks for its status.
        log_path: what it logs.
    """

    process: "subprocess.Popen[bytes]"
    environ: Mapping[str, str]
    log_path: Path

    @classmethod
    def start(cls, channel: Path, display: Path, runtime: Path) -> "NativeProxy":
        """Start it as a user would."""
        environ = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
        log_path = runtime / "wlproxy.log"
        argv = [sys.executable, "-m", "wlproxy", "run", "--name", NAME]
        argv += ["--channel", str(channel), "--display", str(display)]
        argv += ["--present", "c"] if HAS_UDMABUF else []
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                argv, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return cls(process, environ, log_path)

    def status(self) -> dict[str, Any]:
        """Return what `wlproxy status --json` prints, which is as its schema says."""
        from tests.status_schema import (
            judged,  # its library is not in the lab's machines
        )

        return judged(read_status(status_path(self.environ, NAME)))

    def stop(self) -> int:
        """Stop it and return its exit status."""
        return _stop(self.process)


def _stop(process: "subprocess.Popen[bytes]") -> int:
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
