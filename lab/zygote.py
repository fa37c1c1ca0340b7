"""PID 1 of the outer VM, after its init script: brings the host up, then runs jobs.

It starts the compositors (and the guest), imports what tests are slow to import, and
then waits on a virtio-serial port.  That is the moment in which a template is frozen:
nothing runs, nothing is half done.  A job is the working tree and a command; tests run
in a fork of this process, for which the imports cost nothing.
"""

import contextlib
import fcntl
import importlib
import io
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab import nested
from lab.errors import LabError
from lab.nested import RUN
from lab.progress import Progress, file_size
from lab.weston import Weston
from lab.wire import CHUNK, SYNC, Connection, Frame, FrameReader, encode

PORT = Path("/dev/virtio-ports/job")
TREE = Path("/work/wlproxy")
OUT = Path("/out")
RUNTIME = Path("/run/user/0")
COMPOSITORS = {"wl-pixman": "pixman", "wl-gl": "gl"}
PRELOAD = (
    "click",
    "hypothesis",
    "hypothesis.stateful",
    "pytest",
    "pytest_randomly",
    "pytest_timeout",
    "pytest_trio",
    "pytest_trio.plugin",
    "_hypothesis_pytestplugin",
    "pyudev",
    "pywayland.client",
    "pywayland.server",
    "pywayland.protocol.wayland",
    "pywayland.protocol.xdg_shell",
    "rich.console",
    "rich.table",
    "trio",
    "trio.testing",
    "PIL.Image",
)
GUEST_PRELOAD = (
    "trio",
    "pyudev",
    "argparse",
    "ctypes",
    "dataclasses",
    "importlib.metadata",
    "logging",
    "mmap",
    "pywayland.client",
    "pywayland.protocol.wayland",
)
# Its plugins are in memory already, which pytest would complain about.
PYTEST_OPTIONS = ("-W", "ignore:Module already imported so cannot be rewritten")
# linux/random.h
RNDRESEEDCRNG = 0x5207
# How often to look whether a runner is back; while one is there, reads block.
ABSENT_POLL = 0.01


def log(text: str) -> None:
    """Print a line on the console."""
    uptime = Path("/proc/uptime").read_text().split()[0]
    print(f"zygote {uptime}: {text}", flush=True)


def wait_until(condition: Callable[[], bool], what: str, writes_to: Path) -> None:
    """Wait for something to become true, as long as a log grows.

    Raises:
        LabError: it stands still.
    """
    progress = Progress(what, lambda: file_size(writes_to), say=log)
    while not condition():
        progress.check()
        time.sleep(0.05)


def await_guest(guest: nested.Machine) -> Connection:
    """Wait until the guest answers, telling whoever waits for us that it moves.

    Raises:
        LabError: it stands still.
    """
    told = 0

    def tell(size: int) -> None:
        nonlocal told
        if size > told:
            log(f"the guest is booting: {size} bytes on its console")
            told = size

    return guest.connect(log, on_progress=tell)


class Zygote:
    """The process that brings the machine up and then runs jobs in it."""

    def __init__(
        self, *, with_guest: bool, compositors: Mapping[str, str] = COMPOSITORS
    ) -> None:
        self._compositors = compositors
        self._guest = nested.in_lab() if with_guest else None
        self._control: Connection | None = None
        self._port = os.open(PORT, os.O_RDWR | os.O_CLOEXEC)
        self._reader = FrameReader()
        self._ended: dict[int, int] = {}

    def bring_up(self) -> None:
        """Start everything that a job may count on."""
        if self._guest is not None:
            self._guest.start()
        for socket, renderer in self._compositors.items():
            self._start_weston(socket, renderer)
        for name in PRELOAD:
            try:
                importlib.import_module(name)
            except ImportError as error:
                log(f"cannot preload {name}: {error}")
        log("imports done")
        for socket in self._compositors:
            wait_until((RUNTIME / socket).exists, socket, RUN / f"{socket}.log")
        self._warm_up()
        log("compositors up")
        if self._guest is not None:
            self._connect_guest(self._guest)
            log("guest up")

    def _connect_guest(self, guest: nested.Machine) -> None:
        try:
            self._control = await_guest(guest)
        except LabError as error:
            log(f"the guest did not come up, once more: {error}")
            guest.kill()
            guest.start()
            self._control = await_guest(guest)
        self._preload_guest(self._control)

    def _preload_guest(self, control: Connection) -> None:
        request = {"op": "preload", "id": "zygote", "modules": GUEST_PRELOAD}
        control.send(Frame(request))
        while (frame := control.receive(timeout=120)).head.get("id") != "zygote":
            pass
        for failure in frame.head.get("failures", [frame.head.get("error")]):
            log(f"the guest cannot preload {failure}")

    def _start_weston(self, socket: str, renderer: str) -> None:
        command = Weston().command(renderer, "kiosk", (1024, 768), socket)
        command.append("--no-config")
        with (RUN / f"{socket}.log").open("wb") as file:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, "LIBGL_ALWAYS_SOFTWARE": "1"},
            )

    def _warm_up(self) -> None:
        """Have each compositor show something once: that compiles its shaders."""
        clients = [
            subprocess.Popen(
                ["timeout", "3", "weston-simple-shm"],
                env={**os.environ, "WAYLAND_DISPLAY": socket},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for socket in self._compositors
        ]
        for client in clients:
            client.wait()

    def serve(self) -> None:
        """Run jobs, one after the other, for ever."""
        log("ready")
        while True:
            frame = self._receive()
            match frame.head.get("op"):
                case "hello":
                    self._write(SYNC + encode(frame))
                case "job":
                    try:
                        self._job(frame)
                    except Exception:  # noqa: BLE001 - PID 1 must go on
                        self._send({"op": "failed", "why": traceback.format_exc()})
                case "diag":
                    self._send({"op": "diag"}, diagnostics())
                case other:
                    log(f"a frame that says {other!r}")

    def _receive(self) -> Frame:
        while (frame := self._reader.next_frame()) is None:
            self._feed()
        return frame

    def _feed(self) -> None:
        data = os.read(self._port, CHUNK)
        if data:
            self._reader.feed(data)
        else:
            self._reap()
            time.sleep(ABSENT_POLL)

    def _send(self, head: dict[str, Any], blob: bytes = b"") -> None:
        self._write(encode(Frame(head, blob)))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._port, view[:CHUNK]) :]

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
                self._ended[ended[0]] = ended[1]

    def _job(self, frame: Frame) -> None:
        head = frame.head
        time.clock_settime(time.CLOCK_REALTIME, float(head["time"]))
        # Every restored machine would otherwise draw the same random numbers.
        with open("/dev/urandom", "wb", buffering=0) as device:
            device.write(bytes.fromhex(head["seed"]))
            fcntl.ioctl(device, RNDRESEEDCRNG)
        if self._control is not None:
            self._control.close()
            self._control = None
        for path in (TREE, *OUT.iterdir()):
            shutil.rmtree(path, ignore_errors=True)
        TREE.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(frame.blob)) as tar:
            # Our own, and Python 3.11.2 knows no argument to say so.
            tar.extraction_filter = lambda member, _: member
            tar.extractall(TREE)  # noqa: S202
        environment = self._environment(head["env"])
        status = self._run(head, environment)
        if status != 0:
            (OUT / "lab-diagnostics.txt").write_bytes(diagnostics())
        self._send({"op": "files"}, pack(OUT))
        self._send({"op": "exit", "status": status})

    def _environment(self, extra: dict[str, str]) -> dict[str, str]:
        python_path = [TREE, TREE / "guest-agent"]
        return {
            **os.environ,
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "PYTHONPATH": ":".join(map(str, python_path)),
            "WLPROXY_LAB": "1",
            "WLPROXY_LAB_GUEST": "1" if self._guest is not None else "",
            "WLPROXY_OUT": str(OUT),
            "XDG_RUNTIME_DIR": str(RUNTIME),
            **extra,
        }

    def _run(self, head: dict[str, Any], environment: dict[str, str]) -> int:
        """Run the command, sending its output as it comes, and return its status."""
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        if "pytest" in head:
            pid = fork_pytest(head["pytest"], environment, out_write, err_write)
        else:
            try:
                pid = subprocess.Popen(
                    head["argv"],
                    cwd=TREE,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out_write,
                    stderr=err_write,
                    start_new_session=True,
                ).pid
            except OSError as error:
                os.write(err_write, f"{head['argv'][0]}: {error.strerror}\n".encode())
                pid = 0
        os.close(out_write)
        os.close(err_write)
        pipes = {out_read: 1, err_read: 2}
        while pid and pid not in self._ended and pipes:
            self._pump(pipes, timeout=0.2)
            self._reap()
        while pid and pid not in self._ended:
            time.sleep(0.02)
            self._reap()
        # What it left running may hold the pipes open: take what is there, no more.
        while pipes and self._pump(pipes, timeout=0.05):
            pass
        for pipe in pipes:
            os.close(pipe)
        if not pid:
            return 127
        code = os.waitstatus_to_exitcode(self._ended.pop(pid))
        return code if code >= 0 else 128 - code

    def _pump(self, pipes: dict[int, int], timeout: float) -> bool:
        """Forward output, and answer the runner if it wants to know how things are."""
        # Not while it is gone: the port is readable then, and would be for ever.
        poll = select.poll()
        poll.register(self._port, select.POLLIN)
        for pipe in pipes:
            poll.register(pipe, select.POLLIN)
        moved = False
        for ready, events in poll.poll(int(timeout * 1000)):
            if ready == self._port:
                if not events & select.POLLHUP:
                    self._reader.feed(os.read(self._port, CHUNK))
                while (frame := self._reader.next_frame()) is not None:
                    if frame.head.get("op") == "diag":
                        files = pack(OUT)
                        self._send({"op": "files"}, files)
                        self._send({"op": "diag"}, diagnostics())
                continue
            data = os.read(ready, CHUNK)
            if data:
                self._send({"op": "output", "fd": pipes[ready]}, data)
                moved = True
            else:
                os.close(ready)
                del pipes[ready]
        return moved


def fork_pytest(
    arguments: list[str], environment: dict[str, str], out: int, err: int
) -> int:
    """Run pytest in a fork of this process and return its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        # Nothing of the zygote's is the tests' business, least of all its port.
        os.closerange(3, 256)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(TREE)
        # The lab package of the working tree, not the one that the template has.
        for name in [each for each in sys.modules if each.partition(".")[0] == "lab"]:
            del sys.modules[name]
        own = str(Path("/lab/python"))
        sys.path[:] = [*environment["PYTHONPATH"].split(":")] + [
            path for path in sys.path if path not in ("", own)
        ]
        sys.argv = ["pytest", *arguments]
        random.seed()
        sys.stdout = os.fdopen(1, "w", buffering=1)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        pytest = importlib.import_module("pytest")
        status = int(pytest.main([*PYTEST_OPTIONS, *arguments]))
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - the end of this process, whatever it is
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def pack(directory: Path) -> bytes:
    """Pack a directory as a tar file, as far as it can be read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(directory.rglob("*")):
            if path.is_file() or path.is_dir():
                with contextlib.suppress(OSError):
                    tar.add(path, str(path.relative_to(directory)), recursive=False)
    return buffer.getvalue()


def diagnostics() -> bytes:
    """Return what helps to find out why something went wrong."""
    parts = []
    for command in (["dmesg"], ["ps", "-eo", "pid,ppid,stat,wchan:20,time,args"]):
        done = subprocess.run(command, capture_output=True, check=False)
        parts.append(_tail(" ".join(command), done.stdout))
    logs = [*RUN.glob("*.log"), *RUN.glob("guest/*.log"), RUN / "guest" / "console"]
    parts += [_tail(str(path), path.read_bytes()) for path in logs if path.exists()]
    return b"".join(parts)


def _tail(title: str, data: bytes) -> bytes:
    return f"=== {title} (end)\n".encode() + data[-4000:] + b"\n"


def main() -> None:
    """Bring the machine up and serve jobs."""
    words = Path("/proc/cmdline").read_text().split()
    compositors = dict(COMPOSITORS)
    if "wlproxy.role=dom0" in words:
        # Where all is emulated, shaders are compiled for minutes.
        del compositors["wl-gl"]
    zygote = Zygote(with_guest="wlproxy.guest=1" in words, compositors=compositors)
    try:
        zygote.bring_up()
    except Exception:  # noqa: BLE001 - shown on the console, and then the end
        traceback.print_exc()
        sys.stdout.write(diagnostics().decode(errors="replace"))
        sys.stdout.flush()
        subprocess.run(["busybox", "poweroff", "-f"], check=False)
    zygote.serve()


if __name__ == "__main__":
    main()
