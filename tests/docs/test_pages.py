"""Runs commands of the documentation, as they stand there."""

import contextlib
import getpass
import json
import shlex
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from tests.docs.blocks import PAGES, ROOT, Block, read_page
from tests.documents import document, window
from tests.host.fake_root import FakeRoot
from wlproxy import cli
from wlproxy.commands import qemu_args
from wlproxy.host.runtime_dir import check_place
from wlproxy.protocol.channel.frames import PORT_NAME

HERE = "tests/docs/test_pages.py"


def blocks_of(request: pytest.FixtureRequest) -> list[Block]:
    """Return the blocks that name a test."""
    mark = f"run by: {HERE}::{request.node.originalname}"
    found = [
        block
        for path in PAGES
        for block in read_page(path).blocks
        if block.mark == mark
    ]
    assert found, f"no page has <!-- {mark} -->"
    return found


@pytest.fixture
def blocks(request: pytest.FixtureRequest) -> list[Block]:
    """The blocks that this test is said to run."""
    return blocks_of(request)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user's files are."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(words: list[str]) -> Result:
    """Run a command of wlproxy's."""
    program, *arguments = words
    assert program == "wlproxy", shlex.join(words)
    return CliRunner().invoke(cli.main, arguments)


def output_of(words: list[str]) -> str:
    """Run a command of wlproxy's that must not fail, and return what it prints."""
    result = run(words)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_doctor_and_setup_answer(blocks: list[Block]) -> None:
    for block in blocks:
        for words in block.commands():
            result = run(words)
            # The host of a test lacks something, mostly; what counts is an answer.
            assert result.exit_code in {0, 1}, result.output
            assert "/dev/udmabuf" in result.output, shlex.join(words)


def test_the_rule_and_the_limits_are_set(blocks: list[Block], tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "root")
    for block in blocks:
        root.paste(pasted(block))
    assert root.read("etc/udev/rules.d/70-udmabuf.rules").startswith(
        'KERNEL=="udmabuf"'
    )
    assert root.read("called").splitlines() == [
        "udevadm control --reload",
        "udevadm trigger --name-match=udmabuf",
    ]
    assert root.read("sys/module/udmabuf/parameters/list_limit") == "65536\n"
    assert root.read("sys/module/udmabuf/parameters/size_limit_mb") == "256\n"
    options = root.read("etc/modprobe.d/udmabuf.conf")
    assert options == "options udmabuf list_limit=65536 size_limit_mb=256\n"


def pasted(block: Block) -> str:
    """Return a block as a page of text shows it."""
    return "\n".join(f"  {line}" for line in block.lines)


def test_root_lets_commands_run(blocks: list[Block], tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "root")
    (block,) = blocks
    root.paste(pasted(block))
    drop_in = root.read("etc/systemd/system/wlproxy-guest-agent.service.d/exec.conf")
    assert "WLPROXY_LAUNCH_SOCKET" in drop_in
    unit = root.read("etc/systemd/user/wlproxy-launcher.service")
    assert "ExecStart=wlproxy-guest-launcher" in unit
    assert root.read("called").splitlines() == [
        "systemctl daemon-reload",
        "systemctl restart wlproxy-guest-agent.service",
    ]


def test_root_makes_room_for_the_sockets(blocks: list[Block], tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "root")
    directory, rule = blocks
    root.paste(pasted(directory))
    place = root.directory / "var/lib/wlproxy-work"
    assert place.owner() == getpass.getuser()
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
    check_place(place / "ram")
    root.paste(pasted(rule))
    rules = root.read("etc/apparmor.d/abstractions/libvirt-qemu.d/wlproxy-sockets")
    (line,) = rules.splitlines()
    assert line == f"{root.directory}/var/lib/wlproxy-*/{{channel,ram}} rw,"
    shipped = (ROOT / "share/apparmor/wlproxy-sockets").read_text()
    assert line.removeprefix(str(root.directory)) == shipped.splitlines()[-1]


def test_the_unit_is_put_in_place(blocks: list[Block], tmp_path: Path) -> None:
    root = FakeRoot(tmp_path / "root")
    (block,) = blocks
    root.paste(pasted(block))
    unit = root.read("home/.config/systemd/user/wlproxy@.service")
    assert "ExecStart=wlproxy run --name %i" in unit
    program = root.directory / "usr/local/bin/wlproxy"
    assert program.readlink() == ROOT / ".venv/bin/wlproxy"
    assert root.read("called") == "systemctl --user enable --now wlproxy@work.service\n"


def test_qemu_args_print_what_the_page_shows(
    blocks: list[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    command, printed = blocks
    (words,) = command.commands()
    assert output_of(words).splitlines() == list(printed.lines)


def test_xl_lines_are_as_shown(blocks: list[Block]) -> None:
    command, printed = blocks
    (words,) = command.commands()
    assert output_of(words).splitlines() == list(printed.lines)


@pytest.mark.parametrize(("node", "place"), [("", 1), ("/dev/dri/renderD128", 2)])
def test_qemu_args_print_a_screen(
    blocks: list[Block], monkeypatch: pytest.MonkeyPatch, node: str, place: int
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    found = Path(node) if node else None
    monkeypatch.setattr(qemu_args, "usable_render_node", lambda: found)
    monkeypatch.setattr(qemu_args, "SCATTERED_4K_ITEMS", 0)  # whatever is so here
    (words,) = blocks[0].commands()
    end = blocks[place].lines
    assert tuple(output_of(words).splitlines()[-len(end) :]) == end


def test_qemu_args_print_a_screen_for_libvirt(blocks: list[Block]) -> None:
    command, end = blocks
    (words,) = command.commands()
    assert tuple(output_of(words).splitlines()[-len(end.lines) :]) == end.lines


def test_qemu_args_run(blocks: list[Block]) -> None:
    for block in blocks:
        for words in block.commands():
            printed = output_of(words)
            if "--libvirt" in words:
                assert ET.fromstring(f"<domain>{printed}</domain>").findall(
                    ".//channel"
                )
            else:
                options = shlex.split(printed)
                assert options[0] == "-object"
                assert f"virtserialport,chardev=wlproxy,name={PORT_NAME}" in options


@pytest.fixture
def served(tmp_path: Path) -> Iterator[None]:
    """The status of a proxy, for whoever asks."""
    (tmp_path / "wlproxy").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wlproxy" / "work.sock"))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    text = json.dumps(document(window()))
                    # Some only ask whether anybody listens.
                    with contextlib.suppress(BrokenPipeError):
                        connection.sendall(text.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.usefixtures("served")
def test_the_status_is_printed(blocks: list[Block]) -> None:
    (block,) = blocks
    for_people, for_scripts, schema = map(output_of, block.commands())
    assert "foot" in for_people
    assert "zero-copy" in for_people
    assert json.loads(for_scripts) == document(window())
    assert "surfaces" in json.loads(schema)["properties"]


def test_the_policy_is_right(blocks: list[Block], home: Path) -> None:
    (settings,) = [block for block in blocks if block.kind == "toml"]
    (home / "wlproxy").mkdir()
    file = home / "wlproxy/config.toml"
    file.write_text("\n".join(settings.lines))
    assert output_of(["wlproxy", "policy", "check"]) == ""
    shown = output_of(["wlproxy", "policy", "show", "work"]).splitlines()
    assert f'clipboard.direction = "ask"  # {file}:7' in shown
    assert f'windows.idle-inhibition = "off"  # {file}:3' in shown
    assert 'windows.fullscreen = "framed"  # default' in shown


def test_the_settings_are_right(blocks: list[Block], home: Path) -> None:
    (settings,) = [block for block in blocks if block.kind == "toml"]
    (commands,) = [block for block in blocks if block.kind != "toml"]
    (home / "wlproxy").mkdir()
    (home / "wlproxy/config.toml").write_text("\n".join(settings.lines))
    check, show = commands.commands()
    assert "is right; it has work" in output_of(check)
    assert output_of(show).splitlines() == [
        'wlproxy run: deny = ["wl_data_device_manager"]',
        "wlproxy run: security-context = false",
        'wlproxy run: log-level = "warning"',
        'wlproxy ram-tap: socket = "/var/lib/wlproxy-work/ram"',
        'wlproxy ram-tap: group = "libvirt-qemu"',
        'wlproxy screen: qmp = "/run/work.qmp"',
        'wlproxy screen: log-level = "warning"',
    ]
    # "... takes the paths of the channel, of the monitor and of the tap from there, too"
    words = ["wlproxy", "qemu-args", "--name", "work", "--ram-tap", "--screen"]
    printed = output_of(words)
    assert "path=/var/lib/wlproxy-work/ram" in printed
    assert "unix:/run/work.qmp" in printed
