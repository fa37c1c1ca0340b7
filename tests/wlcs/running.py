"""Runs WLCS against Mir: alone, or with agent and proxy between the two.

WLCS, Mir and the shim between them are Debian 13's, in a directory: Debian 12's Mir has no
wp_viewporter, which frames are made with.  Agent and proxy are this tree's, and run outside of it.
"""

import contextlib
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.peers import MODULES, NAME, PYTHON, Wlproxy
from bench.processes import started
from tests import compositors
from tests.wlcs.results import Outcome, Results, parse
from wlproxy.host.frame_label import look
from wlproxy.relay.look import read_colour
from wlproxy.relay.policy_tree import Frame

PACKAGES: Final = (
    *("wlcs", "mir-wlcs-integration"),
    *("gcc", "libc6-dev", "libwayland-dev"),
    # For control.py, which needs an input platform that finds nothing.
    *("mir-test-tools", "mir-platform-graphics-virtual"),
    *("mir-platform-rendering-egl-generic", "mir-platform-input-evdev10"),
)
SHIM: Final = Path(__file__).with_name("shim.c")
COMPILE: Final = (
    *("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC"),
    *("-Wall", "-Wextra", "-Werror", "-o", "/run/shim.so", "/run/shim.c"),
    *("-lwayland-client", "-lpthread", "-ldl"),
)
COLOUR: Final = "green"
"""The frame's, where there is one."""
RUN_SECONDS: Final = 900.0
"""For all tests of one run; a test that waits in vain takes ten."""
RESTARTS: Final = 20
"""How often a run goes on after a crash."""


class NotHereError(Exception):
    """Something that WLCS is run with is missing; the message says what helps."""


class Wlcs:
    """WLCS, Mir's integration of it, and our shim."""

    def __init__(self, root: Path) -> None:
        """Find them in a Debian, and build the shim there.

        Raises:
            NotHereError: one is missing.
        """
        self._root = root
        self._program = self._find("wlcs/wlcs")
        self._mir = self._find("mir/miral_wlcs_integration.so")
        shutil.copy(SHIM, root / "run/shim.c")
        subprocess.run(["chroot", str(root), *COMPILE], check=True)

    def run(self, options: Sequence[str] | None, tests: Sequence[str] = ()) -> Results:
        """Run tests, or all of them; one that crashes WLCS does not end the others.

        Args:
            options: of the proxy; None: it is not between.
            tests: their names.
        """
        results: Results = {}
        for _ in range(RESTARTS):
            if tests:
                chosen = ":".join(test for test in tests if test not in results)
            else:
                chosen = f"*-{':'.join(results)}" if results else "*"
            with self._own_directory() as own, ExitStack() as up:
                ended, log = self._run(own, options, chosen, up)
            results |= parse(log)
            if ended or (tests and set(tests) <= set(results)):
                break
        return results

    def _run(
        self, own: Path, options: Sequence[str] | None, chosen: str, up: ExitStack
    ) -> tuple[bool, str]:
        framed = options is not None and "--frame" in options
        frame = look(NAME, Frame(read_colour(COLOUR))) if framed else None
        module = self._mir if options is None else "/run/shim.so"
        inside = f"/run/{own.name}"
        words = ["chroot", str(self._root), self._program, module]
        environ = {
            "XDG_RUNTIME_DIR": inside,
            "WLCS_SHIM_INNER": self._mir,
            "WLCS_SHIM_GUEST": f"{inside}/wayland-0",
            "WLCS_SHIM_COMPOSITOR": f"{inside}/compositor",
            "WLCS_SHIM_IDS": f"{inside}/ids",
            "WLCS_SHIM_LEFT": str(frame.width if frame else 0),
            "WLCS_SHIM_TOP": str(frame.top if frame else 0),
        }
        ours = {
            **MODULES,
            "XDG_RUNTIME_DIR": str(own),
            "WLCS_SHIM_IDS": str(own / "ids"),
        }
        if options is not None:
            agent_words = [*PYTHON, "bench.agent", str(own), "-machine", "q35"]
            agent = up.enter_context(started(agent_words, own / "agent.log", ours))
            agent.wait_until((own / "channel").exists, "the agent is up")
        log = own / "wlcs.log"
        words += [f"--gtest_filter={chosen}"]
        program = up.enter_context(started(words, log, environ))
        if options is not None:
            compositor = own / "compositor"
            program.wait_until(compositor.exists, "the shim listens")
            proxy = [*PYTHON, "tests.wlcs.proxy", "run", "--name", NAME]
            proxy += ["--present", "a", "--channel", str(own / "channel")]
            proxy += ["--display", str(compositor), *options]
            peer = Wlproxy("wlproxy", str(own / "wayland-0"), program.pid, runtime=own)
            end = up.enter_context(started(proxy, own / "proxy.log", ours))
            end.wait_until(peer.serves, "the proxy serves")
        _wait(program.pid)
        text = log.read_text(errors="replace")
        return "Global test environment tear-down" in text, text

    @contextlib.contextmanager
    def _own_directory(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._root / "run") as directory:
            yield Path(directory)

    def _find(self, name: str) -> str:
        found = next((self._root / "usr/lib").glob(f"*/{name}"), None)
        if found is None:
            raise NotHereError(f"there is no {name} in {self._root}")
        return f"/{found.relative_to(self._root)}"


def again(
    wlcs: Wlcs, options: Sequence[str], tests: Sequence[str], results: Results
) -> None:
    """Run tests that have failed once more: a slow machine is no difference."""
    failed = [test for test in tests if results.get(test) is not Outcome.SKIPPED]
    if failed:
        for test, outcome in wlcs.run(options, failed).items():
            if outcome is Outcome.PASSED:
                results[test] = outcome


@contextlib.contextmanager
def debian(kept: Path | None) -> Iterator[Path]:
    """Have a Debian with WLCS and Mir, in a directory that goes again or that is kept.

    Raises:
        CannotRunError: it cannot be made here.
    """
    with tempfile.TemporaryDirectory(prefix="wlcs-") as directory:
        root = kept or Path(directory) / "root"
        if not root.exists():
            compositors.make(root, PACKAGES)
        yield root


def _wait(pid: int) -> None:
    """Wait for WLCS to end, by itself or at the end of its time."""
    fd = os.pidfd_open(pid)
    try:
        select.select([fd], [], [], RUN_SECONDS)
    finally:
        os.close(fd)
