"""Policies from the file and the command line: what counts, where it is from, what is wrong."""

from pathlib import Path

import pytest

from wlproxy.host.config_file import ConfigFile, ConfigFileError
from wlproxy.host.policy_file import PolicySource, faults, read_policy
from wlproxy.relay.policy_tree import Direction, Fullscreen, Policy, Switch

PATH = Path("/c.toml")
FILE = """\
[defaults]
deny = ["wl_output"]

[defaults.policy]
clipboard.direction = "off"
windows.icons = "off"

[vm.work.policy]
clipboard = { direction = "to-guest", types = ["text/*"] }
windows.fullscreen = "off"

[vm.work.policy.globals]
allow = ["zwlr_layer_shell_v1", "wl_shell"]
versions = { wl_seat = 5 }
"""


def read(text: str, **source: object) -> tuple[Policy, dict[str, tuple[str, str]]]:
    said = PolicySource("work", PATH, **source)  # type: ignore[arg-type]
    policy, lines = read_policy(said, ConfigFile(PATH, text))
    return policy, {line.key: (line.value, line.origin) for line in lines}


def test_what_counts_and_where_it_is_from() -> None:
    policy, lines = read(FILE)
    assert policy.clipboard.direction is Direction.TO_GUEST
    assert policy.clipboard.types == ("text/*",)
    assert policy.windows.fullscreen is Fullscreen.OFF
    assert policy.windows.icons is Switch.OFF
    assert policy.globals.caps["wl_seat"] == 5
    assert "wl_output" not in policy.globals.caps
    assert lines["clipboard.direction"] == ('"to-guest"', "/c.toml:9")
    assert lines["windows.icons"] == ('"off"', "/c.toml:6")
    assert lines["windows.fullscreen"] == ('"off"', "/c.toml:10")
    assert lines["pointer.lock"] == ('"on"', "default")
    assert lines["globals.deny"] == ('["wl_output"]', "/c.toml:2")
    assert lines["globals.versions"] == ("{ wl_seat = 5 }", "/c.toml:14")


def test_the_command_line_counts_more_for_what_it_names() -> None:
    policy, lines = read(FILE, deny=("wl_shell",), allow=("wl_shm",))
    assert "wl_shell" not in policy.globals.caps
    assert "zwlr_layer_shell_v1" in policy.globals.caps
    # What was typed takes the place of the option in the file.
    assert "wl_output" in policy.globals.caps
    assert lines["globals.deny"] == ('["wl_shell"]', "command line")
    assert lines["globals.allow"] == (
        *('["zwlr_layer_shell_v1", "wl_shm"]', "/c.toml:13, command line"),
    )
    text = '[vm.work.policy]\nglobals.deny = ["wl_output"]\n'
    policy, lines = read(text, allow=("wl_output",))
    assert "wl_output" in policy.globals.caps
    assert lines["globals.deny"] == ("[]", "command line")


def test_another_vm_has_the_defaults() -> None:
    said = PolicySource("play", PATH)
    policy = read_policy(said, ConfigFile(PATH, FILE)).policy
    assert policy.clipboard.direction is Direction.OFF
    assert policy.windows.fullscreen is Fullscreen.FRAMED


def test_without_a_file_all_is_by_default(tmp_path: Path) -> None:
    assert PolicySource().read().policy == Policy()
    missing = tmp_path / "c.toml"
    assert PolicySource("vm", missing, optional=True).read().policy == Policy()
    with pytest.raises(ConfigFileError, match="cannot be read"):
        PolicySource("vm", missing).read()
    missing.write_text("[vm.vm.policy]\ndrag.direction = 'off'\n")
    policy = PolicySource("vm", missing, optional=True).read().policy
    assert policy.drag.direction is Direction.OFF


@pytest.mark.parametrize(
    ("line", "said", "meant"),
    [
        ("clipbord.direction = 'off'", ".policy.clipbord: is nothing", "clipboard"),
        ("clipboard.direktion = 'off'", ".direktion: is nothing", "direction"),
        ("clipboard.direction = 'of'", ".direction: is to be one of", "off"),
        ("drag.direction = 'ask'", ': cannot be "ask": a drag', ""),
        ("windows.fullscreen = 'frame'", ".fullscreen: is to be one of", "framed"),
        ("frame.colour = 'pink'", "'pink' is no colour: write #rrggbb, or", ""),
        ("frame.colour = 3", 'frame.colour: is to be "auto", "off"', ""),
        ("windows.max-width = 0", ".max-width: is to be a number", ""),
        ("windows = 1", ".policy.windows: is to be a table", ""),
        ("globals.deny = ['wl_seet']", "cannot deny wl_seet", "wl_seat"),
        ("globals.allow = ['wl_drm']", "cannot allow wl_drm", ""),
        ("globals.versions = { wl_seet = 1 }", "cannot cap wl_seet", "wl_seat"),
    ],
)
def test_a_mistake(line: str, said: str, meant: str) -> None:
    file = ConfigFile(PATH, f"[vm.work.policy]\n\n{line}\n")
    [fault] = faults(file, "work")
    assert str(fault).startswith("/c.toml:3: vm.work.policy")
    assert said in str(fault)
    assert not meant or f"Did you mean {meant}?" in str(fault)
    with pytest.raises(ConfigFileError):
        read_policy(PolicySource("work", PATH), file)


def test_all_mistakes_are_found() -> None:
    text = """\
[defaults]
allow = ["nothing_v1"]
[defaults.policy]
primary.direction = 3
[vm.work]
deny = ["wl_seet"]
policy = 3
"""
    told = [
        str(each).partition(": ")[0] for each in faults(ConfigFile(PATH, text), "work")
    ]
    assert told == ["/c.toml:4", "/c.toml:7", "/c.toml:2", "/c.toml:6"]


def test_what_is_no_table_hides_no_other_mistake() -> None:
    text = "[vm.work.policy]\nclipboard = 'ask'\nclipbord.direction = 'ask'\n"
    told = [str(each) for each in faults(ConfigFile(PATH, text), "work")]
    assert [each.partition(": ")[0] for each in told] == ["/c.toml:2", "/c.toml:3"]
    assert "is to be a table" in told[0]
    assert "Did you mean clipboard?" in told[1]


TWO = "[vm.work]\n[vm.web]\n"
SEVERAL = "default: /c.toml has several VMs"


def colour(text: str, name: str = "work", **source: object) -> tuple[str, str]:
    said = PolicySource(name, PATH, **source)  # type: ignore[arg-type]
    lines = read_policy(said, ConfigFile(PATH, text)).lines
    [found] = [line for line in lines if line.key == "frame.colour"]
    return found.value, found.origin


def test_several_vms_have_colours_and_one_has_none() -> None:
    assert colour("[vm.work]\n") == ('"auto"', "default")
    assert colour("", "work") == ('"auto"', "default")
    work, web = colour(TWO), colour(TWO, "web")
    assert work[1] == web[1] == SEVERAL
    assert work[0] != web[0]
    # One that the file does not have is another one.
    assert colour("[vm.work]\n", "web")[1] == SEVERAL
    policy = read_policy(PolicySource("work", PATH), ConfigFile(PATH, TWO)).policy
    assert policy.frame.colour.rgb is not None
    assert not policy.frame.colour.asked


def test_where_a_colour_is_from() -> None:
    red = f"{TWO}policy.frame.colour = 'red'\n"
    assert colour(red, "web") == ('"red"', "/c.toml:3")
    for given in ("red", "#D1261B"):  # nobody else has it, however it is written
        others = "".join(f"[vm.n{number}]\n" for number in range(4))
        text = f"{TWO}policy.frame.colour = '{given}'\n{others}"
        names = ("work", "web", *(f"n{number}" for number in range(4)))
        chosen = [colour(text, name)[0] for name in names if name != "web"]
        assert len(set(chosen)) == 5
        assert '"red"' not in chosen
    assert colour(red, frame="#123456") == ('"#123456"', "command line")
    assert colour(red, "web", frame="off") == ('"off"', "command line")
    assert colour(red, "web", frame="auto")[1] == SEVERAL
    all_blue = f"[defaults.policy.frame]\ncolour = 'blue'\n{TWO}"
    assert {colour(all_blue, name) for name in ("work", "web")} == {
        ('"blue"', "/c.toml:2"),
    }
    with pytest.raises(ValueError, match="is no colour"):
        colour(red, frame="pink")
    # What is wrong of another VM's is for its own proxy to say.
    assert colour(red.replace("red", "pink"))[1] == SEVERAL


def test_windows_that_cannot_be_framed() -> None:
    allow = "policy.globals.allow = ['zwlr_layer_shell_v1']\n"
    text = f"[vm.web]\n[vm.work]\n{allow}"
    value, origin = colour(text)
    assert value == '"off"'
    assert origin.startswith("default: zwlr_layer_shell_v1 is allowed (/c.toml:3), and")
    assert colour(text, "web")[1] == SEVERAL
    with pytest.raises(ConfigFileError, match=r"command line: windows .*layer_shell"):
        colour(text, frame="red")
    with pytest.raises(ConfigFileError, match=r"/c.toml:4: windows .*layer_shell"):
        colour(f"{text}policy.frame.colour = 'red'\n")
    with pytest.raises(ConfigFileError, match=r"wl_shell is allowed \(command line\)"):
        colour(TWO, frame="red", allow=("wl_shell",))
