"""A domU and dom0 joined by a vchan: a process of root's at each end, an agent and a proxy without rights at theirs."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lab import guest_agent, ordinary_user
from tests.integration import harness
from tests.integration.harness import (
    GUEST_TREE,
    Compositor,
    GuestSide,
    Proxy,
    eventually,
    start_proxy,
)
from tests.xen.chain.stage import PATIENCE, Shown
from tests.xen.domain import Domain

GUEST_SOCKET = "/run/wlproxy-vchan/socket"
GUEST_LOG = "/run/vchan.log"


class Joined:
    """The processes, each of which can be killed and started."""

    def __init__(
        self,
        name: str,
        domain: Domain,
        side: GuestSide,
        compositor: Compositor | None = None,
        gntdev: Path | None = None,
    ) -> None:
        """Start nothing yet; without a compositor, which is nobody's, there will be no proxy."""
        self.name, self.domain, self.side = name, domain, side
        self.compositor, self.gntdev = compositor, gntdev
        self.channel = Path("/run", f"xen-vchan-{name}", "channel")
        self.log_path = harness.OUT / f"vchan-{name}.log"
        self.in_guest: int | None = None
        self.in_dom0: subprocess.Popen[bytes] | None = None
        self.proxy: Proxy | None = None
        domain.shell("modprobe -a xen-gntalloc xen-evtchn; mkdir -p /run/wlproxy-vchan")

    def join(self) -> None:
        """Have both of root's processes."""
        guest = self.domain.guest
        if self.in_guest is None:
            argv = ["python3", "-m", "wlproxy_guest", "xen-vchan"]
            argv += ["--log-level", "debug"]
            environment = {"PYTHONPATH": GUEST_TREE}
            guest.run(["rm", "-f", GUEST_SOCKET])
            self.in_guest = guest.spawn(argv, env=environment, log=GUEST_LOG)
        if self.in_dom0 is None or self.in_dom0.poll() is not None:
            self.channel.parent.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "wlproxy", "xen-vchan"]
            command += [
                "--user",
                str(ordinary_user.NOBODY),
                "--domid",
                str(self.domain.domid),
                "--log-level",
                "debug",
            ]
            with self.log_path.open("ab") as log:
                self.in_dom0 = subprocess.Popen(
                    [*command, "--socket", str(self.channel)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        here = self.in_dom0
        eventually(
            lambda: self._listens() or here.poll() is not None, "it listens", PATIENCE
        )
        assert here.poll() is None, self.logs()
        there, in_guest = ["test", "-S", GUEST_SOCKET], self.in_guest

        def listens() -> bool:
            assert guest.alive(in_guest), self.logs()
            return guest.run(there).ok

        eventually(listens, "it listens in the domain", PATIENCE)

    def _listens(self) -> bool:
        # By itself the path says nothing: one that was killed leaves it.
        with open("/proc/net/unix") as sockets:
            return any(
                line.split()[-1] == str(self.channel) and line.split()[3] == "00010000"
                for line in sockets
            )

    def kill_in_guest(self) -> None:
        """Kill the domU's process of root's."""
        assert self.in_guest is not None
        self.domain.guest.kill(self.in_guest, signal.SIGKILL)
        self.domain.guest.wait(self.in_guest, timeout=30)
        self.in_guest = None

    def kill_in_dom0(self) -> None:
        """Kill dom0's."""
        assert self.in_dom0 is not None
        self.in_dom0.kill()
        self.in_dom0.wait()

    def shown(self) -> Shown:
        """Have all of it, and an agent that is served."""
        self.join()
        if self.side.agent is None:
            wire = "--port", f"unix:{GUEST_SOCKET}"
            self.side.start_agent("wlproxy_guest", *wire, privileged=False)
        if self.proxy is None or self.proxy.process.poll() is not None:
            assert self.compositor is not None
            self.proxy = start_proxy(
                self.compositor,
                harness.OUT,
                ("--xen-gntdev", str(self.gntdev)),
                self.channel,
                name=self.name,
                nobodys=True,
            )
        shown = Shown(self.domain, self.side, self.proxy)
        try:
            self.proxy.wait_state("serving", PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{shown.logs()}\n{self.logs()}") from None
        return shown

    def wait_for_another_session(self, sessions: int) -> None:
        """Wait until the proxy serves another session than those."""
        proxy = self.proxy
        assert proxy is not None
        eventually(lambda: count_sessions(proxy) > sessions, "a session", PATIENCE)
        proxy.wait_state("serving", PATIENCE)

    @contextlib.contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """Be the proxy."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(self.channel))
            yield connection

    def logs(self) -> str:
        """What root's processes say."""
        said = self.domain.shell(f"cat {GUEST_LOG}; true")
        return f"{self.log_path.read_text()[-3000:]}\n{said[-3000:]}"

    def close(self) -> None:
        """End it."""
        if self.proxy is not None:
            self.proxy.stop()
        self.side.stop_agent()
        if self.in_dom0 is not None:
            self.in_dom0.terminate()
            assert self.in_dom0.wait(30) == 0, self.logs()
        if self.in_guest is not None:
            self.domain.guest.kill(self.in_guest)
            assert self.domain.guest.wait(self.in_guest) == 0, self.logs()


def bare(name: str, domain: Domain) -> Joined:
    """Have what root's processes need, and neither agent nor proxy."""
    side = GuestSide(domain.guest)
    side.ship()
    guest_agent.add_user(domain.guest)
    joined = Joined(name, domain, side)
    joined.join()
    return joined


def count_sessions(proxy: Proxy) -> int:
    """Count the sessions that a proxy has had."""
    return int(proxy.status()["metrics"]["sessions"])


def exactly(connection: socket.socket, size: int) -> bytes:
    """Receive so many bytes."""
    data = bytearray()
    deadline = time.monotonic() + PATIENCE
    while len(data) < size:
        assert time.monotonic() < deadline, f"{len(data)} of {size}"
        piece = connection.recv(size - len(data))
        assert piece, f"hung up after {len(data)} of {size}"
        data += piece
    return bytes(data)
