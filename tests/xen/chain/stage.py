"""The whole way in pieces: agents in domUs, compositors and proxies in dom0.

All that a test has not broken is there for the next one: an agent takes most of a minute to come up
here, a proxy a third of one.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab import guest_agent, ordinary_user
from lab.guest import Guest
from lab.say import say
from tests.integration import harness
from tests.integration.harness import (
    Compositor,
    GuestSide,
    PatternClient,
    Proxy,
    eventually,
    start_proxy,
    start_sway,
    start_weston,
)
from tests.xen import gntdev
from tests.xen.domain import NOTHING, Domain

PATIENCE: Final = 240.0
"""Seconds until Python programs are up, in a domU under emulation."""
LARGE, SMALL = (3840, 2160), (1024, 768)
SCREENS: Final = {"weston": LARGE, "small": SMALL, "sway": LARGE, "tiles": SMALL}
"""Two westons and two sways, by the size of their output."""
SWAYS: Final = ("sway", "tiles")
PORT: Final = "/dev/hvc1"


@dataclass(frozen=True, slots=True)
class Shown:
    """A domU that is shown."""

    domain: Domain
    side: GuestSide
    proxy: Proxy

    @property
    def guest(self) -> Guest:
        """The domU, as the other tests know it."""
        return self.domain.guest

    @property
    def compositor(self) -> Compositor:
        """What shows it."""
        return self.proxy.compositor

    @property
    def alone(self) -> bool:
        """Whether a window has the whole output."""
        return "tiles" not in str(self.compositor.display)

    def window(self, patience: float = PATIENCE) -> dict[str, Any]:
        """Wait for a window that has shown something."""

        def look() -> dict[str, Any] | None:
            found = self.proxy.surfaces()
            return found[0] if found else None

        try:
            found = eventually(look, "a window", patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None
        assert found is not None
        return found

    def logs(self) -> str:
        """Return the ends of what agent and proxy say."""
        return f"{self.proxy.log()[-3000:]}\n{self.side.agent_log()[-3000:]}"

    def show(
        self, size: tuple[int, int], frame: int = 1, memory: str = "memfd"
    ) -> PatternClient:
        """Start a client with a window, and wait until that is seen.

        It is beside others on a small sway, and else before them.
        """
        client = self.side.client()
        client.call("toplevel", surface="window", fullscreen=self.alone)
        add_buffer(client, "one", size, memory)
        self.show_again(client, size, frame)
        return client

    def show_again(
        self, client: PatternClient, size: tuple[int, int], frame: int
    ) -> None:
        """Draw another frame into the same pages, and wait until it is seen."""
        client.show("window", "one", frame)
        self.compositor.wait_shows(*size, frame, timeout=PATIENCE)

    def settle(self, of_others: int = 0) -> None:
        """Wait until no app is left, and nothing of one is granted or mapped.

        The agent may keep its proof, which is one page.

        Args:
            of_others: bytes that the compositor has mapped of other domains.
        """
        self.proxy.wait_no_clients()
        eventually(
            lambda: (
                gntdev.mapped_bytes(self.compositor.pid()) == of_others
                and not gntdev.mapped_bytes(self.proxy.pid)
            ),
            "all is unmapped",
            PATIENCE,
        )
        eventually(lambda: self.domain.counts()[1] <= 1, "all is let go", PATIENCE)


def add_buffer(
    client: PatternClient, name: str, size: tuple[int, int], memory: str = "memfd"
) -> None:
    """Make a buffer of such memory, whose pages are nobody's neighbours if that can be."""
    width, height = size
    if memory == "memfd":
        client.call("pool", pool=name, size=width * height * 4, scatter=width)
        client.call("buffer", buffer=name, pool=name, width=width, height=height)
        return
    geometry = {"width": width, "height": height}
    client.call("allocate", memory=name, exporter=memory, **geometry)
    made = client.call("import", buffer=name, planes=[{"memory": name}], **geometry)
    assert made == "created", made


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process: what it has mapped stays so."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Stage:
    """What runs, by name."""

    def __init__(self, domains: Mapping[str, Domain]) -> None:
        """Nothing runs yet but the domUs."""
        self.domains = dict(domains)
        self._sides: dict[str, GuestSide] = {}
        self._compositors: dict[str, Compositor] = {}
        self._proxies: dict[str, Proxy] = {}
        self._lenders: dict[str, subprocess.Popen[bytes]] = {}

    def show(self, kind: str, screen: str = "small", *options: str) -> Shown:
        """Have a domU shown, by what runs already if that fits.

        On a sway, which is nobody's, the proxy is nobody's as well, and has its fds of a
        process of root's.
        """
        domain = self.domains[kind]
        side = self.side(kind)
        compositor = self.compositor(screen)
        nobodys = screen in SWAYS
        if nobodys:
            options = (*options, "--xen-gntdev", str(self.lend(kind)))
        proxy = self._proxies.get(kind)
        if (
            proxy is None
            or proxy.process.poll() is not None
            or (proxy.compositor, proxy.options) != (compositor, options)
        ):
            self.stop_proxy(kind)
            owner = ordinary_user.NOBODY if nobodys else 0
            os.chown(domain.machine.channel, owner, owner)
            proxy = self._proxies[kind] = start_proxy(
                compositor,
                harness.OUT,
                options,
                domain.machine.channel,
                name=kind,
                nobodys=nobodys,
            )
        shown = Shown(domain, side, proxy)
        try:
            proxy.wait_state("serving", PATIENCE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{shown.logs()}") from None
        say(f"{kind} is shown on {screen}")
        return shown

    def side(self, kind: str) -> GuestSide:
        """Have an agent in a domU: the one there is, or ours, without rights."""
        side = self._sides.get(kind)
        if side is None:
            domain = self.domains[kind]
            side = self._sides[kind] = GuestSide(domain.guest)
            side.ship()
            guest_agent.add_user(domain.guest)
            domain.shell(f"chown {guest_agent.USER} {PORT}")
            # Without any DRM device no agent offers linux-dmabuf.
            domain.shell("modprobe vgem && udevadm settle")
        if side.agent is None:
            self.start_agent(kind, "wlproxy_guest", "--port", PORT, privileged=False)
        return side

    def start_agent(
        self, kind: str, module: str, *options: str, privileged: bool
    ) -> int:
        """Start an agent in place of the one there is; wait until a proxy serves it.

        No hang-up tells the proxy that the last one has gone: its session begins anew.
        """
        side, proxy = self._sides[kind], self._proxies.get(kind)
        side.stop_agent()
        if proxy is None or proxy.process.poll() is not None:
            return side.start_agent(module, *options, privileged=privileged)
        sessions = proxy.status()["metrics"]["sessions"]
        agent = side.start_agent(module, *options, privileged=privileged)
        eventually(
            lambda: proxy.status()["metrics"]["sessions"] > sessions,
            "a new session",
            PATIENCE,
        )
        proxy.wait_state("serving", PATIENCE)
        return agent

    def count_clients(self) -> dict[str, int]:
        """Count the pattern clients that were started."""
        return {kind: len(side.clients) for kind, side in self._sides.items()}

    def kill_clients(self, but: Mapping[str, int]) -> None:
        """Kill those that were started since they were counted."""
        for kind, side in self._sides.items():
            side.kill_clients(but.get(kind, 0))

    def compositor(self, screen: str) -> Compositor:
        """Have a compositor."""
        found = self._compositors.get(screen)
        if found is not None and found.process and found.process.poll() is None:
            return found
        name = f"xen-{screen}"
        size = SCREENS[screen]
        if screen in SWAYS:
            directory = Path("/run", name)
            for old in directory.glob("wayland-*"):
                old.unlink()
            made = start_sway(directory, size, nobodys=True)
        else:
            (harness.RUNTIME / name).unlink(missing_ok=True)
            made = start_weston(harness.OUT, name, size=size)
        if found is not None:  # it is the same one for the proxies
            found.process = made.process
            return found
        self._compositors[screen] = made
        return made

    def lend(self, kind: str) -> Path:
        """Have a process of root's that opens gntdev for nobody's proxy."""
        directory = Path("/run", f"xen-lent-{kind}")
        path = directory / "gntdev"
        if kind not in self._lenders:
            directory.mkdir(exist_ok=True)
            domid = str(self.domains[kind].domid)
            command = [sys.executable, "-m", "wlproxy", "xen-gntdev", "--domid", domid]
            command += ["--user", str(ordinary_user.NOBODY), "--socket", str(path)]
            with (harness.OUT / f"lend-{kind}.log").open("ab") as log:
                self._lenders[kind] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            eventually(path.is_socket, "gntdev is lent", PATIENCE)
        return path

    def _stop_lending(self, kind: str) -> None:
        lender = self._lenders.pop(kind, None)
        if lender is not None:
            lender.terminate()
            lender.wait(30)

    def forget(self, kind: str) -> None:
        """A domU has gone, and with it all that is about it."""
        self.stop_proxy(kind)
        self._stop_lending(kind)
        self._sides.pop(kind, None)
        self.domains.pop(kind)

    def stop_proxy(self, kind: str) -> None:
        """Stop a domU's proxy, if there is one."""
        proxy = self._proxies.pop(kind, None)
        if proxy is not None and proxy.process.poll() is None:
            assert proxy.stop() == 0, proxy.log()[-4000:]

    def close(self) -> None:
        """Stop everything, and check that nothing is left."""
        for kind in list(self._proxies):
            self.stop_proxy(kind)
        for kind, side in self._sides.items():
            log = harness.OUT / f"agent-{kind}.log"
            log.write_text(side.agent_log())
            side.stop_agent()
        for kind in list(self._lenders):
            self._stop_lending(kind)
        for compositor in self._compositors.values():
            compositor.kill()
        for domain in self.domains.values():
            domain.await_counts(NOTHING)
        assert not gntdev.users()
