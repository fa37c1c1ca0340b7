"""Programs of several VMs: started, started again, stopped, and no trouble to each other."""

import itertools
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from wlproxy.host import supervisor as supervisors
from wlproxy.host.supervisor import Job, Supervisor

TIMEOUT = 20


def job(vm: str, script: str, settings: str = "") -> Job:
    return Job(vm, "a program", ("sh", "-c", script), settings)


@pytest.fixture
async def nursery() -> AsyncIterator[trio.Nursery]:
    """Ends when all programs have."""
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            yield nursery


@pytest.fixture
async def supervisor(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Supervisor]:
    """One that does not wait long; what it runs is stopped in the end."""
    monkeypatch.setattr(supervisors, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(supervisors, "LAST_PAUSE", 0.001)
    supervisor = Supervisor(nursery)
    yield supervisor
    supervisor.want([])


async def none_runs(nursery: trio.Nursery) -> None:
    while nursery.child_tasks:
        await trio.testing.wait_all_tasks_blocked(0.001)


async def read_line(fifo: Path) -> str:
    """Wait for a program to say something."""

    def read() -> str:
        return fifo.read_text().strip()

    with trio.fail_after(TIMEOUT):
        return await trio.to_thread.run_sync(read, abandon_on_cancel=True)


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """Where programs of a test say something, and wait until it is read."""
    path = tmp_path / "said"
    os.mkfifo(path)
    return path


async def test_a_program_that_fails_is_started_again(
    supervisor: Supervisor, said: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor.want([job("work", f"echo once >{said}; exit 3")])
    assert [await read_line(said) for _ in range(3)] == ["once"] * 3
    assert "[work] a program failed (status 3); once more" in caplog.text


async def test_a_program_that_is_killed_is_started_again(
    supervisor: Supervisor, said: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor.want([job("work", f"echo $$ >{said}; kill -KILL $$")])
    first, second = await read_line(said), await read_line(said)
    assert first != second
    assert "a program failed (SIGKILL)" in caplog.text


async def test_pauses_grow_until_a_program_has_lasted(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = iter([0.0, 0.0, 0.0, 0.0, 100.0, 0.0])
    ran_at: list[float] = []

    async def run(_job: Job) -> int:
        ran_at.append(trio.current_time())
        seconds = next(took, None)
        if seconds is None:
            return 0
        await trio.sleep(seconds)
        return 1

    monkeypatch.setattr(supervisors, "_run", run)
    monkeypatch.setattr(supervisors, "LAST_PAUSE", 4.0)
    async with trio.open_nursery() as nursery:
        Supervisor(nursery).want([job("work", "")])
    pauses = [round(b - a) for a, b in itertools.pairwise(ran_at)]
    assert pauses == [1, 2, 4, 4, 101, 2]


async def test_a_program_that_ends_well_is_not_started_again(
    supervisor: Supervisor, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    supervisor.want([job("work", "exit 0")])
    await none_runs(nursery)
    assert not supervisor.jobs
    assert "[work] a program has ended" in caplog.text


async def test_what_is_wanted_no_more_is_stopped_and_the_rest_left_alone(
    supervisor: Supervisor, said: Path
) -> None:
    ends = f"trap 'echo ended >{said}; exit 0' TERM; echo ready >{said}; "
    one = job("one", f"{ends} while :; do sleep 0.01; done")
    other = job("other", f"echo ready >{said}; exec sleep 1000")
    supervisor.want([one])
    assert await read_line(said) == "ready"
    supervisor.want([one, other])
    assert await read_line(said) == "ready"
    supervisor.want([other])
    assert await read_line(said) == "ended"
    assert list(supervisor.jobs) == [other]


async def test_one_that_does_not_stop_is_killed(
    supervisor: Supervisor,
    nursery: trio.Nursery,
    said: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisors, "STOP_SECONDS", 0.01)
    supervisor.want([job("work", f"trap '' TERM; echo $$ >{said}; sleep 1000")])
    pid = await read_line(said)
    supervisor.want([])
    await none_runs(nursery)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    assert "does not stop: it is killed" in caplog.text


async def test_with_other_settings_it_runs_anew_once_the_old_one_has_ended(
    supervisor: Supervisor, said: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone"
    script = (
        f"mkdir {alone} || exit 9; trap 'rmdir {alone}; exit 0' TERM; "
        f"echo up >{said}; while :; do sleep 0.01; done"
    )
    supervisor.want([job("work", script, "1")])
    assert await read_line(said) == "up"
    supervisor.want([job("work", script, "2")])
    supervisor.want([job("work", script, "3")])
    assert await read_line(said) == "up"
    assert [each.settings for each in supervisor.jobs] == ["3"]


async def test_a_program_that_is_not_there(
    supervisor: Supervisor,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisors, "_bound_to_us", lambda: ())
    supervisor.want([Job("work", "nothing", ("/nowhere/nothing",))])
    with trio.fail_after(TIMEOUT):
        while "once more" not in caplog.text:
            await trio.lowlevel.checkpoint()
    assert "[work] /nowhere/nothing: No such file or directory" in caplog.text


async def test_the_manager_of_the_supervisor_is_not_told_of_its_programs(
    supervisor: Supervisor, said: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/anything")
    supervisor.want([job("work", f'echo "-$NOTIFY_SOCKET-" >{said}')])
    assert await read_line(said) == "--"


SUPERVISED = """\
import threading, trio, trio._core._thread_cache as cache
from pathlib import Path
from wlproxy.host.supervisor import *
cache.IDLE_TIMEOUT = 0.001
async def main():
    async with trio.open_nursery() as nursery:
        Supervisor(nursery).want([Job("work", "a program", ("sh", "-c", {script!r}))])
        await trio.to_thread.run_sync(Path({go!r}).write_text, "go\\n")
        while any(each.name.startswith("Trio") for each in threading.enumerate()):
            await trio.lowlevel.checkpoint()
        Path({go!r}).write_text("on\\n")
trio.run(main)
"""


async def test_programs_end_with_their_supervisor_and_not_before(
    said: Path, tmp_path: Path
) -> None:
    """PR_SET_PDEATHSIG comes when the *thread* ends that has started a program: trio's do when
    they are idle."""
    go = tmp_path / "go"
    os.mkfifo(go)
    script = (
        f"trap 'echo told >{said}; exit 0' TERM; exec 3<>{go}; read -r x <&3; read -r x <&3; "
        f"echo $$ >{said}; while :; do sleep 0.01; done"
    )
    program = SUPERVISED.format(script=script, go=str(go))
    process = await trio.lowlevel.open_process([sys.executable, "-c", program])
    assert int(await read_line(said)) > 1
    process.kill()
    await process.wait()
    assert await read_line(said) == "told"
