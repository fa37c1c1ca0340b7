"""Drives both ends of the real path: guest and agent, compositors, the proxy.

Inside the lab's host VM only.  The programs are the shipped ones, started as a user
would; what is read of them is what they show: the status socket, logs, /proc.
"""

import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lab import guest_agent, ordinary_user, proc
from lab.guest import Completed, Guest, GuestError
from lab.weston import Weston
from tests.clients import capture
from tests.clients.capture import Picture, assert_shows
from wlproxy.host.errors import HostError
from wlproxy.host.report.status_socket import read_status

TREE = Path(__file__).resolve().parents[2]
RUNTIME = Path(os.environ.get("XDG_RUNTIME_DIR", "/run/user/0"))
OUT = Path(os.environ.get("WLPROXY_OUT", "/tmp"))
CHANNEL = Path("/run/wlproxy-lab/guest/channel.sock")

GUEST_TREE = "/opt/wlproxy-tests"
GUEST_RUNTIME = "/run/wlproxy-tests"
GUEST_DISPLAY = f"{GUEST_RUNTIME}/wayland-0"
PATTERN_DIRECTORY = "/run/pattern"
PATIENCE = 60.0
"""Seconds for anything that takes one, under emulation twice over."""

T = TypeVar("T")


def eventually(
    look: Callable[[], T], what: str, timeout: float = PATIENCE, pause: float = 0.05
) -> T:
    """Look at observable state until it is truthy; return what was seen.

    Raises:
        AssertionError: it never was, in time.
    """
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what}; last: {seen!r}")
        time.sleep(pause)
    return seen


class ClientError(Exception):
    """A pattern client answered with an error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        self.text = text


class PatternClient:
    """A pattern client in the guest; its operations are those of `pattern_client`."""

    def __init__(self, guest: Guest, name: str, watcher: int) -> None:
        self._guest = guest
        self._path = f"{PATTERN_DIRECTORY}/{name}"
        self._watcher = watcher

    def call(self, operation: str, *, timeout: float = 120, **arguments: Any) -> Any:
        """Have it do something, and return what it says.

        Raises:
            ClientError: it could not, or is dead.
        """
        self.start(operation, **arguments)
        return self.finish(timeout)

    def start(self, operation: str, **arguments: Any) -> None:
        """Have it begin with something; `finish` returns what it says."""
        line = json.dumps({"op": operation, **arguments}).encode() + b"\n"
        self._guest.put(f"{self._path}.in", line)

    def finish(self, timeout: float = 120) -> Any:
        """Wait for what was started last.

        Raises:
            ClientError: it could not, or is dead.
        """
        return read_answer(self._guest, self._path, timeout)

    def expect_error(self, operation: str, **arguments: Any) -> ClientError:
        """Have it do something that must fail."""
        try:
            result = self.call(operation, **arguments)
        except ClientError as error:
            return error
        raise AssertionError(f"{operation} succeeded: {result!r}")

    def show(self, surface: str, buffer: str, frame: int) -> None:
        """Draw a frame into a buffer and show that."""
        self.call("draw", buffer=buffer, frame=frame)
        self.call("show", surface=surface, buffer=buffer)

    @property
    def pid(self) -> int:
        """Its process id in the guest."""
        return int(self.call("pid"))

    def kill(self) -> None:
        """Kill it, and whoever answers for it."""
        with contextlib.suppress(Exception):
            self._guest.kill(-self._watcher, signal.SIGKILL)


def call_fifo(guest: Guest, path: str, line: bytes, timeout: float) -> Any:
    """Write a line into PATH.in and return the answer from PATH.out."""
    guest.put(f"{path}.in", line)
    return read_answer(guest, path, timeout)


def read_answer(guest: Guest, path: str, timeout: float) -> Any:
    """Return the answer from PATH.out."""
    reply = guest._call(  # noqa: SLF001 - no public one waits so long
        "get", path=f"{path}.out", answer_in=timeout
    )
    answer = json.loads(reply.blob)
    if "error" in answer:
        raise ClientError(*answer["error"])
    return answer["ok"]


class GuestSide:
    """The guest: the agent in it, pattern clients, real apps."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.agent: int | None = None
        self.agent_module = ""
        self.clients: list[PatternClient] = []
        self._client_numbers = itertools.count(1)
        self._spawner: int | None = None

    def ship(self) -> None:
        """Copy the agent and the clients of this tree into the guest."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            clients = (TREE / "tests/clients", "tests/clients")
            for source, target in [*guest_agent.sources(), clients]:
                tar.add(source, target, filter=_sources)
        self.guest.put_tree(buffer.getvalue(), GUEST_TREE)

    def start_agent(
        self,
        module: str = "wlproxy_guest",
        *options: str,
        privileged: bool = True,
    ) -> int:
        """Start the agent, or a module that is like it; as root, or without rights."""
        self.guest.run(["mkdir", "-p", GUEST_RUNTIME])
        argv = ["python3", "-m", module, "--socket", GUEST_DISPLAY]
        argv += ["--log-level", "debug", *options]
        if not privileged:
            guest_agent.add_user(self.guest)
            self.guest.run(["chown", guest_agent.USER, GUEST_RUNTIME])
            argv = guest_agent.as_user(argv)
        self.agent_module = module
        self.agent = self.guest.spawn(argv, env=self._python(), log="/run/agent.log")
        return self.agent

    def stop_agent(self, number: int = signal.SIGTERM) -> None:
        """Stop the agent and wait for its end."""
        if self.agent is not None:
            self.guest.kill(self.agent, number)
            self.guest.wait(self.agent, timeout=30)
            self.agent = None

    def rebooted(self) -> None:
        """Forget what ran before the guest was booted anew, and start the agent."""
        self.agent = self._spawner = None
        self.ship()
        self.start_agent()

    def agent_log(self) -> str:
        """What the agent has logged."""
        return self.guest.get("/run/agent.log").decode()

    def client(self, display: str = GUEST_DISPLAY) -> PatternClient:
        """Start a pattern client."""
        if self._spawner is None:
            argv = ["python3", "-m", "tests.clients.spawner", PATTERN_DIRECTORY]
            log = "/run/spawner.log"
            self._spawner = self.guest.spawn(argv, env=self._python(), log=log)
            ready = f"test -p {PATTERN_DIRECTORY}/spawner.out"
            eventually(lambda: self.guest.run(["sh", "-c", ready]).ok, "the spawner")
        name = f"client{next(self._client_numbers)}"
        line = json.dumps({"name": name, "display": display}).encode() + b"\n"
        path = f"{PATTERN_DIRECTORY}/spawner"
        watcher = int(call_fifo(self.guest, path, line, timeout=30))
        self.clients.append(PatternClient(self.guest, name, watcher))
        return self.clients[-1]

    def kill_clients(self, after: int = 0) -> None:
        """Kill the pattern clients, but for so many that were the first."""
        while len(self.clients) > after:
            self.clients.pop().kill()

    def app(self, *argv: str, log: str, env: dict[str, str] | None = None) -> int:
        """Start a real app."""
        environment = {
            "WAYLAND_DISPLAY": GUEST_DISPLAY,
            "XDG_RUNTIME_DIR": GUEST_RUNTIME,
            **(env or {}),
        }
        return self.guest.spawn(list(argv), env=environment, log=log)

    def kill_app(self, pid: int) -> None:
        """Kill an app and its children, if they run."""
        with contextlib.suppress(GuestError):
            self.guest.kill(-pid, signal.SIGKILL)

    def wait_app(
        self, pid: int, log: str, look: Callable[[], T], timeout: float = PATIENCE
    ) -> T:
        """Wait for something that an app does.

        Raises:
            AssertionError: it ended, or did not do it; with what it said.
        """

        def alive_and() -> T:
            assert self.guest.alive(pid), "it has ended"
            return look()

        try:
            return eventually(alive_and, "the app", timeout)
        except AssertionError as error:
            text = self.guest.get(log).decode(errors="replace")[-3000:]
            raise AssertionError(f"{error}\n{log}:\n{text}") from None

    def run_app(self, *argv: str, timeout: float = 60, stdin: bytes = b"") -> Completed:
        """Run a Wayland program to its end."""
        environment = {
            "WAYLAND_DISPLAY": GUEST_DISPLAY,
            "XDG_RUNTIME_DIR": GUEST_RUNTIME,
        }
        return self.guest.run(argv, env=environment, timeout=timeout, stdin=stdin)

    def meminfo(self, field_name: str) -> int:
        """Return a field of /proc/meminfo, bytes."""
        for line in self.guest.get("/proc/meminfo").decode().splitlines():
            name, _, value = line.partition(":")
            if name == field_name:
                return int(value.split()[0]) * 1024
        raise KeyError(field_name)

    def fd_count(self, pid: int) -> int:
        """Return how many fds a process in the guest has open."""
        return len(self.guest.run(["ls", f"/proc/{pid}/fd"]).stdout.split())

    def rss(self, pid: int) -> int:
        """Return the resident memory of a process in the guest, bytes."""
        pages = int(self.guest.get(f"/proc/{pid}/statm").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self, pid: int) -> float:
        """Return the CPU time a process has used, its ended threads' included."""
        return proc.cpu_seconds(self.guest.get(f"/proc/{pid}/stat").decode())

    @staticmethod
    def _python() -> dict[str, str | None]:
        return {"PYTHONPATH": GUEST_TREE, "PYTHONDONTWRITEBYTECODE": None}


def _sources(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


@dataclass(slots=True)
class Compositor:
    """A compositor of the host: where it listens and how to see what it shows.

    Attributes:
        name: for people.
        display: its socket.
        process: it, if a test started it.
        imports: it takes linux-dmabuf (mode B).
    """

    name: str
    display: Path
    imports: bool = False
    process: "subprocess.Popen[bytes] | None" = None

    def capture(self) -> Picture:
        """Return a picture of its output."""
        if self.name.startswith("sway"):
            return capture.grim(str(self.display), self.display.parent)
        return capture.weston(str(self.display))

    def wait_shows(
        self,
        width: int,
        height: int,
        frame: int,
        origin: tuple[int, int] = (0, 0),
        timeout: float = 20,
    ) -> tuple[int, int]:
        """Wait until it shows a part of a frame; as `capture.assert_shows`.

        A frame's callback says that it will be shown, not that it is.

        Raises:
            AssertionError: it does not; the last picture is kept.
        """
        deadline = time.monotonic() + timeout
        while True:
            picture = self.capture()
            try:
                return assert_shows(picture, width, height, frame, origin)
            except AssertionError:
                if time.monotonic() > deadline:
                    picture.save(OUT / f"{self.name}-{time.monotonic_ns()}.ppm")
                    raise

    def pid(self) -> int:
        """Return its process id: its own, or found by its socket's name."""
        if self.process is not None:
            return self.process.pid
        wanted = f"--socket={self.display.name}".encode()
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if wanted in words and words[0].endswith(b"weston"):
                    return int(path.parent.name)
        raise AssertionError(f"{self.name} does not run")

    def kill(self) -> None:
        """Kill it, if a test started it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


WESTON_PIXMAN = Compositor("weston-pixman", RUNTIME / "wl-pixman")
WESTON_GL = Compositor("weston-gl", RUNTIME / "wl-gl", imports=True)


def start_weston(
    directory: Path,
    name: str,
    renderer: str = "pixman",
    shell: str = "kiosk",
    size: tuple[int, int] = (1024, 768),
) -> Compositor:
    """Start a weston of one's own, to be killed."""
    display = RUNTIME / name
    command = [*Weston().command(renderer, shell, size, name), "--no-config"]
    with (directory / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    compositor = Compositor(name, display, renderer == "gl", process)
    eventually(display.exists, f"{name} is up")
    return compositor


SWAY_CONFIG = """\
xwayland disable
default_border none
focus_follows_mouse no
output * mode {width}x{height} bg #000000 solid_color
seat * hide_cursor 100
"""


def start_sway(
    directory: Path, size: tuple[int, int] = (1024, 768), *, nobodys: bool = False
) -> Compositor:
    """Start a headless sway with the pixman renderer; as root's, or as nobody's."""
    directory.mkdir(mode=0o700, exist_ok=True)
    width, height = size
    config = directory / "config"
    config.write_text(SWAY_CONFIG.format(width=width, height=height))
    command = ["sway", "--config", str(config)]
    if nobodys:
        os.chown(directory, ordinary_user.NOBODY, ordinary_user.NOBODY)
        command = ordinary_user.as_nobody(command)
    environment = {
        **os.environ,
        "WLR_BACKENDS": "headless",
        "WLR_RENDERER": "pixman",
        "WLR_LIBINPUT_NO_DEVICES": "1",
        "XDG_RUNTIME_DIR": str(directory),
        "SWAYSOCK": str(directory / "sway.sock"),
    }
    environment.pop("WAYLAND_DISPLAY", None)
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )

    def display() -> Path | None:
        assert process.poll() is None, (directory / "log").read_text()[-2000:]
        sockets = [each for each in directory.glob("wayland-*") if each.is_socket()]
        return sockets[0] if sockets else None

    found = eventually(display, "sway is up")
    assert found is not None
    return Compositor("sway", found, process=process)


class RunningProxy:
    """A running `wlproxy run`, wherever that is: what it logs, and what it says of itself.

    Attributes:
        process: it.
        log_path: what it, and those before it, log.
    """

    __slots__ = ()
    process: "subprocess.Popen[bytes]"
    log_path: Path

    def log(self) -> str:
        """What it has logged."""
        return self.log_path.read_text()

    def status(self) -> dict[str, Any]:
        """Return the document of its status socket."""
        raise NotImplementedError

    def wait_state(self, state: str, timeout: float = PATIENCE) -> None:
        """Wait until it says that it is doing something."""

        def look() -> bool:
            assert self.process.poll() is None, f"wlproxy ended:\n{self.log()[-4000:]}"
            with contextlib.suppress(HostError):
                return bool(self.status()["state"] == state)
            return False

        try:
            eventually(look, f"wlproxy is {state}", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from None

    def surfaces(self, minimum_frames: int = 1) -> list[dict[str, Any]]:
        """Return the surfaces that have shown something."""
        return [
            surface
            for surface in self.status()["surfaces"]
            if surface["frames"] >= minimum_frames
        ]

    def surface(self) -> dict[str, Any]:
        """Return the one surface there is."""
        (only,) = self.surfaces()
        return only

    def copied(self) -> int:
        """Return the pixel bytes it has copied since it started."""
        return int(self.status()["metrics"]["pixel_bytes_copied"])

    def wait_no_clients(self) -> None:
        """Wait until no client is left, not even one that is being let go."""
        eventually(lambda: not self.status()["clients"], "all clients are gone")


@dataclass(slots=True)
class Proxy(RunningProxy):
    """A running `wlproxy run`.

    Attributes:
        compositor: what it shows on.
        process: it.
        log_path: what it logs.
        options: what else it was told.
        socket: where it answers `wlproxy status`.
    """

    compositor: Compositor
    process: "subprocess.Popen[bytes]"
    log_path: Path
    options: tuple[str, ...] = field(default=())
    socket: Path = RUNTIME / "wlproxy" / "vm.sock"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def status(self) -> dict[str, Any]:
        """Return the document of its status socket."""
        return read_status(self.socket)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"would not stop:\n{self.log()[-4000:]}") from None


WHOLE_CHUNK = 48 * 1024
"""Credit below this does not hold another full chunk of events: the client is stalled."""


def stall(proxy: Proxy, client: PatternClient) -> int:
    """Have a client read nothing until its credit is used up; returns its id."""
    before = {each["client_id"] for each in proxy.status()["clients"]}
    client.call("connect")
    (client_id,) = {
        int(each["client_id"]) for each in proxy.status()["clients"]
    } - before

    def credit() -> int:
        for each in proxy.status()["clients"]:
            if each["client_id"] == client_id:
                return int(each["credit_from_guest"])
        raise AssertionError("it was disconnected")

    def used_up() -> bool:
        # One portion at a time, as slow as the path may be: a compositor disconnects
        # who asks for much more than is read.
        before = credit()
        client.call("unread", count=60)
        with contextlib.suppress(AssertionError):  # absorbed by somebody's buffer
            eventually(lambda: credit() != before, "it takes credit", timeout=3)
        return credit() < WHOLE_CHUNK

    eventually(used_up, "its credit is used up", pause=0.3)
    return client_id


def start_proxy(
    compositor: Compositor,
    directory: Path,
    options: Sequence[str] = (),
    channel: Path = CHANNEL,
    *,
    name: str = "vm",
    nobodys: bool = False,
) -> Proxy:
    """Start the proxy as a user would: as root, or as nobody, if the compositor is nobody's."""
    log_path = directory / f"wlproxy-{time.monotonic_ns()}.log"
    argv = [sys.executable, "-m", "wlproxy", "run", "--channel", str(channel)]
    argv += ["--display", str(compositor.display), "--log-level", "debug", *options]
    runtime, environment = RUNTIME, dict(os.environ)
    if name != "vm":
        argv += ["--name", name]
    if nobodys:
        runtime = compositor.display.parent
        environment |= {"XDG_RUNTIME_DIR": str(runtime), "HOME": str(runtime)}
        argv = ordinary_user.as_nobody(argv)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )
    socket = runtime / "wlproxy" / f"{name}.sock"
    return Proxy(compositor, process, log_path, tuple(options), socket)


class ProxySlot:
    """The one proxy that there can be on the one channel: kept while it fits."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.proxy: Proxy | None = None

    def use(self, compositor: Compositor, *options: str) -> Proxy:
        """Return a serving proxy for a compositor; the one there is, if it fits."""
        proxy = self.proxy
        fits = (
            proxy is not None
            and proxy.process.poll() is None
            and proxy.compositor is compositor
            and proxy.options == options
        )
        if proxy is None or not fits:
            self.stop()
            proxy = self.proxy = start_proxy(compositor, self._directory, options)
        proxy.wait_state("serving")
        return proxy

    def stop(self) -> None:
        """Stop the one there is."""
        proxy, self.proxy = self.proxy, None
        if proxy is not None and proxy.process.poll() is None:
            assert proxy.stop() == 0, proxy.log()[-4000:]


def fd_count(pid: int) -> int:
    """Return how many fds a process of the host has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def rss(pid: int) -> int:
    """Return the resident memory of a process of the host, bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used, its ended threads' included."""
    return proc.cpu_seconds(Path(f"/proc/{pid}/stat").read_text())


@contextlib.contextmanager
def udmabuf_limit(name: str, value: int) -> Iterator[None]:
    """Change a parameter of the host's udmabuf driver for a while."""
    path = Path("/sys/module/udmabuf/parameters", name)
    before = path.read_text()
    path.write_text(str(value))
    try:
        yield
    finally:
        path.write_text(before)
