"""A proxy in a process of its own, confined as `wlproxy run` is; RAM and udmabuf are a test's.

Run as a program, it is the proxy.  The words after its name are the VM's name, the
channel's path, the policy file's, and the fd that is the RAM.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from wlproxy.host.config import HostConfig
from wlproxy.host.confinement import confine
from wlproxy.host.desktop.desktop import Desktop
from wlproxy.host.errors import HostError
from wlproxy.host.pages import PageSource
from wlproxy.host.policy_file import PolicySource
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.qemu.ram_pages import RamPages
from wlproxy.host.report.status_socket import read_status
from wlproxy.host.report.vm_log import VmLog, set_up_logging
from wlproxy.host.runtime_dir import status_path
from wlproxy.host.server import Server
from wlproxy.memory.guest_memory import GuestMemory, RamRegion
from wlproxy.relay.capabilities import Preference
from wlproxy.relay.wire.context import RelayConfig
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

ROOT = Path(__file__).parents[2]
DEVICE = Path("/dev/null")
"""In place of udmabuf, which not every machine has: everything is copied."""
SECONDS = 30


class ConfinedProxy:
    """The process, and what commands beside it say."""

    def __init__(
        self, name: str, channel: Path, policy: Path, environ: Mapping[str, str]
    ) -> None:
        """Nothing runs yet.

        Args:
            name: the VM's.
            channel: path of QEMU's socket.
            policy: path of the configuration file.
            environ: where sockets and the compositor are.
        """
        self.name = name
        self.environ = {
            **os.environ,
            **environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self._words = [name, str(channel), str(policy)]
        self.log = policy.with_name(f"{name}.log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ram: int) -> None:
        """Start it; `ram` is the fd of the guest's."""
        program = [sys.executable, "-P", "-m", "tests.peers.confined_proxy"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*program, *self._words, str(ram)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environ,
                cwd=ROOT,
                pass_fds=[ram],
            )

    async def serving(self) -> dict[str, Any]:
        """Wait until it serves the guest; its status."""
        with trio.fail_after(SECONDS):
            while True:
                # In a thread: the compositor that it waits for may be in this one.
                status = await trio.to_thread.run_sync(self.status)
                if status.get("state") == "serving":
                    return status
                assert self._process is not None
                assert self._process.poll() is None, self.log.read_text()
                await trio.sleep(0.01)

    def status(self) -> dict[str, Any]:
        """What it says at its socket; empty: nobody is there."""
        with suppress(HostError):
            return read_status(status_path(self.environ, self.name))
        return {}

    def hang_up(self) -> None:
        """Send it SIGHUP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    async def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; returns its status."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        return await trio.to_thread.run_sync(self._process.wait, SECONDS)

    async def command(self, *words: str) -> str:
        """Run a command of `wlproxy` beside it; what it prints."""
        done = await trio.run_process(
            [sys.executable, "-P", "-m", "wlproxy", *words, "--name", self.name],
            env=self.environ,
            cwd=ROOT,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        said = done.stdout.decode()
        assert done.returncode == 0, said
        return said


def main(name: str, channel: str, policy: str, ram: str) -> None:
    """Be the proxy."""
    set_up_logging("debug")
    source = PolicySource(name, Path(policy))
    config = HostConfig(
        Path(channel),
        name,
        RelayConfig(name, Preference.COPY, source.read().policy),
        ram_tap=Path(channel).with_suffix(".ram"),
        policy_source=source,
        reloads=True,
        status=status_path(os.environ, name),
    )
    confined = confine(config, VmLog(name), device=DEVICE)
    file = OwnedFd(int(ram))
    desktop = Desktop(
        name,
        None,
        VmLog(name),
        policy=config.relay.policy.globals.caps,
        allow=config.relay.policy.globals.allow,
        isolate=True,
    )
    desktop.device = None

    def provide(_stream: FdStream) -> PageSource:
        size = os.fstat(file.fileno()).st_size
        files = {0: OwnedFd(os.dup(file.fileno()))}
        memory = GuestMemory([RamRegion(0, size, 0, 0)])
        return RamPages(GuestRam(os.getpid(), files, memory, "a test"), lambda: None)

    server = Server(config, desktop=desktop, provide_pages=provide, confined=confined)
    trio.run(server.run)


if __name__ == "__main__":
    main(*sys.argv[1:])
