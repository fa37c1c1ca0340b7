"""`wlproxy setup`: what it offers, asks and runs."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wlproxy import cli
from wlproxy.commands import offering, setup
from wlproxy.commands.offering import command_for, run_command
from wlproxy.host.desktop.udmabuf_device import UdmabufLimits
from wlproxy.host.doctor import Finding, Verdict, check_limits
from wlproxy.host.errors import HostError
from wlproxy.host.repairs import UNIT, Repair, repairs, unit_repair, unit_word

HOST_UNIT = Path(__file__).parent.parent / "wlproxy/host/systemd" / UNIT
LIMITS = [*check_limits(UdmabufLimits(1024, 64 << 20))]
REPAIR = Repair("udmabuf", "it is missing", "Do this:", "touch {}\n", as_root=True)


def finding(verdict: Verdict, remedy: str) -> Finding:
    return Finding("udmabuf", verdict, "it is missing", remedy)


def test_the_commands_of_a_remedy_in_pieces() -> None:
    remedy = "Do this, as root:\n  one \\\n    two\n  three\nOr else:\n  four"
    first, second = repairs(finding(Verdict.PROBLEM, remedy))
    assert (first.what, first.script) == ("Do this, as root:", "one \\\n  two\nthree\n")
    assert (second.what, second.script) == ("Or else:", "four\n")
    assert first.as_root


def test_what_is_well_or_has_no_commands_needs_no_repair() -> None:
    assert not list(repairs(finding(Verdict.OK, "Do:\n  this")))
    assert not list(repairs(finding(Verdict.PROBLEM, "Buy another computer.")))


class Session:
    """A user who has systemd, and what is wrong with the host."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.findings = [finding(Verdict.PROBLEM, "Make it:\n  touch MADE")]
        self.made = directory / "MADE"
        self.environ = {
            "XDG_RUNTIME_DIR": str(directory / "run"),
            "XDG_CONFIG_HOME": str(directory / "config"),
            "PATH": str(directory / "bin"),
        }
        (directory / "run" / "systemd").mkdir(parents=True)
        (directory / "bin").mkdir()
        self.units = directory / "config" / "systemd" / "user"

    def examine(self, _environ: object, _display: object) -> list[Finding]:
        if self.made.exists():
            return [replace(self.findings[0], verdict=Verdict.OK, remedy="")]
        return self.findings

    def offer(self) -> Repair:
        """What is offered for a VM."""
        repair = unit_repair(self.environ, "work", ())
        assert repair is not None
        return repair

    def call(self, words: str, answers: str = "") -> Result:
        """Call `wlproxy setup`."""
        return CliRunner().invoke(cli.main, f"setup {words}", input=answers)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    session = Session(tmp_path)
    monkeypatch.setattr(setup, "examine", session.examine)
    monkeypatch.chdir(tmp_path)
    return session


def test_it_shows_asks_runs_and_looks_again(session: Session) -> None:
    done = session.call("", "y\n")
    assert "it is missing" in done.output
    assert "  touch MADE" in done.output
    assert session.made.exists()
    assert done.exit_code == 0, done.output


def test_who_says_no_keeps_things_as_they_are(session: Session) -> None:
    done = session.call("", "n\n")
    assert not session.made.exists()
    assert done.exit_code == 1


def test_nothing_is_asked_with_yes(session: Session) -> None:
    assert session.call("--yes").exit_code == 0
    assert session.made.exists()


def test_a_dry_run_does_and_asks_nothing(session: Session) -> None:
    done = session.call("--dry-run")
    assert "touch MADE" in done.output
    assert "Run this" not in done.output
    assert not session.made.exists()


def test_what_fails_is_told_and_not_tried_again(session: Session) -> None:
    session.findings = [finding(Verdict.PROBLEM, "Try:\n  exit 7")]
    done = session.call("--yes")
    assert done.output.count("It failed, with status 7.") == 1
    assert done.exit_code == 1


def test_one_repair_for_both_limits(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.findings = LIMITS
    ran: list[str] = []

    def run(command: list[str]) -> int:
        ran.append(command[-1])
        return 0

    monkeypatch.setattr(offering, "run_command", run)
    session.call("--yes")
    [script] = ran
    assert "echo 65536 > /sys/module/udmabuf/parameters/list_limit\n" in script
    assert "size_limit_mb" in script


def test_who_is_not_root_goes_through_sudo_or_is_told(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(session.directory / "bin"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert command_for(REPAIR) is None
    assert command_for(replace(REPAIR, as_root=False)) is not None
    sudo = session.directory / "bin" / "sudo"
    sudo.write_text("#!/bin/sh\n")
    sudo.chmod(0o755)
    assert command_for(REPAIR) == [str(sudo), "sh", "-eu", "-c", REPAIR.script]


def test_without_a_way_to_root_the_user_is_told(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offering, "command_for", lambda repair: None)
    assert "There is no sudo here: run this as root." in session.call("--yes").output
    assert not session.made.exists()


def test_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    assert run_command([str(tmp_path / "nothing")]) == 127


def test_the_unit_is_put_where_systemd_looks_and_finds_the_program(
    session: Session,
) -> None:
    (session.directory / "a|b & c").mkdir()
    program = session.directory / "a|b & c" / "wlproxy"
    session.environ["PATH"] += f":{program.parent}"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    script = session.offer().script
    calls = session.directory / "calls"
    systemctl = session.directory / "bin" / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    systemctl.chmod(0o755)
    path = f"{session.directory / 'bin'}:{os.environ['PATH']}"
    subprocess.run(["sh", "-eu", "-c", script], env={"PATH": path}, check=True)
    unit = (session.units / UNIT).read_text()
    assert f'ExecStart="{program}" run --name %i\n' in unit
    assert len(unit.splitlines()) == len(HOST_UNIT.read_text().splitlines())
    assert calls.read_text().splitlines() == [
        "--user daemon-reload",
        "--user enable --now wlproxy@work.service",
    ]
    # The unit is there now: it is only to be enabled.
    assert session.offer().script.splitlines()[0] == "systemctl --user daemon-reload"


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/opt/wlproxy", "/opt/wlproxy"),
        ("/my venv/wlproxy", '"/my venv/wlproxy"'),
        ("/a|b&c/wlproxy", "/a|b&c/wlproxy"),
        ("/100%/wlproxy", '"/100%%/wlproxy"'),
        ('/a"b\\c/wlproxy', '"/a\\"b\\\\c/wlproxy"'),
    ],
)
def test_paths_in_units(word: str, written: str) -> None:
    assert unit_word(word) == written


def test_a_program_that_systemd_finds_by_itself(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "wlproxy.host.repairs.SYSTEMD_PATH", (str(session.directory / "bin"),)
    )
    (session.directory / "bin" / "wlproxy").touch(0o755)
    assert session.offer().script.startswith("install -Dm644 ")


def test_a_service_that_is_enabled_needs_nothing(session: Session) -> None:
    wants = session.units / "graphical-session.target.wants"
    wants.mkdir(parents=True)
    (wants / "wlproxy@work.service").symlink_to("/anywhere")
    assert unit_repair(session.environ, "work") is None


def test_without_systemd_there_is_no_service(session: Session) -> None:
    assert unit_repair({}, "work") is None


def test_an_impossible_name(session: Session) -> None:
    with pytest.raises(HostError, match="cannot name a VM"):
        unit_repair(session.environ, "a b; rm")
    done = session.call("--dry-run --name a.b")
    assert done.exit_code == 1
    assert "cannot name a VM" in done.output


def test_the_service_is_offered_with_the_rest(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in session.environ.items():
        monkeypatch.setenv(key, value)
    output = session.call("--dry-run --name work").output
    assert "nothing starts wlproxy for work with your session" in output
    assert "systemctl --user enable --now wlproxy@work.service" in output
