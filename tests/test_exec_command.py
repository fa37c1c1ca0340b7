"""`wlproxy exec`: what it takes, and what it says where nobody can be asked.

What it does is in tests/integration/loopback/test_commands.py.
"""

import os
import sys
from collections.abc import Awaitable, Callable
from io import StringIO
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from wlproxy.cli import main
from wlproxy.commands import apps
from wlproxy.commands import exec as exec_command
from wlproxy.commands.program import ourselves
from wlproxy.commands.vm_off import offer_start
from wlproxy.host.launch.apps import App
from wlproxy.host.launch.asking import Asked
from wlproxy.host.launch.export import export_apps
from wlproxy.protocol.channel.launch_lines import Outcome, Request


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


# ------------------------------------------------------------------ the VM is off


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virsh with one domain, `work`, that is off; and what shows messages."""
    directory = tmp_path / "bin"
    directory.mkdir()
    called = tmp_path / "called"
    for name, script in (
        ("virsh", '[ "$2" = work ] || exit 1; [ "$1" = start ] || echo "shut off"'),
        ("notify-send", ":"),
    ):
        path = directory / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {called}\n{script}\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return called


def test_libvirt_could_start_it(runtime: Path, programs: Path) -> None:
    done = run("work", "--", "ls")

    assert done.exit_code == 125
    assert "libvirt can start it: virsh start work" in done.output
    assert programs.read_text() == "virsh domstate work\n"


def test_libvirt_does_not_know_it(runtime: Path, programs: Path) -> None:
    assert "virsh" not in run("other", "--", "ls").output


@pytest.mark.parametrize(("answer", "started"), [("y", True), ("n", False)])
def test_who_is_at_a_terminal_is_asked(
    runtime: Path,
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    *,
    started: bool,
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(click, "confirm", lambda *_, **__: answer == "y")

    offer_start("work")

    assert ("virsh start work" in programs.read_text()) is started


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_from_a_menu_the_desktop_says_it(runtime: Path, programs: Path) -> None:
    run("other", "--app", "foot")

    (line,) = [each for each in programs.read_text().splitlines() if "notify" in each]
    assert line.startswith("notify-send --app-name=wlproxy -- wlproxy no proxy serves")


@pytest.mark.parametrize(
    ("outcome", "status", "output"),
    [
        (Outcome(exited=3), 3, ""),
        (Outcome(killed=2), 130, ""),
        (Outcome(started=9), 0, ""),
        (Outcome(error="\x1bno", status=126), 126, "wlproxy: in vm: no\n"),
    ],
)
def test_how_it_ends(
    runtime: Path,
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
    status: int,
    output: str,
) -> None:
    asked: list[Asked] = []

    async def ask(what: Asked) -> Outcome:
        asked.append(what)
        return outcome

    monkeypatch.setattr(exec_command, "ask", ask)

    done = run("vm", "--app", "foot")

    assert (done.exit_code, done.output) == (status, output)
    assert [each.request for each in asked] == [Request(app="foot", detach=True)]
    assert asked[0].stdin is None
    assert programs.exists() is (outcome.error is not None)


# ------------------------------------------------------------------ apps


@pytest.mark.parametrize("options", [("--export", "--remove"), ("--json", "--export")])
def test_one_thing_is_done_with_apps(options: tuple[str, ...]) -> None:
    assert CliRunner().invoke(main, ["apps", "vm", *options]).exit_code == 2


def test_apps_of_a_vm_that_is_off(runtime: Path) -> None:
    done = CliRunner().invoke(main, ["apps", "vm", "--export"])

    assert done.exit_code == 1
    assert "no proxy serves commands for vm" in done.output


def test_apps_are_removed_without_a_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    export_apps(tmp_path, "vm", [App("foot", "Foot")], ["wlproxy"])

    done = CliRunner().invoke(main, ["apps", "vm", "--remove"])

    assert (done.exit_code, done.output) == (0, "1 removed\n")
    assert not list(tmp_path.rglob("*.desktop"))


def found_then(text: bytes, status: Outcome) -> Callable[[Asked], Awaitable[Outcome]]:
    """In place of a guest: what it lists."""

    async def ask(asked: Asked) -> Outcome:
        assert callable(asked.stdout)
        asked.stdout(text)
        return status

    return ask


@pytest.mark.parametrize(
    ("text", "status", "arguments", "output"),
    [
        (b'{"id": "b", "name": "A"}\n', Outcome(exited=0), [], "b  A\n"),
        (b"", Outcome(error="no", status=125), [], "the guest lists no apps: no"),
        (b"", Outcome(killed=9), [], "the guest lists no apps: status 137"),
        (b"nonsense\n", Outcome(exited=0), [], "the guest's list of apps is none"),
        (b'{"id": "/"}\n', Outcome(exited=0), [], "1 apps with impossible ids"),
        (b'{"id": "b", "name": "A"}\n', Outcome(exited=0), ["--json"], '"id": "b"'),
        (
            b'{"id": "b", "name": "A"}\n',
            Outcome(exited=0),
            ["--export", "--user", "ada"],
            "1 written, 0 as they were, 0 removed",
        ),
    ],
)
def test_what_a_guest_lists(
    runtime: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: bytes,
    status: Outcome,
    arguments: list[str],
    output: str,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(runtime))
    monkeypatch.setattr(apps, "ask", found_then(text, status))

    done = CliRunner().invoke(main, ["apps", "vm", *arguments])

    assert output in done.output
    for path in runtime.rglob("*.desktop"):
        assert '"exec" "vm" "--user" "ada" "--app" "b"' in path.read_text()


@pytest.mark.parametrize("name", ["wlproxy", "__main__.py"])
def test_menus_start_this_very_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    program = tmp_path / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])

    ours = ourselves()

    assert ours == (
        [str(program)] if name == "wlproxy" else [sys.executable, "-P", "-m", "wlproxy"]
    )
