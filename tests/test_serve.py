"""`wlproxy serve`: all VMs of the file, by one service."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from click.testing import CliRunner

from tests.host.conftest import Weston, running_weston
from wlproxy import cli
from wlproxy.commands.serve import serve_jobs, wanted
from wlproxy.host.errors import HostError
from wlproxy.host.report.status_socket import read_status, running_names
from wlproxy.host.runtime_dir import status_path
from wlproxy.host.supervisor import Job

FILE = """\
[vm.one]
[vm.two]
log-level = "debug"
[vm.two.tap]
group = "root"
"""


def named(path: Path) -> list[tuple[str, str]]:
    return [(job.vm, job.title) for job in wanted(path)]


def test_what_is_run_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = tmp_path / "c.toml"
    path.write_text(FILE)
    assert named(path) == [
        ("one", "wlproxy run"),
        ("two", "wlproxy run"),
        ("two", "wlproxy ram-tap"),
    ]
    [_, run, tap] = wanted(path)
    assert run.command[1:] == (
        *("-P", "-m", "wlproxy", "run", "--name", "two", "--config", str(path)),
        # So that it can confine itself, whichever of the two starts first.
        *("--ram-tap", str(tmp_path / "wlproxy" / "two.ram")),
    )
    path.write_text(FILE.replace("log-level", "ram-tap = '/tap'\nlog-level"))
    assert "--ram-tap" not in wanted(path)[1].command
    path.write_text(FILE)
    # What is said of one VM is nothing to the others; what is said to all, is.
    path.write_text(FILE.replace("debug", "error"))
    before, [one, changed, _] = {run, tap}, wanted(path)
    assert changed not in before
    path.write_text(f"{FILE}[vm.three]\n")
    assert set(wanted(path)) >= before
    path.write_text(f"{FILE}[defaults]\nonce = true\n")
    assert one not in wanted(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no VM"),
        ("[defaults]", "has no VM"),
        ("vm = 1", "is to be a table"),
        ("[vm.work]\npresant = 'a'", "c.toml:2: vm.work.presant: is nothing"),
        ("[vm.work.tap]\ngrou = 'a'", "c.toml:2: vm.work.tap.grou: is nothing"),
    ],
)
def test_a_file_that_says_nothing(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    result = CliRunner().invoke(cli.main, ["serve", "--config", str(path)])
    assert result.exit_code == 1
    assert said in result.output


async def test_signals_have_the_file_read_again_and_end_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    said = tmp_path / "said"
    os.mkfifo(said)

    def job(name: str) -> Job:
        return Job(name, "a program", ("sh", "-c", f"echo {name} >{said}; sleep 1000"))

    answers: list[list[Job] | HostError] = [HostError("wrong"), [job("two")]]

    def read() -> list[Job]:
        answer = answers.pop(0)
        if isinstance(answer, HostError):
            raise answer
        return answer

    async def heard() -> str:
        return (await trio.to_thread.run_sync(said.read_text)).strip()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_jobs, [job("one")], read)
            assert await heard() == "one"
            os.kill(os.getpid(), signal.SIGHUP)
            while answers[1:]:
                await trio.lowlevel.checkpoint()
            os.kill(os.getpid(), signal.SIGHUP)
            assert await heard() == "two"
            os.kill(os.getpid(), signal.SIGTERM)
    assert "nothing is changed: wrong" in caplog.text
    assert "read again: two" in caplog.text
    assert "stopping" in caplog.text


async def test_a_job_that_stays_is_told_of_another_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Here it has no socket to be told by, which the log says; it goes on."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    job = Job("one", "sleep", ("sh", "-c", "sleep 60", "run"))
    reads = iter([[job]])
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_jobs, [job], lambda: next(reads))
            await trio.testing.wait_all_tasks_blocked()
            os.kill(os.getpid(), signal.SIGHUP)
            while "its policy stays as it is" not in caplog.text:
                await trio.lowlevel.checkpoint()
            os.kill(os.getpid(), signal.SIGTERM)
    assert "one: its policy stays as it is: no proxy answers for one" in caplog.text


class Service:
    """`wlproxy serve`, and where it serves."""

    def __init__(self, directory: Path, weston: Weston) -> None:
        self.file = directory / "config.toml"
        self.environ = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(directory),
            "WAYLAND_DISPLAY": str(weston.socket),
        }
        self.file.write_text("[vm.one]\n[vm.two]\n")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wlproxy", "serve", "--config", str(self.file)],
            env=self.environ,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_said(self, text: str, times: int = 1) -> None:
        """Wait until its log says something, so many times."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            times -= text in line
            if not times:
                return
        raise AssertionError(f"it ended without saying: {text}")

    def names(self) -> list[str]:
        """The VMs that are served."""
        return running_names(self.environ)

    def uptime(self, name: str) -> float:
        """Seconds since the proxy of a VM has begun."""
        uptime = read_status(status_path(self.environ, name))["uptime"]
        assert isinstance(uptime, float)
        return uptime

    def end(self, number: int = signal.SIGTERM) -> int:
        """Stop it, and return its status."""
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def service(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    with running_weston(tmp_path_factory) as weston:
        service = Service(tmp_path, weston)
        try:
            yield service
        finally:
            if service.process.poll() is None:
                service.end(signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_vms_come_and_go_and_one_that_fails_leaves_the_other(service: Service) -> None:
    service.wait_said("waiting for the VM at", times=2)
    assert service.names() == ["one", "two"]

    # One is killed: it is started again, and nothing happens to the other.
    before = service.uptime("two")
    [pid] = subprocess.check_output(
        ["pgrep", "-f", f"wlproxy run --name one --config {service.file}"]
    ).split()
    os.kill(int(pid), signal.SIGKILL)
    service.wait_said("[one] wlproxy run failed (SIGKILL); once more in 1 s")
    service.wait_said("[one] waiting for the VM at")
    assert service.uptime("two") > before

    # Another file: what is wrong changes nothing, what is right is done.
    service.file.write_text("[vm.one\n")
    service.process.send_signal(signal.SIGHUP)
    service.wait_said("nothing is changed: ")
    service.file.write_text("[vm.three]\n[vm.two]\n")
    service.process.send_signal(signal.SIGHUP)
    service.wait_said("[three] waiting for the VM at")
    service.file.write_text("[vm.two]\n")
    assert service.end() == 0
    assert service.names() == []
