"""Options from the configuration file: what counts, and what is refused."""

import gc
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from wlproxy import cli
from wlproxy.commands import run as run_command
from wlproxy.commands.serve import wanted
from wlproxy.host.channel_address import Listen, Vsock
from wlproxy.host.config import HostConfig
from wlproxy.relay.capabilities import Preference

FILE = """\
[defaults]
log-level = "warning"
deny = ["wl_output"]
once = true

[vm.work]
channel = "/work.channel"
present = "a"
qemu-pid = 7
security-context = false

[vm.work.tap]
socket = "/work.ram"
group = "kvm"

[vm.play]
deny = ["wl_seat"]
"""


class Home:
    """A user's configuration directory, and the command line there."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "config" / "wlproxy" / "config.toml"
        self.file.parent.mkdir(parents=True)

    def write(self, text: str) -> Path:
        """Write the configuration file."""
        self.file.write_text(text)
        return self.file

    def call(self, words: str) -> Result:
        """Call `wlproxy`."""
        return CliRunner().invoke(cli.main, words)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "200")
    before, level = logging.root.handlers[:], logging.root.level
    yield Home(tmp_path)
    logging.root.handlers[:] = before
    logging.root.setLevel(level)


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[HostConfig]:
    """What the server is started with."""
    started: list[HostConfig] = []

    async def run(config: HostConfig) -> None:
        started.append(config)

    monkeypatch.setattr(run_command, "run_server", run)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    return started


def test_run_takes_what_is_not_typed_from_the_file(
    home: Home, configs: list[HostConfig]
) -> None:
    home.write(FILE)
    assert home.call("run --name work").exit_code == 0
    [config] = configs
    assert config.channel == Path("/work.channel")
    assert config.relay.preference is Preference.SHM
    assert config.qemu_pid == 7
    assert config.once
    assert not config.security_context
    assert "wl_output" not in config.relay.policy.globals.caps
    assert logging.root.level == logging.WARNING


def test_what_is_typed_counts_more(home: Home, configs: list[HostConfig]) -> None:
    home.write(FILE)
    words = "run --name work --present c --channel /typed --security-context"
    assert home.call(f"{words} --deny wl_seat").exit_code == 0
    [config] = configs
    assert config.channel == Path("/typed")
    assert config.relay.preference is Preference.COPY
    assert config.security_context
    assert "wl_output" in config.relay.policy.globals.caps
    assert "wl_seat" not in config.relay.policy.globals.caps


@pytest.mark.parametrize("table", ["defaults", "vm.work"])
def test_the_frame_is_a_key_of_the_policy(home: Home, table: str) -> None:
    file = home.write(f"[{table}]\nframe = 'blue'\n[vm.work.screen]\n")
    for command in ("config check", "policy check", "run --name work"):
        said = home.call(command)
        assert said.exit_code == 1
        assert f"{file}:2: {table}.frame: is a key of the policy" in said.output
        remedy = f'Write it in [{table}] as: policy.frame.colour = "blue"'
        assert remedy in said.output


@pytest.mark.parametrize(
    ("typed", "name"),
    [("--clipboard off", "clipboard"), ("--primary=off", "primary")],
)
def test_what_was_an_option_of_the_screen_says_where_it_is_now(
    home: Home, typed: str, name: str
) -> None:
    said = home.call(f"screen {typed}")
    assert said.exit_code == 2
    assert f"--{name} is a key of the policy" in said.output
    assert f"policy.{name}.direction = ..." in said.output
    other = home.call("screen --clipbord off").output
    assert "No such option '--clipbord'" in other


def test_the_clipboard_of_the_screen_is_a_key_of_the_policy(home: Home) -> None:
    home.write("[vm.work.screen]\nclipboard = 'off'\n")
    for command in ("config check", "screen --name work"):
        said = home.call(command)
        assert said.exit_code == 1
        assert "vm.work.screen.clipboard: is a key of the policy" in said.output
        remedy = 'Write it in [vm.work] as: policy.clipboard.direction = "off"'
        assert remedy in said.output


def test_a_moved_setting_may_be_no_text(home: Home) -> None:
    home.write("[defaults]\nframe = 2026-11-28\n")
    assert "is a key of the policy" in home.call("config check").output


def test_several_vms_are_framed_unasked(home: Home, configs: list[HostConfig]) -> None:
    home.write("[vm.work]\n")
    home.call("run --name work")
    home.write("[vm.work]\n[vm.web]\n")
    for words in ("work", "web", "web --frame off", "web --frame red"):
        assert home.call(f"run --name {words}").exit_code == 0
    alone, work, web, off, red = (each.relay.frame for each in configs)
    assert alone is None
    assert off is None
    assert work is not None
    assert web is not None
    assert red is not None
    assert work.colour != web.colour
    assert (work.asked, web.asked, red.asked) == (False, False, True)
    shown = home.call("policy show web").output
    assert f"  # default: {home.file} has several VMs" in shown


def test_what_does_not_go_together_is_found_by_the_check(home: Home) -> None:
    home.write("[vm.work.policy]\nframe.colour = 'red'\nglobals.allow = ['wl_shell']\n")
    [line] = home.call("policy check").output.splitlines()
    assert line.startswith(f"{home.file}:2: windows are to be framed, but wl_shell")
    assert line.endswith('Do without wl_shell, or set frame.colour = "off".')


def test_the_vms_table_counts_more_than_the_defaults(
    home: Home, configs: list[HostConfig], tmp_path: Path
) -> None:
    home.write(FILE)
    assert home.call("run --name play").exit_code == 0
    [config] = configs
    assert "wl_output" in config.relay.policy.globals.caps
    assert "wl_seat" not in config.relay.policy.globals.caps
    assert config.channel == tmp_path / "wlproxy-play.channel"


def test_without_a_file_all_is_as_it_was(home: Home, configs: list[HostConfig]) -> None:
    assert home.call("run").exit_code == 0
    assert not configs[0].once


def test_another_file(home: Home, configs: list[HostConfig], tmp_path: Path) -> None:
    home.write("no TOML")
    other = tmp_path / "other.toml"
    other.write_text(FILE)
    assert home.call(f"run --name work --config {other}").exit_code == 0
    assert configs[0].qemu_pid == 7
    missing = home.call("run --config /nowhere.toml")
    assert missing.exit_code == 1
    assert "open /nowhere.toml: ENOENT" in missing.output


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("presant = 'a'", "vm.work.presant: is nothing that can be set here"),
        ("presant = 'a'", "Did you mean present?"),
        ("present = 'd'", "vm.work.present: 'd' is not one of"),
        ("present = 1", "vm.work.present: is to be a string"),
        ("deny = 'wl_seat'", "vm.work.deny: is to be an array of strings"),
        ("deny = [1]", "vm.work.deny: is to be an array of strings"),
        ("once = 'yes'", "vm.work.once: is to be true or false"),
        ("qemu-pid = true", "vm.work.qemu-pid: is to be a number"),
        ("qemu-pid = 0", "vm.work.qemu-pid: 0 is not in the range x>=1"),
        ("name = 'x'", "vm.work.name: is nothing"),
        ("config = 'x'", "vm.work.config: is nothing"),
        ("tap = 1", "vm.work.tap: is to be a table"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(
    home: Home, configs: list[HostConfig], line: str, said: str
) -> None:
    path = home.write(f"[vm.work]\n\n{line}\n")
    command = "config check" if line.startswith("tap") else "run --name work"
    result = home.call(command)
    assert result.exit_code == 1
    assert f"{path}:3: " in result.output
    assert said in result.output
    assert not configs


def test_another_vms_mistake_stops_nobody(
    home: Home, configs: list[HostConfig]
) -> None:
    home.write("[vm.play]\npresant = 'a'\n")
    assert home.call("run --name work").exit_code == 0
    assert configs
    assert home.call("config check").exit_code == 1


def test_the_tap_has_a_table_of_its_own(home: Home) -> None:
    path = home.write("[vm.work.tap]\ngrou = 'kvm'\n")
    result = home.call("ram-tap --name work")
    assert result.exit_code == 1
    assert f"{path}:2: vm.work.tap.grou" in result.output
    assert "Did you mean group?" in result.output


def test_the_options_for_qemu_are_where_the_others_look(home: Home) -> None:
    home.write(FILE)
    printed = home.call("qemu-args --name work --ram-tap").output
    assert "path=/work.channel," in printed
    assert "path=/work.ram," in printed
    typed = home.call("qemu-args --name work --ram-tap /typed.ram").output
    assert "path=/typed.ram," in typed
    assert "/work.ram" not in typed
    other = home.call("qemu-args --name play --ram-tap").output
    assert "wlproxy-play.ram," in other


def test_a_path_that_is_none(home: Home) -> None:
    path = home.write("[vm.vm.tap]\nsocket = 3\n")
    result = home.call("qemu-args --ram-tap")
    assert result.exit_code == 1
    assert f"{path}:2: vm.vm.tap.socket: is to be a string" in result.output


def test_one_way_to_the_channel_takes_the_place_of_the_other(
    home: Home, configs: list[HostConfig], tmp_path: Path
) -> None:
    home.write('[defaults]\nlisten = "/l"\n[vm.work]\nchannel = "vsock:3:5000"\n')
    for words, channel in (
        ("--name work --qemu-pid 1", Vsock(3, 5000)),
        ("--name work --channel /typed", Path("/typed")),
        ("--name other", Listen(Path("/l"))),
        ("--name other --channel /typed", Path("/typed")),
    ):
        configs.clear()
        result = home.call(f"run {words}")
        assert result.exit_code == 0, result.output
        assert configs[0].channel == channel
    assert "vhost-vsock" in home.call("qemu-args --name work").output


def test_check_says_that_all_is_right(home: Home) -> None:
    path = home.write(FILE)
    assert home.call("config check").output == f"{path} is right; it has work, play\n"
    home.write("")
    assert home.call("config check").exit_code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[vm.work]\n\ndeny = ["wl_seet"]\n', "vm.work.deny: cannot deny wl_seet"),
        ("[vm.work.policy]\n\nclipbord = 1\n", "vm.work.policy.clipbord: is nothing"),
    ],
)
def test_names_of_globals_and_policies_are_judged(
    home: Home, configs: list[HostConfig], text: str, said: str
) -> None:
    path = home.write(text)
    for words in ("config check", "policy check", "run --name work"):
        result = home.call(words)
        assert result.exit_code == 1, words
        assert f"{path}:3: {said}" in result.output
        assert "Did you mean" in result.output
    assert not configs
    assert len(home.call("policy check").output.splitlines()) == 1


def test_policy_check_of_what_is_right_or_no_file(home: Home) -> None:
    path = home.write(FILE)
    right = home.call(f"policy check {path}")
    assert (right.exit_code, right.output) == (0, "")
    wrong = home.call("policy check /nowhere")
    assert wrong.exit_code == 1
    assert "cannot be read (open /nowhere: ENOENT" in wrong.output


def test_policy_show_says_where_each_line_is_from(home: Home) -> None:
    path = home.write(FILE)
    shown = home.call("policy show work").output.splitlines()
    assert f'globals.deny = ["wl_output"]  # {path}:3' in shown
    assert 'clipboard.direction = "both"  # default' in shown
    assert home.call(f"policy show work --config {path}").output.splitlines() == shown
    assert home.call("policy show no/name").exit_code == 1
    path.write_text("[vm.work.policy]\nx = 1\n")
    assert home.call("policy show work").exit_code == 1


def test_reload_says_that_no_proxy_runs(home: Home) -> None:
    assert "no proxy runs" in home.call("reload").output
    missing = home.call("reload --name work")
    assert missing.exit_code == 1
    assert "no proxy answers for work" in missing.output


def test_what_changes_in_the_policy_starts_no_other_proxy(home: Home) -> None:
    path = home.write(FILE)
    before = wanted(path)
    home.write(FILE + '\n[vm.play.policy]\npointer.lock = "off"\n')
    assert wanted(path) == before


def test_show_says_what_is_in_force(home: Home) -> None:
    path = home.write(FILE)
    shown = home.call(f"config show --name work {path}").output.splitlines()
    assert "wlproxy run: qemu-pid = 7" in shown
    assert "wlproxy run: security-context = false" in shown
    assert 'wlproxy run: deny = ["wl_output"]' in shown
    assert 'wlproxy ram-tap: group = "kvm"' in shown
    assert home.call("config show /nowhere").exit_code == 1


def test_show_of_a_vm_with_only_a_policy_says_where_to_look(home: Home) -> None:
    path = home.write('[vm.play.policy]\npointer.lock = "off"\n')
    said = home.call(f"config show --name play {path}").output
    assert "sets no option of VM play; its policy: wlproxy policy show play" in said


def test_completion_reads_no_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write("no TOML")
    monkeypatch.setenv("_WLPROXY_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "wlproxy run --pres")
    monkeypatch.setenv("COMP_CWORD", "2")
    result = CliRunner().invoke(cli.main, [], prog_name="wlproxy")
    assert "--present" in result.output
