"""How the doctor's findings are printed, and where they come from."""

import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy_guest import cli
from wlproxy_guest.doctor import Finding, Machine, Verdict, diagnose, examine, report
from wlproxy_guest.doctor.findings import NARROWEST
from wlproxy_guest.doctor.machine import group_id, run

FINDINGS = st.lists(
    st.builds(
        Finding,
        subject=st.from_regex(r"[a-z]{1,10}", fullmatch=True),
        verdict=st.sampled_from(Verdict),
        explanation=st.text(max_size=200),
        remedy=st.sampled_from(
            ["", "Do it:\n  a long command --with='many words' " + "x" * 90]
        ),
    ),
    max_size=5,
)


def test_layout() -> None:
    text = report(
        [
            Finding("port", Verdict.OK, "it is there"),
            Finding("a b", Verdict.PROBLEM, "two words", "Do:\n  this"),
            Finding("c", Verdict.WARNING, "x", "Do:\n  this"),
        ]
    )
    assert text == (
        "ok       port  it is there\n"
        "problem  a b   two words\n"
        "warning  c     x\n"
        "\na b, c:\nDo:\n  this\n"
    )


@given(FINDINGS, st.integers(0, 200))
def test_commands_are_never_wrapped(findings: list[Finding], columns: int) -> None:
    text = report(findings, columns)
    assert text.isascii()
    assert all(line == line.rstrip() for line in text.splitlines())
    table, _, remedies = text.partition("\n\n")
    widest = max(columns, NARROWEST + len("problem  ") + 12)
    assert all(len(line) <= widest for line in table.splitlines())
    for each in findings:
        assert each.remedy in remedies


def test_its_exit_status_and_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    """On this very machine, whatever it lacks."""
    status = cli.main(["doctor"])
    text = capsys.readouterr().out
    assert (text, status) == diagnose(shutil.get_terminal_size().columns)
    assert "port" in text
    assert status == any(
        each.verdict is Verdict.PROBLEM for each in examine(Machine.this())
    )


def test_programs_are_run() -> None:
    assert run([sys.executable, "-c", "print('yes')"]) == "yes\n"
    assert run([sys.executable, "-c", "exit(3)"]) is None
    assert run(["/no/such/program"]) is None


def test_groups_are_looked_up() -> None:
    assert group_id("root") == 0
    assert group_id("no such group") is None


@pytest.mark.slow
def test_the_doctor_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wlproxy_guest", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in (0, 1)
    assert done.stdout.startswith(("ok", "warning", "problem"))
    assert done.stderr == ""
