"""The control agent inside the guest, which `lab.guest.Guest` talks to.

It is started by the guest's init with the path of a virtio-serial port, answers each
request in a thread of its own, and outlives any number of host sides.  It has nothing
to do with wlproxy's guest agent, which is one of the programs that it starts.
"""

import contextlib
import importlib
import io
import os
import pwd
import runpy
import signal
import subprocess
import sys
import tarfile
import threading
import time
import traceback
import tty
from pathlib import Path
from typing import Any, NoReturn

from lab.wire import CHUNK, SYNC, Frame, FrameReader, WireError, encode

LOADED: set[str] = set()
"""What `op_preload` imported."""
# How often to look whether a host is back; while one is there, reads block.
ABSENT_POLL = 0.05


class Forked:
    """A child that was forked and not executed; the part of `Popen` used here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Return its exit status, or `None` while it runs."""
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        deadline = time.monotonic() + (timeout or 0)
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.02)
        return code


class Agent:
    """Serves requests from one port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._write_lock = threading.Lock()
        self._children: dict[int, subprocess.Popen[bytes] | Forked] = {}

    def serve(self) -> None:
        """Serve forever."""
        reader = FrameReader()
        while True:
            data = os.read(self._port, CHUNK)
            if not data:
                time.sleep(ABSENT_POLL)
                continue
            reader.feed(data)
            self._drain(reader)

    def _drain(self, reader: FrameReader) -> None:
        while True:
            try:
                frame = reader.next_frame()
            except WireError as error:
                print(f"lab control: {error}", file=sys.stderr, flush=True)
                continue
            if frame is None:
                return
            if frame.head.get("op") == "hello":
                if (now := frame.head.get("time")) is not None:
                    time.clock_settime(time.CLOCK_REALTIME, float(now))
                self._write(SYNC + encode(frame))
            elif frame.head.get("op") in ("preload", "fork"):
                # In the main thread: only that one may fork, with nobody else half
                # way through something.
                self._answer(frame)
            else:
                threading.Thread(target=self._answer, args=[frame], daemon=True).start()

    def _answer(self, frame: Frame) -> None:
        head = frame.head
        try:
            name = str(head.get("op"))
            reply = getattr(self, f"op_{name}")(head, frame.blob)
        except Exception as error:  # noqa: BLE001 - it is the answer
            reply = Frame({"error": f"{type(error).__name__}: {error}"})
        self._write(encode(Frame({**reply.head, "id": head.get("id")}, reply.blob)))

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._write_lock:
            while view:
                view = view[os.write(self._port, view[:CHUNK]) :]

    def op_clock(self, head: dict[str, Any], _blob: bytes) -> Frame:
        """Set the wall clock, which is stale after a template was restored."""
        time.clock_settime(time.CLOCK_REALTIME, float(head["time"]))
        return Frame({})

    def op_put(self, head: dict[str, Any], blob: bytes) -> Frame:
        """Write a file, and the directories it needs."""
        path = Path(head["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob)
        path.chmod(head["mode"])
        return Frame({})

    def op_put_tree(self, head: dict[str, Any], blob: bytes) -> Frame:
        """Unpack a tar file."""
        path = Path(head["path"])
        path.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=io.BytesIO(blob)) as tar:
            tar.extractall(path, filter="fully_trusted")  # noqa: S202 - our own
        return Frame({})

    def op_get(self, head: dict[str, Any], _blob: bytes) -> Frame:
        """Read a file."""
        return Frame({}, Path(head["path"]).read_bytes())

    def op_run(self, head: dict[str, Any], blob: bytes) -> Frame:
        """Run a program to its end and return its output."""
        process = self._popen(head, stdin=subprocess.PIPE, output=subprocess.PIPE)
        timed_out = False
        try:
            out, err = process.communicate(blob, head.get("timeout"))
        except subprocess.TimeoutExpired:
            timed_out = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        answer = {
            "returncode": process.returncode,
            "stdout": len(out),
            "timed_out": timed_out,
        }
        return Frame(answer, out + err)

    def op_spawn(self, head: dict[str, Any], _blob: bytes) -> Frame:
        """Start a program and leave it running, its output in a file."""
        log = Path(head["log"])
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            process = self._popen(head, stdin=subprocess.DEVNULL, output=file.fileno())
        self._children[process.pid] = process
        return Frame({"pid": process.pid})

    def op_preload(self, head: dict[str, Any], _blob: bytes) -> Frame:
        """Import modules that programs started by `op_fork` then have already."""
        failures = []
        for name in head["modules"]:
            try:
                importlib.import_module(name)
            except ImportError as error:
                failures.append(f"{name}: {error}")
            else:
                LOADED.add(name)
        return Frame({"failures": failures})

    def op_fork(self, head: dict[str, Any], _blob: bytes) -> Frame:
        """Start ``python3 -m MODULE ...`` as a fork of this process.

        That saves the imports, seconds under emulation.  Without `op_preload` it
        would save nothing: then the program is started as any other.
        """
        if not LOADED:
            return self.op_spawn(head, b"")
        Path(head["log"]).parent.mkdir(parents=True, exist_ok=True)
        environment, options = _identity(head)
        pid = os.fork()
        if pid == 0:
            _become(head, environment, options)
        self._children[pid] = Forked(pid)
        return Frame({"pid": pid})

    def op_wait(self, head: dict[str, Any], _blob: bytes) -> Frame:
        """Wait for a spawned program; no return code if it still runs."""
        process = self._children[head["pid"]]
        try:
            return Frame({"returncode": process.wait(head.get("timeout"))})
        except subprocess.TimeoutExpired:
            return Frame({"returncode": None})

    def op_kill(self, head: dict[str, Any], _blob: bytes) -> Frame:
        """Send a signal to a process."""
        os.kill(head["pid"], head["signal"])
        return Frame({})

    def op_alive(self, head: dict[str, Any], _blob: bytes) -> Frame:
        """Tell whether a process runs (a zombie does not)."""
        pid = head["pid"]
        if pid in self._children:
            return Frame({"alive": self._children[pid].poll() is None})
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return Frame({"alive": False})
        return Frame({"alive": state not in "ZX"})

    def _popen(
        self, head: dict[str, Any], *, stdin: int, output: int
    ) -> subprocess.Popen[bytes]:
        environment, options = _identity(head)
        return subprocess.Popen(
            head["argv"],
            env=environment,
            cwd=head.get("cwd") or "/",
            stdin=stdin,
            stdout=output,
            stderr=subprocess.PIPE if output == subprocess.PIPE else subprocess.STDOUT,
            start_new_session=True,
            **options,
        )


def _identity(head: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return a program's environment, and whose it is in the words of `Popen`."""
    environment = dict(os.environ)
    options: dict[str, Any] = {}
    if head.get("user"):
        entry = pwd.getpwnam(head["user"])
        environment |= {"HOME": entry.pw_dir, "USER": entry.pw_name}
        options = {
            "user": entry.pw_uid,
            "group": entry.pw_gid,
            "extra_groups": os.getgrouplist(entry.pw_name, entry.pw_gid),
        }
    for name, value in (head.get("env") or {}).items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment, options


def _become(
    head: dict[str, Any], environment: dict[str, str], options: dict[str, Any]
) -> NoReturn:
    """Turn this fork into the program that was asked for."""
    status = 1
    try:
        os.setsid()
        log = os.open(head["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.closerange(3, 1024)
        if options:
            os.setgroups(options["extra_groups"])
            os.setgid(options["group"])
            os.setuid(options["user"])
        os.chdir(head.get("cwd") or "/")
        os.environ.clear()
        os.environ.update(environment)
        own = os.path.dirname(os.path.dirname(__file__))
        before = [each for each in environment.get("PYTHONPATH", "").split(":") if each]
        inherited = [each for each in sys.path if each not in ("", "/", own)]
        sys.path[:] = [os.getcwd(), *before, *inherited]
        for name in [each for each in sys.modules if each.partition(".")[0] == "lab"]:
            del sys.modules[name]
        _python, _m, module, *arguments = head["argv"]
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else bool(error.code)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - the end of this process, whatever it is
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Serve the port named on the command line."""
    # What found this program is none of the business of those it starts.
    os.environ.pop("PYTHONPATH", None)
    port = os.open(sys.argv[1], os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
    if os.isatty(port):  # a console of Xen's, which would also give an echo
        tty.setraw(port)
    Agent(port).serve()


if __name__ == "__main__":
    main()
