"""`wlproxy exec`: what it takes, and what it says where nobody can be asked.

What it does is in tests/integration/loopback/test_commands.py.
"""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wlproxy.cli import main


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["exec", *arguments])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["vm"], "say what is to run"),
        (["vm", "--"], "no command behind --"),
        (["vm", "--app", "x", "--", "ls"], "say what is to run"),
        (["vm", "ls"], "unexpected extra argument"),
        (["--", "ls"], "Missing argument 'VM'"),
    ],
)
def test_wrong_use(arguments: list[str], says: str) -> None:
    done = run(*arguments)

    assert done.exit_code == 2
    assert says in done.output


def test_options_of_the_command_are_the_commands(runtime: Path) -> None:
    """`-d` behind the dashes is none of ours, and neither are more dashes."""
    done = run("vm", "--", "ls", "--user", "-d", "--", "-x")

    assert done.exit_code == 125


def test_the_vm_is_off(runtime: Path) -> None:
    done = run("work", "--", "ls")

    assert done.exit_code == 125
    assert "no proxy serves commands for work" in done.output
    assert "Start the VM, if it is off, and `wlproxy run --name work`" in done.output


def test_a_name_that_is_none(runtime: Path) -> None:
    done = run("../x", "--", "ls")

    assert done.exit_code == 125
    assert "cannot name a VM" in done.output


def test_help_shows_where_the_command_goes() -> None:
    assert "VM [-- COMMAND [ARGUMENT]...]" in run("--help").output
