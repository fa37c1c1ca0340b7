"""Commands in a loopback's guest: launchers and `wlproxy exec`, as processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import trio

from tests.peers.loopback import VM, Loopback
from wlproxy_guest.launchers import Launchers, listen_for_launchers

SECONDS = 20.0


class Commands:
    """A loopback with launchers, and this user who asks for commands."""

    def __init__(self, loopback: Loopback, directory: Path) -> None:
        self.loopback = loopback
        self.socket = directory / "launch"
        self.runtime = directory
        self.home = directory / "home"
        self.home.mkdir()
        self.data = directory / "data"
        """Where this user's desktop entries are, on the host."""
        self.processes: list[trio.Process] = []

    @property
    def status(self) -> Path:
        return self.runtime / "wlproxy" / f"{VM}.sock"

    async def start(self, *users: str) -> None:
        """Start compositor, agent and proxy; the agent lets in launchers of these users."""
        await self.loopback.start_compositor()
        await self.start_agent(*users)
        await self.loopback.start_host(status=self.status)

    async def start_agent(self, *users: str) -> None:
        listener = listen_for_launchers(self.socket)
        await self.loopback.start_agent(launchers=Launchers(listener, users))

    async def start_launcher(self, **environ: str) -> trio.Process:
        """Start a launcher of this user's, and wait until the proxy knows of it."""
        known = len(self.users())
        launcher = await self.open_launcher(**environ)
        await self.loopback.until(lambda: len(self.users()) > known)
        return launcher

    async def open_launcher(self, **environ: str) -> trio.Process:
        """Start one."""
        return await self._start(
            [
                *(sys.executable, "-m", "wlproxy_guest.launcher.service"),
                *("--agent", str(self.socket)),
                *("--display", str(self.loopback.display)),
            ],
            os.environ | {"HOME": str(self.home)} | environ,
        )

    def users(self) -> list[str]:
        """Whose launchers the proxy knows."""
        users: list[str] = self.loopback.status()["launchers"]
        return users

    async def run(
        self, *arguments: str, stdin: bytes = b"", name: str = "exec"
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run `wlproxy exec`, or another command, to its end."""
        with trio.fail_after(SECONDS):
            return await trio.run_process(
                self.command(name, *arguments),
                env=self.environ(),
                stdin=stdin,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )

    async def begin(self, *arguments: str, stdin: int | None = None) -> trio.Process:
        """Start `wlproxy exec`, with pipes of ours."""
        return await self._start(
            self.command("exec", *arguments),
            self.environ(),
            stdin=subprocess.PIPE if stdin is None else stdin,
            stdout=subprocess.PIPE,
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "wlproxy", *arguments]

    def environ(self) -> Mapping[str, str]:
        return os.environ | {
            "XDG_RUNTIME_DIR": str(self.runtime),
            "XDG_DATA_HOME": str(self.data),
            "OF_THE_HOST": "secret",
        }

    async def _start(
        self,
        command: list[str],
        environ: Mapping[str, str],
        stdin: int | None = None,
        stdout: int | None = None,
    ) -> trio.Process:
        process = await trio.lowlevel.open_process(
            command, env=environ, stdin=stdin, stdout=stdout
        )
        self.processes.append(process)
        return process

    async def close(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()
