"""The processes under test, each with a directory of its own, and how they are started.

`NativeStage` has all of them on this machine, with stand-ins for QEMU and for where an
app's pages are (`machine`, `agent`): everything is copied, mode C.  `LabStage` runs in the
lab's host VM with the real ones: a guest, its agent, udmabuf, modes A and B.
"""

import contextlib
import json
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from lab.guest import Guest
from lab.ordinary_user import NOBODY, as_nobody
from lab.weston import Weston
from tests.chaos.accounting import Usage, usage
from tests.chaos.app import App, HungError, eventually
from tests.chaos.places import Here, InGuest, Place
from tests.clients.wire import Connection, DisconnectedError
from tests.integration.harness import (
    CHANNEL,
    GUEST_TREE,
    SWAY_CONFIG,
    TREE,
    GuestSide,
)
from wlproxy.host.errors import HostError
from wlproxy.host.report.status_socket import read_status

ROOM = "16M"
"""Size of a process's directory, where it is a file system of its own."""


NO_ANSWER: Final = "does not answer"
"""Why a proxy ends that was started before its compositor could do anything."""

REAL_APPS: Final = {
    "weston": (("weston-simple-shm",), ("weston-flower",)),
    "weston-gl": (("weston-simple-shm",), ("weston-flower",)),
    # On sway simple-shm aborts without a proxy, too: "Both buffers busy".  foot wants a
    # seat, which a headless weston has not.
    "sway": (("weston-flower",), ("foot",)),
}
"""What runs as it is, and does not end by itself."""


class Role(Enum):
    """Who can be broken."""

    APP = "app"
    AGENT = "agent"
    PROXY = "proxy"
    COMPOSITOR = "compositor"


PROCESSES = (Role.COMPOSITOR, Role.PROXY, Role.AGENT)
"""Those that are always there, in the order that they are started in."""


@dataclass(slots=True)
class Process:
    """One of `PROCESSES`.

    Attributes:
        pid: 0: not started yet.
        ours: which files in its directory count (find's pattern).
        log_read: how much of its log was looked at.
    """

    place: Place
    directory: str
    pid: int = 0
    ours: str = "*"
    log_read: int = 0

    @property
    def log(self) -> str:
        return f"{self.directory}/log"

    @property
    def alive(self) -> bool:
        return bool(self.pid) and self.place.alive(self.pid)

    def usage(self) -> Usage:
        """What it holds."""
        return usage(self.place, self.pid, self.directory, self.ours)

    def news(self) -> str:
        """What it has logged since this was asked last."""
        text = self.place.shell(f"tail -c +{self.log_read + 1} {self.log}")
        self.log_read += len(text.encode(errors="replace"))
        return text


class Stage(ABC):
    """All processes and what is done with them by whoever does not want them broken."""

    patience: float = 20.0
    """Seconds for anything that takes a moment."""
    calm = 0.1
    """Seconds between looks."""
    real_apps: tuple[tuple[str, ...], ...] = ()
    """Command lines of apps that just run."""

    def __init__(self, compositor: str, host: Place, guest: Place, root: str) -> None:
        """Nothing runs yet.

        Args:
            compositor: `weston`, `weston-gl` or `sway`.
            host: where compositor and proxy run.
            guest: where agent and apps run.
            root: a directory, in both places.
        """
        self.compositor = compositor
        self.guest = guest
        self.processes = {
            # A compositor leaves files when it is killed: remove only those that were ours.
            Role.COMPOSITOR: Process(host, f"{root}/c", ours="wlproxy*"),
            Role.PROXY: Process(host, f"{root}/p"),
            Role.AGENT: Process(guest, f"{root}/a"),
            Role.APP: Process(guest, f"{root}/apps"),
        }
        self.display = f"{root}/a/wayland-0"
        """Where apps connect."""
        self.compositor_display = f"{root}/c/wayland-1"
        self._names = 0
        self._others: set[Role] = set()
        self.mounted = True
        gl = compositor == "weston-gl"
        self.compositors_own = Counter(
            {"fd dmabuf": 2, "fd sync_file": 2} if gl else {}
        )
        """What it may have more or less of: llvmpipe draws into udmabufs of its own."""

    def share_compositor(self, other: "Stage") -> None:
        """Show on the compositor of another stage, whose it stays."""
        self.processes[Role.COMPOSITOR] = other.processes[Role.COMPOSITOR]
        self.compositor_display = other.compositor_display
        self._others = {Role.COMPOSITOR}

    # ---- directories

    def own_processes(self) -> list[Process]:
        """Those that are no other stage's."""
        return [self.processes[role] for role in Role if role not in self._others]

    def make_directories(self, processes: Iterable[Process]) -> None:
        """Make processes' directories, if possible as small file systems."""
        for process in processes:
            path = process.directory
            made = process.place.shell(
                f"mkdir -p -m 700 {path} && mount -t tmpfs -o size={ROOM},mode=700"
                f" chaos {path} && echo mounted"
            )
            self.mounted = self.mounted and "mounted" in made

    def remove_directories(self) -> None:
        """Remove them again."""
        for process in self.own_processes():
            path = process.directory
            process.place.shell(f"umount -l {path} 2>/dev/null; rm -rf {path}")

    # ---- processes

    def start(self, role: Role) -> None:
        """Start one of `PROCESSES`, and wait until it can be talked to.

        Raises:
            HungError: it is not up in time.
        """
        process = self.processes[role]
        match role:
            case Role.COMPOSITOR:
                process.pid = self._start_compositor(process)
                eventually(self._compositor_answers, "the compositor", self.patience)
            case Role.PROXY:
                process.pid = self._start_proxy(process)
                eventually(self._answers, "the proxy's status", self.patience)
            case Role.AGENT:
                process.pid = self._start_agent(process)
            case Role.APP:
                raise ValueError(role)

    def boot_again(self) -> None:
        """Start a guest that was lost, and all that ran in it."""
        raise NotImplementedError("this machine is not lost")

    def start_missing(self) -> list[Role]:
        """Start whoever does not run; returns who did not.

        Raises:
            HungError: one is not up in time.
        """
        missing = [each for each in PROCESSES if not self.processes[each].alive]
        for role in missing:
            self.start(role)
        return missing

    def status(self) -> dict[str, Any] | None:
        """What the proxy says of itself; None: it does not answer."""
        with contextlib.suppress(HostError):
            directory = self.processes[Role.PROXY].directory
            return read_status(Path(directory, "wlproxy", "chaos.sock"))
        return None

    def wait_serving(self) -> None:
        """Wait until there is a session.

        Raises:
            HungError: there is none in time.
        """

        def serving() -> bool:
            document = self.status()
            return document is not None and document["state"] == "serving"

        eventually(serving, "the proxy serves", self.patience)

    def wait_no_clients(self) -> None:
        """Wait until the proxy has let go of every app.

        Raises:
            HungError: it has not, in time.
        """

        def gone() -> bool:
            document = self.status()
            return document is not None and not document["clients"]

        eventually(gone, "no client is left", self.patience)

    # ---- apps

    def app(self) -> App:
        """Start an app of ours.

        Raises:
            TimeoutError: whoever starts them does not answer.
        """
        self._names += 1
        apps, name = self.processes[Role.APP], f"app{self._names}"
        line = json.dumps({"name": name, "display": self.display}).encode() + b"\n"
        answer = apps.place.exchange(f"{apps.directory}/spawner", line, 30)
        return App(apps.place, apps.directory, name, json.loads(answer)["ok"])

    def real_app(self, argv: tuple[str, ...]) -> int:
        """Start a real app; returns its pid, which is its group's."""
        apps = self.processes[Role.APP]
        env = {"WAYLAND_DISPLAY": self.display, "XDG_RUNTIME_DIR": apps.directory}
        return apps.place.spawn(argv, env, apps.log)

    def start_spawner(self) -> None:
        """Start whoever starts apps.

        Raises:
            HungError: it is not up in time.
        """
        apps = self.processes[Role.APP]
        arguments = [apps.directory]
        apps.pid = apps.place.spawn_module(
            "tests.clients.spawner", arguments, self.python(), apps.log
        )
        there = f"test -p {apps.directory}/spawner.out && echo there"
        eventually(lambda: apps.place.shell(there), "the spawner", self.patience)

    def forget_apps(self) -> None:
        """Remove what apps were talked to through."""
        apps = self.processes[Role.APP]
        apps.place.shell(f"rm -f {apps.directory}/app*")

    # ---- how each is started

    def _start_compositor(self, process: Process) -> int:
        directory = process.directory
        env: dict[str, str | None] = {"XDG_RUNTIME_DIR": directory, "TMPDIR": directory}
        env |= {"WAYLAND_DISPLAY": None, "LIBGL_ALWAYS_SOFTWARE": "1"}
        if self.compositor == "sway":
            config = Path(directory, "config")
            config.write_text(SWAY_CONFIG)
            env |= {
                "WLR_BACKENDS": "headless",
                "WLR_RENDERER": "pixman",
                "WLR_LIBINPUT_NO_DEVICES": "1",
                "SWAYSOCK": f"{directory}/sway.sock",
            }
            process.place.shell(f"chown -R {NOBODY} {directory}")
            words = ["sway", "-c", str(config)]
            return process.place.spawn(as_nobody(words), env, process.log)
        renderer = "gl" if self.compositor == "weston-gl" else "pixman"
        # Not the kiosk shell: there, only who is on top gets frame callbacks.
        words = Weston().command(renderer, "desktop", (1024, 768), "wayland-1")
        return process.place.spawn([*words, "--no-config"], env, process.log)

    def _compositor_answers(self) -> bool:
        process = self.processes[Role.COMPOSITOR]
        if not process.alive:
            raise HungError(f"the compositor has ended: {process.news()[-1000:]}")
        try:
            Connection(self.compositor_display).close()
        except (OSError, TimeoutError, DisconnectedError):
            return False
        if (
            self.compositor == "weston-gl"
        ):  # its shaders are compiled for its first client
            env = {"WAYLAND_DISPLAY": self.compositor_display}
            words = ["timeout", "4", "weston-simple-shm"]
            process.place.status(process.place.spawn(words, env, "/dev/null"))
        return True

    def _start_proxy(self, process: Process) -> int:
        arguments = ["run", "--name", "chaos", "--channel", self._channel()]
        arguments += ["--display", self.compositor_display]
        directory = process.directory
        env = {"XDG_RUNTIME_DIR": directory, "TMPDIR": directory}
        return process.place.spawn_module("wlproxy", arguments, env, process.log)

    def _answers(self) -> bool:
        process = self.processes[Role.PROXY]
        if not process.alive:
            said = process.news()
            if NO_ANSWER not in said:
                raise HungError(f"the proxy has ended: {said[-1000:]}")
            process.pid = self._start_proxy(process)  # as its supervisor would
        return self.status() is not None

    def _agent_environment(self) -> dict[str, str | None]:
        directory = self.processes[Role.AGENT].directory
        return {**self.python(), "XDG_RUNTIME_DIR": directory, "TMPDIR": directory}

    @abstractmethod
    def python(self) -> dict[str, str | None]:
        """What Python needs in its environment to find this tree, where apps run."""

    @abstractmethod
    def _channel(self) -> str: ...

    @abstractmethod
    def _start_agent(self, process: Process) -> int: ...


class NativeStage(Stage):
    """All of it on this machine."""

    def __init__(self, compositor: str, root: Path) -> None:
        here = Here()
        super().__init__(compositor, here, here, str(root))
        self._here = here
        self._root = root
        apps = [*REAL_APPS[compositor], ("weston-terminal",)]
        self.real_apps = tuple(each for each in apps if shutil.which(each[0]))

    def python(self) -> dict[str, str | None]:
        return {
            "PYTHONPATH": f"{TREE}:{TREE / 'guest-agent'}",
            "WLPROXY_CHAOS_RAM": str(self._root / "ram"),
        }

    def _channel(self) -> str:
        return str(self._root / "channel")

    def start_machine(self) -> None:
        """Start what stands in for QEMU.

        Raises:
            HungError: it is not up in time.
        """
        arguments = [str(self._root), "-machine", "q35"]
        log = str(self._root / "machine.log")
        module = "tests.chaos.machine"
        self._here.spawn_module(module, arguments, self.python(), log)
        there = (self._root / "ram").is_symlink
        eventually(there, "the machine", self.patience)

    def _start_agent(self, process: Process) -> int:
        arguments = ["--socket", self.display, "--port", f"unix:{self._root}/port"]
        module, env = "tests.chaos.agent", self._agent_environment()
        return process.place.spawn_module(module, arguments, env, process.log)

    def close(self) -> None:
        """End everything."""
        self._here.end_all()


class LabStage(Stage):
    """In the lab's host VM, with its guest."""

    patience = 120.0
    calm = 1.0

    def __init__(self, compositor: str, root: Path, guest: Guest) -> None:
        self._here = Here()
        self._machine = guest
        super().__init__(compositor, self._here, InGuest(guest), str(root))
        self.real_apps = REAL_APPS[compositor]

    def python(self) -> dict[str, str | None]:
        return {"PYTHONPATH": GUEST_TREE, "PYTHONDONTWRITEBYTECODE": None}

    def _channel(self) -> str:
        return str(CHANNEL)

    def _start_agent(self, process: Process) -> int:
        arguments = ["--socket", self.display]
        module, env = "wlproxy_guest", self._agent_environment()
        return process.place.spawn_module(module, arguments, env, process.log)

    def boot_again(self) -> None:
        self._machine.boot()
        GuestSide(self._machine).ship()
        self.make_directories([self.processes[Role.AGENT], self.processes[Role.APP]])
        for role in (Role.AGENT, Role.APP):
            self.processes[role].pid = self.processes[role].log_read = 0
        self.start_spawner()
        self.start_missing()

    def close(self) -> None:
        """End everything but the guest."""
        for role in (Role.AGENT, Role.APP):
            if pid := self.processes[role].pid:
                self.guest.signal(-pid, 9)
        self._here.end_all()


@contextlib.contextmanager
def native_stage(
    compositor: str, *, beside: Stage | None = None
) -> Iterator[NativeStage]:
    """Everything runs, on this machine; `beside` another VM, on the same compositor.

    Raises:
        HungError: not everything came up.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        Path(name).chmod(0o711)
        stage = NativeStage(compositor, Path(name))
        if beside is not None:
            stage.share_compositor(beside)
        stage.make_directories(stage.own_processes())
        try:
            stage.start_machine()
            stage.start_spawner()
            stage.start_missing()
            yield stage
        finally:
            stage.close()
            stage.remove_directories()


@contextlib.contextmanager
def lab_stage(compositor: str, guest: Guest) -> Iterator[LabStage]:
    """Everything runs, in the lab.

    Raises:
        HungError: not everything came up.
    """
    GuestSide(guest).ship()
    stage = LabStage(compositor, Path(f"/run/chaos-{compositor}"), guest)
    stage.make_directories(stage.own_processes())
    try:
        stage.start_spawner()
        stage.start_missing()
        yield stage
    finally:
        stage.close()
        stage.remove_directories()


def can_run(compositor: str) -> bool:
    """Whether this machine has what a native stage of this compositor needs."""
    programs = ("sway" if compositor == "sway" else "weston", "setpriv", "prlimit")
    return all(map(shutil.which, programs))


def versions(compositor: str) -> str:
    """Say which compositor it is."""
    program = "sway" if compositor == "sway" else "weston"
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False
    )
    return f"{compositor} ({done.stdout.strip()})"
