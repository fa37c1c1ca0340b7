"""The command line: what it prints, and how it fails."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from wlproxy import __version__, cli
from wlproxy.host.config import HostConfig
from wlproxy.host.doctor import Finding, Verdict
from wlproxy.host.errors import NoCompositorError
from wlproxy.relay.presentation import Preference

DOCUMENT = {
    "name": "vm",
    "state": "serving",
    "agent": "wlproxy-guest 0.1",
    "clients": [{}, {}],
    "metrics": {"udmabufs_alive": 3, "pixel_bytes_copied": 0},
    "surfaces": [
        {
            "label": "foot(312)",
            "surface": 14,
            "title": "",
            "app_id": "[red]foot\x1b[2J",
            "width": 800,
            "height": 600,
            "mode": "A",
            "frames": 7,
            "bytes_copied": 0,
            "reason": "zero-copy",
        }
    ],
}


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    before = logging.root.handlers[:]
    yield CliRunner()
    logging.root.handlers[:] = before


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[HostConfig]:
    """What the server is started with."""
    started: list[HostConfig] = []

    async def run(config: HostConfig) -> None:
        started.append(config)

    monkeypatch.setattr(cli, "run_server", run)
    return started


def test_the_version(runner: CliRunner) -> None:
    assert __version__ in runner.invoke(cli.main, ["--version"]).output


def test_run_makes_a_configuration(
    runner: CliRunner, configs: list[HostConfig], tmp_path: Path
) -> None:
    result = runner.invoke(
        cli.main,
        "run --channel /c --name work --present b --qemu-pid 7 --once "
        "--deny wl_output --allow zwp_linux_dmabuf_v1",
    )
    assert result.exit_code == 0, result.output
    (config,) = configs
    assert config.channel == Path("/c")
    assert config.status == tmp_path / "wlproxy" / "work.sock"
    assert config.relay.preference is Preference.DMABUF
    assert config.relay.vm_name == "work"
    assert "wl_output" not in config.relay.policy
    assert "zwp_linux_dmabuf_v1" in config.relay.policy
    assert config.once
    assert config.qemu_pid == 7


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ("run", 2, "--channel"),
        ("run --channel /c --name a/b", 1, "cannot name a VM"),
        ("run --channel /c --allow wl_nonsense", 2, "wl_nonsense"),
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

    monkeypatch.setattr(cli, "run_server", run)
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
    monkeypatch.setattr(cli, "examine", lambda environ, display: [finding])
    result = runner.invoke(cli.main, ["doctor"])
    assert result.exit_code == status
    assert verdict.value in result.output
    assert "modprobe udmabuf" in result.output


def test_qemu_args_and_their_xml(runner: CliRunner, tmp_path: Path) -> None:
    output = runner.invoke(cli.main, ["qemu-args", "--memory", "2G"]).output
    assert f"path={tmp_path}/wlproxy.channel" in output
    assert "size=2G" in output
    xml = runner.invoke(cli.main, ["qemu-args", "--libvirt"]).output
    assert "<memoryBacking>" in xml


def test_status_is_a_table_or_the_document(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cli, "read_status", lambda path: DOCUMENT)
    (tmp_path / "wlproxy").mkdir()
    (tmp_path / "wlproxy" / "vm.sock").touch()
    table = runner.invoke(cli.main, ["status"]).output
    assert "vm: serving (wlproxy-guest 0.1)" in table
    assert "\x1b" not in table
    for cell in ("foot(312)", "14", "[red]foot", "800x600", "A", "zero-copy"):
        assert cell in table
    document = runner.invoke(cli.main, ["status", "--json"]).output
    assert json.loads(document) == DOCUMENT
    (tmp_path / "wlproxy" / "other.sock").touch()
    ambiguous = runner.invoke(cli.main, ["status"])
    assert ambiguous.exit_code == 1
    assert "other, vm" in ambiguous.output
    idle = {**DOCUMENT, "surfaces": [], "agent": ""}
    monkeypatch.setattr(cli, "read_status", lambda path: idle)
    plain = runner.invoke(cli.main, ["status", "--name", "vm"]).output
    assert plain.startswith("vm: serving\n")
