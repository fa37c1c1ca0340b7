"""The command line: what it prints, and how it fails."""

import gc
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rich.console
from click.testing import CliRunner

from tests.documents import document, window
from wlproxy import __version__, cli
from wlproxy.commands import doctor, qemu_args, status
from wlproxy.commands import run as run_command
from wlproxy.host.channel_address import (
    ChannelAddress,
    HybridVsock,
    Listen,
    Vsock,
)
from wlproxy.host.config import HostConfig
from wlproxy.host.desktop.udmabuf_device import UdmabufLimits
from wlproxy.host.doctor import Finding, Verdict
from wlproxy.host.errors import HostError, NoCompositorError
from wlproxy.relay.capabilities import Preference

DOCUMENT = document(window(title="~ — [red]foot\x1b[2J"))


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    before = logging.root.handlers[:]
    yield CliRunner()
    logging.root.handlers[:] = before


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What stays out of collections would do so for the tests that follow, too."""
    calls: list[str] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append("freeze"))
    return calls


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch, frozen: list[str]) -> list[HostConfig]:
    """What the server is started with, once what was imported is out of collections' way."""
    started: list[HostConfig] = []

    async def run(config: HostConfig) -> None:
        assert frozen
        started.append(config)

    monkeypatch.setattr(run_command, "run_server", run)
    return started


def test_the_version(runner: CliRunner) -> None:
    assert __version__ in runner.invoke(cli.main, ["--version"]).output


def test_run_makes_a_configuration(
    runner: CliRunner, configs: list[HostConfig], tmp_path: Path
) -> None:
    result = runner.invoke(
        cli.main,
        "run --channel /c --name work --present b --qemu-pid 7 --once --no-confine "
        "--deny wl_output --allow zwp_linux_dmabuf_v1",
    )
    assert result.exit_code == 0, result.output
    (config,) = configs
    assert config.channel == Path("/c")
    assert config.status == tmp_path / "wlproxy" / "work.sock"
    assert config.relay.preference is Preference.DMABUF
    assert config.relay.vm_name == "work"
    assert "wl_output" not in config.relay.policy.globals.caps
    assert "zwp_linux_dmabuf_v1" in config.relay.policy.globals.caps
    assert config.once
    assert not config.confine
    assert config.qemu_pid == 7


def test_a_name_says_where_channel_and_tap_are(
    runner: CliRunner, configs: list[HostConfig], tmp_path: Path
) -> None:
    (tmp_path / "wlproxy").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as tap:
        tap.bind(str(tmp_path / "wlproxy" / "work.ram"))
        for arguments in ("", "--name work", "--name work --ram-tap /tap"):
            assert runner.invoke(cli.main, f"run {arguments}").exit_code == 0
    assert [(each.channel, each.ram_tap) for each in configs] == [
        (tmp_path / "wlproxy-vm.channel", None),
        (tmp_path / "wlproxy-work.channel", tmp_path / "wlproxy" / "work.ram"),
        (tmp_path / "wlproxy-work.channel", Path("/tap")),
    ]


@pytest.mark.parametrize(
    ("arguments", "channel"),
    [
        ("--listen", Listen(Path("{}/wlproxy-work.channel"))),
        ("--listen /run/c --group kvm", Listen(Path("/run/c"), "kvm")),
        ("--channel vsock:3:5000 --qemu-pid 7", Vsock(3, 5000)),
        ("--channel hvsock:/v:52 --ram-tap /tap", HybridVsock(Path("/v"), 52)),
    ],
)
def test_run_has_other_channels(
    runner: CliRunner,
    configs: list[HostConfig],
    tmp_path: Path,
    arguments: str,
    channel: ChannelAddress,
) -> None:
    result = runner.invoke(cli.main, f"run --name work {arguments}")
    assert result.exit_code == 0, result.output
    assert str(configs[0].channel) == str(channel).format(tmp_path)
    assert type(configs[0].channel) is type(channel)
    assert getattr(configs[0].channel, "group", None) == getattr(channel, "group", None)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("run --listen /c --channel /c", 2, "either connect"),
        ("run --channel /c --group kvm", 2, "--group is for --listen"),
        ("run --channel vsock:2:1", 2, "no guest has the CID 2"),
        ("run --channel vsock:3:1", 1, "not found by a vsock"),
        ("qemu-args --listen --channel /c", 2, "either --channel or --listen"),
        ("qemu-args --channel vsock:1", 2, "neither vsock:CID:PORT"),
        ("qemu-args --channel hvsock:/v:1", 2, "QEMU has no such vsock"),
        ("run --name a.b", 1, "cannot name a VM"),
        ("run --channel /c --name a/b", 1, "cannot name a VM"),
        ("run --channel /c --allow wl_nonsense", 2, "wl_nonsense"),
        ("run --channel /c --deny wl_outptu", 2, "mean wl_output?"),
        ("run --channel /c --frame pink", 2, "'pink' is no colour"),
        ("run --channel /c --frame red --allow wl_shell", 1, "but wl_shell is"),
        ("status", 1, "no proxy runs"),
        ("status --name other", 1, "no proxy answers for other"),
        ("qemu-args --memory lots", 2, "lots"),
    ],
)
def test_mistakes_are_explained(
    runner: CliRunner, arguments: str, status: int, words: str
) -> None:
    result = runner.invoke(cli.main, arguments)
    assert result.exit_code == status
    assert words in result.output
    assert "Traceback" not in result.output


def test_what_the_host_cannot_do_is_one_message_with_its_remedy(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(config: HostConfig) -> None:
        raise NoCompositorError("no compositor [there]", remedy="start one")

    monkeypatch.setattr(run_command, "run_server", run)
    result = runner.invoke(cli.main, ["run", "--channel", "/c"])
    assert result.exit_code == 1
    assert result.output == "error: no compositor [there]\nstart one\n"


@pytest.mark.parametrize(
    ("verdict", "status"), [(Verdict.WARNING, 0), (Verdict.PROBLEM, 1)]
)
def test_doctor_fails_on_problems_only(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, status: int
) -> None:
    finding = Finding("udmabuf", verdict, "there is none", "modprobe udmabuf")
    monkeypatch.setattr(doctor, "examine", lambda environ, display: [finding])
    result = runner.invoke(cli.main, ["doctor"])
    assert result.exit_code == status
    assert verdict.value in result.output
    assert "modprobe udmabuf" in result.output


def test_qemu_args_and_their_xml(runner: CliRunner, tmp_path: Path) -> None:
    output = runner.invoke(cli.main, ["qemu-args", "--memory", "2G"]).output
    assert f"path={tmp_path}/wlproxy-vm.channel" in output
    assert "size=2G" in output
    output = runner.invoke(cli.main, ["qemu-args", "--listen"]).output
    assert f"path={tmp_path}/wlproxy-vm.channel,reconnect-ms=1000" in output
    xml = runner.invoke(cli.main, ["qemu-args", "--libvirt"]).output
    assert "<memoryBacking>" in xml
    for given, path in (("", f"{tmp_path}/wlproxy-vm.ram"), ("/run/tap", "/run/tap")):
        words = ["qemu-args", "--ram-tap", *filter(None, [given])]
        assert f"path={path},reconnect" in runner.invoke(cli.main, words).output


@pytest.mark.parametrize(("limit", "is_said"), [(1024, True), (65536, False)])
def test_qemu_args_with_a_render_node(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, limit: int, *, is_said: bool
) -> None:
    limits = UdmabufLimits(limit, 1 << 26)
    monkeypatch.setattr(qemu_args, "read_limits", lambda: limits)
    words = ["qemu-args", "--screen", "--render-node", "/dev/dri/renderD129"]
    result = runner.invoke(cli.main, words)
    assert "rendernode=/dev/dri/renderD129" in result.stdout
    assert ("list_limit" in result.stderr) is is_said
    monkeypatch.setattr(qemu_args, "usable_render_node", lambda: Path("/dev/dri/x"))
    found = runner.invoke(cli.main, words[:2])
    assert "rendernode=/dev/dri/x" in found.stdout
    none = runner.invoke(cli.main, [*words[:3], "none"])
    assert "-display dbus,p2p=on \\\n" in none.stdout
    assert not none.stderr


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[None]:
    """A proxy for `vm`, and the socket of one for `dead` that was killed."""
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_UNIX) as dead,
    ):
        (tmp_path / "wlproxy").mkdir()
        listener.bind(str(tmp_path / "wlproxy" / "vm.sock"))
        listener.listen()
        dead.bind(str(tmp_path / "wlproxy" / "dead.sock"))
        yield


@pytest.mark.usefixtures("proxy")
def test_status_is_for_people_or_for_programs(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(status, "read_all", lambda path: DOCUMENT)
    text = runner.invoke(cli.main, ["status"]).output
    assert text.startswith("work: serving")
    assert "~ — [red]foot" in text
    assert "\x1b" not in text
    printed = runner.invoke(cli.main, ["status", "--json"]).output
    assert json.loads(printed) == json.loads(json.dumps(DOCUMENT))
    for option in ("--json", "--dump"):
        mistaken = runner.invoke(cli.main, ["status", option, "--watch"])
        assert mistaken.exit_code == 2
    monkeypatch.setattr(status, "read_status", lambda path: {"of": path.suffix})
    printed = runner.invoke(cli.main, ["status", "--dump"]).output
    assert json.loads(printed) == {"of": ".dump"}
    monkeypatch.setattr(status, "read_all", lambda path: DOCUMENT)

    with socket.socket(socket.AF_UNIX) as another:
        another.bind(str(tmp_path / "wlproxy" / "other.sock"))
        another.listen()
        ambiguous = runner.invoke(cli.main, ["status", "--json"])
        assert ambiguous.exit_code == 1
        assert "2 proxies run: other, vm" in ambiguous.output
        both = runner.invoke(cli.main, ["status"])
        assert both.exit_code == 0
        assert both.output.count("[red]foot") == 2

        def read(path: Path) -> dict[str, Any]:
            if path.stem == "other":
                raise HostError("no proxy answers for other")
            return DOCUMENT

        monkeypatch.setattr(status, "read_all", read)
        one = runner.invoke(cli.main, ["status"])
        assert one.exit_code == 0
        assert one.output.startswith("no proxy answers for other\n\n")
        assert one.output.count("[red]foot") == 1


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_terminal_does_not_have_is_a_question_mark(
    tmp_path: Path, encoding: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wlproxy" / "titles.sock"))
        listener.listen()
        with subprocess.Popen(
            [sys.executable, "-m", "wlproxy", "status", "--name", "titles"],
            env={"XDG_RUNTIME_DIR": str(tmp_path), "PYTHONIOENCODING": encoding},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as asking:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(json.dumps(DOCUMENT).encode())
            output, _ = asking.communicate(timeout=30)
    assert asking.returncode == 0, output
    assert b"~ ? [red]foot" in output


@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize("terminal", [True, False])
def test_status_is_watched_until_the_proxy_has_gone(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, *, terminal: bool
) -> None:
    documents = [DOCUMENT, document(window(frames=4711))]

    def read(_path: Path) -> dict[str, Any]:
        if not documents:
            raise HostError("no proxy answers for vm")
        return documents.pop(0)

    monkeypatch.setattr(status, "read_all", read)
    monkeypatch.setattr(status, "WATCH_SECONDS", 0)
    monkeypatch.setattr(rich.console.Console, "is_terminal", terminal)
    result = runner.invoke(cli.main, ["status", "--watch"])
    assert result.exit_code == 1
    assert "4711" in result.output
    assert "no proxy answers" in result.output
    assert ("\x1b[?1049h" in result.output) is terminal  # the alternate screen


def test_the_context_and_what_is_allowed_are_settings(
    runner: CliRunner, configs: list[HostConfig]
) -> None:
    for option in ("", " --no-security-context"):
        runner.invoke(cli.main, f"run --channel /c --allow wl_drm{option}")
        runner.invoke(cli.main, f"run --channel /c --allow wl_output{option}")
    assert [each.security_context for each in configs] == [True, False]
    assert [each.relay.policy.globals.allow for each in configs] == [("wl_output",)] * 2


def test_a_frame_has_the_colour_that_was_asked_for(
    runner: CliRunner, configs: list[HostConfig]
) -> None:
    for option in ("", " --frame red", " --frame #336699"):
        assert runner.invoke(cli.main, f"run --channel /c{option}").exit_code == 0
    frames = [each.relay.frame for each in configs]
    assert [each and each.colour for each in frames] == [None, 0xD1261B, 0x336699]


def test_version_and_a_list_of_commands_need_little() -> None:
    loaded = "import sys, wlproxy.cli; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"trio", "rich", "pywayland", "wlproxy.host"} & set(modules)


def test_run_imports_what_it_was_asked_for() -> None:
    """A client without a frame, of a VM that is neither libvirt's nor Xen's."""
    serve = """
import sys
import wlproxy.commands.run
from wlproxy.memory.guest_memory import GuestMemory
from wlproxy.protocol.channel.frames import ClientOpened
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.context import RelayConfig

relay = Relay(RelayConfig(), GuestMemory(()), CompositorCapabilities(True))
assert relay.receive(ClientOpened(1, 2, 3, 4, "app"))
print(*sys.modules)
"""
    modules = subprocess.run(
        [sys.executable, "-c", serve], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "wlproxy.host.server" in modules
    dear = (
        *("http", "pyudev", "rich", "wlproxy.host.doctor", "wlproxy.host.libvirt"),
        *("wlproxy.host.xen.gntdev", "wlproxy.host.xen.grant_pages"),
        *("wlproxy.host.xen.lending", "wlproxy.protocol.notation"),
        *("wlproxy.relay.filters.framed", "wlproxy.relay.frame", "wlproxy.screen"),
    )
    assert not set(dear) & set(modules)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_is_found(runner: CliRunner, command: str) -> None:
    result = runner.invoke(cli.main, [command, "--help"])
    assert result.exit_code == 0
    assert f" {command} [OPTIONS]" in result.output


def test_unknown_command_is_told_from_those_that_are_there(runner: CliRunner) -> None:
    result = runner.invoke(cli.main, ["walk"])
    assert result.exit_code == 2
    assert "No such command 'walk'" in result.output


def test_help_has_a_line_for_each_command(runner: CliRunner) -> None:
    printed = runner.invoke(cli.main, ["--help"]).output
    _, _, listed = printed.partition("Commands:\n")
    assert [line.split()[0] for line in listed.splitlines()] == list(cli.COMMANDS)


def test_doctors_findings_for_programs(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = [Finding("kernel", Verdict.PROBLEM, "too old", "Buy a newer one.")]
    monkeypatch.setattr(doctor, "examine", lambda environ, display: findings)
    result = runner.invoke(cli.main, ["doctor", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [
        {
            "subject": "kernel",
            "verdict": "problem",
            "explanation": "too old",
            "remedy": "Buy a newer one.",
        }
    ]
