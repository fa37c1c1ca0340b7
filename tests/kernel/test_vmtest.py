"""`kernel/udmabuf/vmtest.py` itself: what it makes of what a machine prints."""

import argparse
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Literal

import pytest

from lab import delegation, paths

VMTEST = paths.REPOSITORY / "kernel" / "udmabuf" / "vmtest.py"
PAGE = 4096
CONSOLE = b"udmabuf 7 4096 8192 16384 4096\r\ncard0 90 32768 4096\r\n# held\r\n"
SAID = b"# udmabuf: 3 pages in 2 extents, 0 wrong\n# card0: 1 pages in 1 extents, 1 wrong\n"


@pytest.fixture(scope="module")
def vmtest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vmtest", VMTEST)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def memory(tmp_path: Path, vmtest: ModuleType) -> Path:
    """A machine's: the three pages of the one are where they should be."""
    path = tmp_path / "memory"
    with path.open("wb") as file:
        file.truncate(vmtest.MEMORY)
        for number, at in ((7, 1), (8, 2), (9, 4)):
            for end in (at * PAGE, (at + 1) * PAGE - 8):
                file.seek(end)
                file.write(number.to_bytes(8, "little"))
    return path


def test_memory_is_looked_at_once_the_line_is_whole(
    vmtest: ModuleType, memory: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for split in range(1, len(CONSOLE)):
        # Packets: what is written at once is read at once.
        console, machine = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
        answer, keyboard = os.pipe2(os.O_CLOEXEC)
        for piece in (CONSOLE[:split], CONSOLE[split:], b"vmtest: status 0\r\n"):
            os.write(machine, piece)
        os.close(machine)

        output, wrong = vmtest.watch(console, keyboard, memory)

        assert (output, wrong) == (CONSOLE + b"vmtest: status 0\r\n", 1)
        printed = capfdbinary.readouterr().out
        assert printed == CONSOLE + SAID + b"vmtest: status 0\r\n"
        assert os.read(answer, 16) == b"\n"
        for fd in (console, answer, keyboard):
            os.close(fd)


@pytest.fixture
def machines(
    vmtest: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, int, str]]:
    """Runs `boot` with a QEMU that does what it is told: a shell command for each start.

    Returns the status, how many were started, and what was printed.
    """
    started = tmp_path / "started"
    program = tmp_path / "qemu-system-x86_64"
    kernel = SimpleNamespace(suite="bookworm", vmlinuz=tmp_path / "vmlinuz")

    def run(*commands: str, swiotlb: bool = True) -> tuple[int, int, str]:
        started.write_text("")
        cases = "".join(f"{n}) {each};;\n" for n, each in enumerate(commands, 1))
        program.write_text(
            f"#!/bin/sh\necho >>{started}\n"
            f"case $(wc -l <{started}) in\n{cases}*) echo none left; exit 1;;\nesac\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        arguments = argparse.Namespace(timeout=20, kvm=False, swiotlb=swiotlb)
        status = vmtest.boot(kernel, b"", arguments)
        return status, len(started.read_text()), capfd.readouterr().out

    return run


ABORT = "echo ok 1; kill -ABRT $$"
PASS = "echo 'vmtest: status 0'"


@pytest.mark.parametrize("signal", ["ABRT", "BUS", "FPE", "ILL", "SEGV"])
def test_another_machine_is_started_where_qemu_failed(
    machines: Callable[..., tuple[int, int, str]], signal: str
) -> None:
    status, started, printed = machines(
        f"printf 'ok 1'; kill -{signal} $$", ABORT, PASS
    )

    assert (status, started) == (0, 3)
    assert (
        f"ok 1\n# bookworm: QEMU ended by SIG{signal}: machine 1 is lost\n" in printed
    )
    assert "QEMU ended by SIGABRT: machine 2 is lost\n" in printed


def test_a_qemu_that_always_fails_is_an_error(
    machines: Callable[..., tuple[int, int, str]],
) -> None:
    status, started, printed = machines(ABORT, ABORT, ABORT, PASS)

    assert (status, started) == (1, 3)
    assert "# bookworm: no verdict: it crashed, or took too long\n" in printed


@pytest.mark.parametrize(
    "first",
    [
        "echo 'Kernel panic'; exit 0",  # and the machine is off, in order
        "exit 1",  # what was wrong with its options
        "kill -TERM $$",
        "kill -KILL $$",
        "echo 'not ok 3 - a page is whole'; kill -ABRT $$",
        "echo '## failed with 1'; kill -ABRT $$",
        "echo 'vmtest: status 1'; kill -ABRT $$",
    ],
)
def test_no_other_fault_is_tried_again(
    machines: Callable[..., tuple[int, int, str]], first: str
) -> None:
    status, started, printed = machines(first, PASS)

    assert (status, started) == (1, 1)
    assert "lost" not in printed


def test_wrong_pages_are_not_forgotten_with_their_machine(
    machines: Callable[..., tuple[int, int, str]],
) -> None:
    memory = 'for each; do case "$each" in *mem-path=*) truncate -s 1536M "${each#*mem-path=}";; esac; done'
    held = (
        f"{memory}; echo 'udmabuf 7 4096 4096'; echo '# held'; read line; kill -ABRT $$"
    )

    status, started, printed = machines(held, PASS, swiotlb=False)

    assert (status, started) == (1, 1)
    assert "# udmabuf: 1 pages in 1 extents, 1 wrong\n" in printed


def test_the_summary_counts_machines_that_were_lost_here() -> None:
    def report(
        when: Literal["setup", "call", "teardown"], **properties: int
    ) -> pytest.TestReport:
        return pytest.TestReport(
            "a",
            ("a", 1, "a"),
            {},
            "passed",
            None,
            when,
            user_properties=list(properties.items()),
        )

    assert delegation.lost_here([]) == 0
    assert delegation.lost_here([object(), report("call", other=4)]) == 0
    twice = [report("setup"), report("call", lost_machines=2)]
    # As pytest has it: what is recorded stays there.
    twice.append(report("teardown", lost_machines=2))
    assert delegation.lost_here([*twice, report("call", lost_machines=1)]) == 3
