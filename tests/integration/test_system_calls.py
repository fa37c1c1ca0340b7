"""What a small frame costs agent and proxy: system calls, and passes of their event loops.

`pytest -s tests/integration/test_system_calls.py` prints the figures.  A pass is an
`epoll_wait`; an app that waits for its frame callbacks shows 64x64 pixels on a weston of
this machine, agent and proxy are joined by a socket.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.stage import Role, can_run, native_stage
from tests.integration.harness import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MOST = {Role.AGENT: (18.4, 6.5), Role.PROXY: (22.0, 11.3)}
"""System calls and passes per frame that were the rule when frames were handed from task to
task.  Now it is about 12 and 3."""

FRAMES = 100


@contextmanager
def counting(pid: int, report: Path) -> Iterator[dict[str, int]]:
    """Count a process' system calls: those of each name, once the block has ended."""
    counted: dict[str, int] = {}
    columns = ["-U", "calls,name"]
    command = ["strace", "-f", "-c", *columns, "-qq", "-o", str(report), "-p", str(pid)]
    with subprocess.Popen(command) as tracer:
        status = Path(f"/proc/{pid}/status")
        eventually(
            lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text(), "strace"
        )
        yield counted
        tracer.send_signal(signal.SIGINT)
    for line in report.read_text().splitlines():
        calls, _, name = line.strip().partition(" ")
        if calls.isdigit():
            counted[name.strip()] = int(calls)


def test_a_frame_costs_no_more_than_it_did(tmp_path: Path) -> None:
    if not can_run("weston"):
        pytest.skip("needs weston, setpriv and prlimit: apt-get install weston")
    if shutil.which("strace") is None:
        pytest.skip("needs strace: apt-get install strace")
    with native_stage("weston") as stage:
        stage.wait_serving()
        app = stage.app()
        app.animate(stage.patience)
        app.shows(5, stage.patience)
        for role, (most_calls, most_passes) in MOST.items():
            with counting(stage.processes[role].pid, tmp_path / role.name) as counted:
                before = app.frames()
                app.shows(FRAMES, stage.patience)
                frames = app.frames() - before
            calls, passes = counted["total"] / frames, counted["epoll_wait"] / frames
            print(f"{role.name}: {calls:.1f} calls, {passes:.1f} passes a frame")
            assert calls < most_calls
            assert passes < most_passes
