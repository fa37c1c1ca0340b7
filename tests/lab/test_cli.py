from argparse import Namespace
from pathlib import Path

import pytest

from lab import cli, runner, xen_guest, xen_machine


@pytest.mark.parametrize(
    ("line", "own", "command"),
    [
        ("run ls -l", "run", "ls -l"),
        ("run --guest --timeout 5 -- ls --out", "run --guest --timeout 5", "ls --out"),
        ("pytest --timeout=5 -q --guest", "pytest --timeout=5", "-q --guest"),
        ("pytest tests --out x", "pytest", "tests --out x"),
        ("pytest --out x", "pytest --out x", ""),
        ("xen --pytest -- -q --pytest", "xen --pytest", "-q --pytest"),
        ("status", "status", ""),
    ],
)
def test_the_command_begins_at_the_first_foreign_word(
    line: str, own: str, command: str
) -> None:
    assert cli.split(line.split()) == (own.split(), command.split())


def test_sizes_of_what_is_being_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "template"
    template.mkdir()
    (template / "ram").write_bytes(bytes(8192))
    size = cli._size(template)
    assert size >= 8192
    assert cli._size(template / "ram") == size
    assert cli._size(tmp_path / "gone") == 0

    monkeypatch.setattr("os.walk", lambda path: [(str(path), [], ["ram", "gone"])])
    assert cli._size(template) == size


def test_clean_leaves_nothing_but_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("images/host-1", "templates/host-1", "debug-kernel"):
        (tmp_path / "wlproxy/lab" / name).mkdir(parents=True)

    cli._clean(Namespace())

    assert not [each for each in (tmp_path / "wlproxy/lab").iterdir() if each.is_dir()]


def test_a_job_for_xen(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[runner.Job] = []

    def run(job: runner.Job) -> int:
        jobs.append(job)
        return 7

    monkeypatch.setattr(runner, "run", run)
    own, command = cli.split(["xen", "--pytest", "--env", "A=b", "--", "-q"])
    arguments = cli._parser().parse_args(own)
    arguments.argv = command

    assert cli._xen(arguments) == 7

    (job,) = jobs
    assert job.xen
    assert job.pytest
    assert job.argv == ["-q"]
    assert job.env["A"] == "b"
    assert not job.files


def test_a_job_for_xen_takes_the_debug_kernel_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs: list[runner.Job] = []
    monkeypatch.setattr(runner, "run", jobs.append)
    files = {xen_guest.DEBUG_KERNEL: b"kernel", xen_guest.DEBUG_INITRD: b"initrd"}
    monkeypatch.setattr(xen_machine, "debug_files", lambda: files)
    own, command = cli.split(["xen", "--debug-kernel", "true"])
    arguments = cli._parser().parse_args(own)
    arguments.argv = command

    cli._xen(arguments)

    assert jobs[0].argv == ["true"]
    assert jobs[0].files == files


def test_only_a_pvh_domain_has_the_debug_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.nested.disk_by_serial", Path)
    monkeypatch.setattr("lab.paths.REPOSITORY", tmp_path)
    usual = xen_guest.domu("pvh").kernel
    kernel = tmp_path / xen_guest.DEBUG_KERNEL
    kernel.parent.mkdir(parents=True)
    kernel.touch()

    assert xen_guest.domu("pv").kernel == usual
    domain = xen_guest.domu("pvh")

    assert (domain.kernel, domain.initrd.parent) == (kernel, kernel.parent)
    assert domain.memory_mib > xen_guest.MEMORY_MIB
