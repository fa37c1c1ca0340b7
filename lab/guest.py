"""`Guest`: lets a test run programs and write files inside the guest.

    with Guest() as guest:
        guest.put("/opt/agent.py", source)
        pid = guest.spawn(["python3", "/opt/agent.py"], log="/run/agent.log")
        assert guest.run(["wayland-info"], env={"WAYLAND_DISPLAY": "wl-0"}).ok

Its methods block; several threads may call them at once (from trio:
``trio.to_thread.run_sync``).
"""

import contextlib
import io
import itertools
import queue
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import nested
from lab.errors import LabError
from lab.qemu import Qmp
from lab.say import say
from lab.wire import Connection, Frame, WireError


class GuestError(LabError):
    """The guest could not do what was asked, or is not there."""


class GuestLostError(GuestError):
    """The guest does not answer any more, or has gone, while it was asked something."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program in the guest left behind."""

    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Whether it exited with status 0."""
        return self.returncode == 0


class Guest:
    """A guest: its control channel, and the QEMU that it runs in."""

    def __init__(self, machine: nested.Machine | None = None) -> None:
        """Name a guest: the one inside the lab's VM, unless told otherwise."""
        self.machine = machine or nested.in_lab()
        self._connection: Connection | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        self._waiting: dict[str, queue.SimpleQueue[Frame | None]] = {}
        self._numbers = itertools.count()

    def __enter__(self) -> "Guest":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process id of its QEMU, or `None` if that does not run."""
        return self.machine.pid()

    def close(self) -> None:
        """Let go of the control channel; the guest and its programs go on."""
        with self._lock:
            connection, self._connection = self._connection, None
            reader, self._reader = self._reader, None
        if connection is not None:
            connection.close()
        if reader is not None:
            reader.join()

    def connect(self, timeout: float = 30) -> None:
        """Connect to the control agent, if that is not done yet.

        Every operation does this itself.

        Raises:
            GuestError: it does not answer.
        """
        self._connect(lambda hello: Connection(self.machine.control, timeout, hello))

    def _connect(self, reach: Callable[[dict[str, Any]], Connection]) -> None:
        with self._lock:
            if self._connection is not None:
                return
            old, self._reader = self._reader, None
            if old is not None:
                old.join()
            try:
                # The hello sets the guest's wall clock, which a template left behind.
                connection = reach({"time": time.time()})
            except (LabError, WireError, OSError) as error:
                raise GuestError(f"{error}{self._console_tail()}") from error
            self._connection = connection
            self._reader = threading.Thread(
                target=self._read, args=[connection], daemon=True
            )
            self._reader.start()

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        self._call("put", data, path=path, mode=mode)

    def put_tree(self, tar: bytes, path: str) -> None:
        """Unpack a tar file in the guest."""
        self._call("put_tree", tar, path=path)

    def put_directory(self, source: Path, path: str) -> None:
        """Copy a directory of this machine into the guest."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(source, ".", filter=_without_caches)
        self.put_tree(buffer.getvalue(), path)

    def get(self, path: str) -> bytes:
        """Read a file in the guest."""
        return self._call("get", path=path).blob

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str | None] | None = None,
        timeout: float = 60,
        user: str | None = None,
        cwd: str | None = None,
        stdin: bytes = b"",
    ) -> Completed:
        """Run a program in the guest to its end.

        Args:
            argv: the program and its arguments.
            env: variables to set, or with `None` to remove.
            timeout: seconds until it is killed, with all its children.
            user: whom to run it as (``lab`` is an ordinary user, uid 1000).
            cwd: where; ``/`` if not given.
            stdin: what it reads.

        Raises:
            TimeoutError: it took longer than `timeout`; the message has its output.
            GuestError: it could not be started.
        """
        fields = _program(argv, env, user, cwd)
        reply = self._call("run", stdin, answer_in=timeout, timeout=timeout, **fields)
        size = reply.head["stdout"]
        out, err = reply.blob[:size], reply.blob[size:]
        if reply.head["timed_out"]:
            text = (out[-2000:] + err[-2000:]).decode(errors="replace")
            raise TimeoutError(f"{list(argv)} took longer than {timeout} s:\n{text}")
        return Completed(reply.head["returncode"], out, err)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str | None] | None = None,
        log: str = "/run/wlproxy-lab/spawned.log",
        user: str | None = None,
        cwd: str | None = None,
    ) -> int:
        """Start a program in the guest, its output in `log`, and return its pid."""
        fields = _program(argv, env, user, cwd)
        return int(self._call("spawn", log=log, **fields).head["pid"])

    def spawn_module(
        self,
        module: str,
        *arguments: str,
        env: Mapping[str, str | None] | None = None,
        log: str = "/run/wlproxy-lab/spawned.log",
        user: str | None = None,
        cwd: str | None = None,
    ) -> int:
        """Start ``python3 -m MODULE ARGUMENTS``, and return its pid.

        In a template's guest it is the fork of a process that has imported trio and
        more already, which saves seconds.  Elsewhere it is started in the usual way.
        """
        fields = _program(["python3", "-m", module, *arguments], env, user, cwd)
        return int(self._call("fork", log=log, **fields).head["pid"])

    def wait(self, pid: int, timeout: float = 60) -> int:
        """Wait for a spawned program and return its exit status.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        reply = self._call("wait", answer_in=timeout, pid=pid, timeout=timeout)
        if reply.head["returncode"] is None:
            raise TimeoutError(f"process {pid} still runs after {timeout} s")
        return int(reply.head["returncode"])

    def kill(self, pid: int, number: int = signal.SIGTERM) -> None:
        """Send a signal to a process in the guest."""
        self._call("kill", pid=pid, signal=int(number))

    def alive(self, pid: int) -> bool:
        """Tell whether a process in the guest runs."""
        return bool(self._call("alive", pid=pid).head["alive"])

    def qmp(self) -> Qmp:
        """Open a QMP session with its QEMU."""
        return Qmp(self.machine.qmp)

    def power_off(self) -> None:
        """Pull the plug: QEMU quits at once, as if it had been killed."""
        self.machine.kill()
        self.close()

    def boot(self, *, attempts: int = 2) -> None:
        """Start its QEMU and wait until the control agent answers, however slowly.

        Under emulation about one boot in ten hangs, which is QEMU's fault: so it is
        tried again.

        Raises:
            GuestError: it did not come up.
        """
        for attempt in range(1, attempts + 1):
            self.power_off()
            process = self.machine.start(die_with_parent=True)
            # Reaps it whenever it ends.
            threading.Thread(target=process.wait, daemon=True).start()
            try:
                self._connect(lambda hello: self.machine.connect(say, hello))
            except GuestError as error:
                print(f"boot {attempt} of {attempts} failed: {error}", flush=True)
                if attempt == attempts:
                    raise
            else:
                return

    def _call(
        self, op: str, blob: bytes = b"", *, answer_in: float = 0, **fields: object
    ) -> Frame:
        self.connect()
        connection = self._connection
        if connection is None:
            raise GuestError("closed")
        answer: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        request = f"{connection.nonce}-{next(self._numbers)}"
        self._waiting[request] = answer
        head: dict[str, Any] = {"op": op, "id": request, **fields}
        try:
            with self._lock:
                connection.send(Frame(head, blob))
            reply = answer.get(timeout=answer_in + 30)
        except queue.Empty:
            raise GuestLostError(f"no answer to {op}{self._console_tail()}") from None
        except OSError as error:
            raise GuestError(f"{op}: {error}") from error
        finally:
            self._waiting.pop(request, None)
        if reply is None:
            raise GuestLostError(
                f"the guest went away during {op}{self._console_tail()}"
            )
        if "error" in reply.head:
            raise GuestError(f"{op}: {reply.head['error']}")
        return reply

    def _read(self, connection: Connection) -> None:
        with contextlib.suppress(WireError, OSError, ValueError):
            while True:
                frame = connection.receive()
                answer = self._waiting.get(str(frame.head.get("id")))
                if answer is not None:
                    answer.put(frame)
        if self._connection is connection:
            self._connection = None
        connection.close()
        for answer in list(self._waiting.values()):
            answer.put(None)

    def _console_tail(self) -> str:
        with contextlib.suppress(OSError):
            text = self.machine.console.read_text(errors="replace")
            return f"\nthe guest's console ends with:\n{text[-1500:]}"
        return ""


def _program(
    argv: Sequence[str],
    env: Mapping[str, str | None] | None,
    user: str | None,
    cwd: str | None,
) -> dict[str, Any]:
    return {"argv": list(argv), "env": dict(env or {}), "user": user, "cwd": cwd}


def _without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member
