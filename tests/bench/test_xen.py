"""What `bench.xen` does besides Xen: maps, reads, and writes a table."""

import os
import subprocess
from pathlib import Path

import pytest

from bench import xen
from bench.xen import PAGE, map_and_read, table


def test_what_is_mapped_is_read_twice() -> None:
    row: dict[str, list[float]] = {}
    fd = os.memfd_create("pages", os.MFD_CLOEXEC)
    os.ftruncate(fd, 4 * PAGE)
    for _ in range(3):
        map_and_read(row, fd, 4 * PAGE)
    os.close(fd)
    assert list(row) == [
        *("host: mmap", "host: first frame read", "host: next frame read"),
        "host: munmap",
    ]
    assert all(len(times) == 3 and min(times) > 0 for times in row.values())


def test_the_table_has_a_line_for_each_thing() -> None:
    rows = {
        "small": {"mmap": 0.1, "munmap": 12.345},
        "large": {"mmap": 3.0, "munmap": 4.0},
    }
    assert table("grants, ms", rows).splitlines() == [
        "| grants, ms | small | large |",
        "|---|---|---|",
        "| mmap | 0.10 | 3.00 |",
        "| munmap | 12.35 | 4.00 |",
    ]


def test_one_command_has_both_machines_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lab's machines are left out: what each would write is there at once."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        out = Path(command[command.index("--out") + 1])
        out.mkdir()
        (out / xen.KEPT).write_text(f"{out.name}\n")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.delenv("WLPROXY_LAB", raising=False)
    monkeypatch.setattr(xen, "SCRATCH", tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    page = tmp_path / "page.md"
    page.write_text("# Costs\n<!-- bench.xen -->\n<!-- /bench.xen -->\n")

    assert xen.main(["pv", "--into", str(page)]) == 0

    assert [command[3] for command in commands] == ["xen", "run"]
    assert [command[-1] for command in commands] == ["pv", "bench.xen"]
    text = "# Costs\n<!-- bench.xen -->\nxen\n\nkvm\n<!-- /bench.xen -->\n"
    assert page.read_text() == text


def test_a_machine_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed: subprocess.CompletedProcess[bytes] = subprocess.CompletedProcess([], 75)
    monkeypatch.delenv("WLPROXY_LAB", raising=False)
    monkeypatch.setattr(xen, "SCRATCH", tmp_path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)

    assert xen.main([]) == 1

    assert "status 75" in capsys.readouterr().err


def test_an_unknown_kind_of_domain_is_refused() -> None:
    with pytest.raises(SystemExit):
        xen.main(["hvm"])
