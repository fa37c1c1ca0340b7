import io
import subprocess
import tarfile
from pathlib import Path
from typing import cast

import pytest

from lab import outer, runner
from lab.errors import LabError
from lab.wire import Connection, Frame


def test_the_tree_is_what_git_would_add(tmp_path: Path) -> None:
    for name in ("tracked", "new", "ignored", "gone"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("ignored\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "tracked", "gone"], cwd=tmp_path, check=True)
    (tmp_path / "gone").unlink()

    data = runner.pack_tree(tmp_path, {"dist/x": b"built"})

    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == [".gitignore", "new", "tracked", "dist/x"]


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="git"):
        runner.pack_tree(tmp_path)


class Machine:
    """Says frames at given times, and has the clock of it; it is a connection, too."""

    def __init__(self, said: dict[float, dict[str, object]]) -> None:
        self.now = 0.0
        self.said = said
        self.asked: list[object] = []

    def clock(self) -> float:
        return self.now

    def tails(self) -> str:
        return "nothing on the console"

    def send(self, frame: Frame) -> None:
        self.asked.append(frame.head["op"])
        if frame.head["op"] == "diag":
            self.said = {self.now: {"op": "diag"}}

    def receive(self, timeout: float) -> Frame:
        came = min(self.said, default=None)
        if came is None or came > self.now + timeout:
            self.now += timeout
            raise TimeoutError
        self.now = came
        return Frame(self.said.pop(came))

    def converse(self, job: runner.Job) -> int:
        machine = cast("outer.Vm", self)
        return runner.converse(machine, cast("Connection", self), job, b"")


def test_a_machine_that_falls_silent_is_not_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ignored: dict[str, object] = {"op": "late"}
    machine = Machine({400.0: ignored, 800.0: ignored})
    status = machine.converse(runner.Job(["x"], timeout=5000, silence=500))
    assert status == runner.TIMED_OUT
    assert machine.now == 1300
    assert machine.asked == ["job", "diag"]
    assert "silent for 500 s" in capsys.readouterr().err


def test_a_machine_that_speaks_has_its_time_and_no_more() -> None:
    machine = Machine({float(at): {"op": "late"} for at in range(0, 9000, 400)})
    status = machine.converse(runner.Job(["x"], timeout=5000, silence=500))
    assert (status, machine.now) == (runner.TIMED_OUT, 5000)


def test_a_command_ends_with_its_status() -> None:
    machine = Machine({450.0: {"op": "exit", "status": 3}})
    job = runner.Job(["x"], timeout=5000, silence=500)
    assert (machine.converse(job), machine.now) == (3, 450)
