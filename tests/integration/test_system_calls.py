"""What a small frame costs agent and proxy: system calls, and passes of their event loops.

`pytest -s tests/integration/test_system_calls.py` prints the figures.  A pass is an
`epoll_wait`; an app that waits for its frame callbacks shows 64x64 pixels on a weston of
this machine, agent and proxy are joined by a socket.
"""

import shutil

import pytest

from bench.counting import counting_system_calls
from tests.chaos.stage import Role, can_run, native_stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MOST = {Role.AGENT: (14, 4), Role.PROXY: (14, 4)}
"""System calls and passes per frame: about 12 and 3, and room for an event that comes alone.
When frames were handed from task to task they were 18 and 6, and 22 and 11."""

FRAMES = 100


def test_a_frame_costs_no_more_than_it_did() -> None:
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
            with counting_system_calls([stage.processes[role].pid]) as counted:
                before = app.frames()
                app.shows(FRAMES, stage.patience)
                frames = app.frames() - before
            calls, passes = counted.total / frames, counted.passes / frames
            print(f"{role.name}: {calls:.1f} calls, {passes:.1f} passes a frame")
            assert calls < most_calls
            assert passes < most_passes
