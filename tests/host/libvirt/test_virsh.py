"""libvirt's client as it may be: absent, refused, slow, and the domain here or there.

A script takes virsh's place: what is asked of a real one is in test_session and test_system.
"""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from tests.host.libvirt.domains import PLAIN, SHARED, with_elements
from wlproxy.cli import main
from wlproxy.commands import libvirt_setup, offering
from wlproxy.commands.config import check_file
from wlproxy.commands.libvirt_setup import SERVICE
from wlproxy.host.channel_address import Listen
from wlproxy.host.config_file import ConfigFile
from wlproxy.host.libvirt import virsh as virsh_module
from wlproxy.host.libvirt.domain import read_domain
from wlproxy.host.libvirt.setup import Wanted, adapt
from wlproxy.host.libvirt.virsh import SYSTEM, LibvirtError, Virsh, find_libvirt

CAPABILITIES = """\
<capabilities><host>
  <secmodel><model>apparmor</model></secmodel>
  <secmodel><model>dac</model><baselabel type='kvm'>+64055:+109</baselabel></secmodel>
</host></capabilities>
"""


class FakeVirsh:
    """A virsh that prints a file for each command, or what a file of errors says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        script = directory / "virsh"
        script.write_text(
            "#!/bin/sh\n"
            f"cd {directory}\n"
            'shift 2; uri=$(echo "$1" | tr -c a-z _); shift\n'
            '[ "$1" = define ] && exec cat >defined\n'
            'cat "$uri$1.error" >&2 && exit 1\n'
            'exec cat "$uri$1"\n'
        )
        script.chmod(0o755)

    def says(self, command: str, text: str, uri: str = SYSTEM) -> None:
        name = "".join(char if char.islower() else "_" for char in uri) + "_"
        (self.directory / f"{name}{command}").write_text(text)


@pytest.fixture
def virsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeVirsh:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    return FakeVirsh(directory)


def be_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_there_is_no_virsh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LibvirtError, match="no virsh") as caught:
        Virsh(SYSTEM).domains()
    assert "libvirt-clients" in caught.value.remedy


def test_one_that_does_not_answer(
    virsh: FakeVirsh, monkeypatch: pytest.MonkeyPatch
) -> None:
    (virsh.directory / "virsh").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(virsh_module, "SECONDS", 0.1)
    with pytest.raises(LibvirtError, match="does not answer"):
        Virsh(SYSTEM).domains()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("error: authentication unavailable: no polkit agent", "usermod -aG libvirt"),
        ("error: Failed to connect socket to '/run/x': Permission denied", "usermod"),
        ("error: Failed to connect socket to '/run/x': No such file", "daemon run"),
        ("error: something else", ""),
    ],
)
def test_one_that_refuses(virsh: FakeVirsh, said: str, remedy: str) -> None:
    virsh.says("list.error", f"{said}\n")
    with pytest.raises(LibvirtError, match="libvirt refuses") as caught:
        Virsh(SYSTEM).domains()
    assert remedy in caught.value.remedy


def test_whichever_has_it(virsh: FakeVirsh, monkeypatch: pytest.MonkeyPatch) -> None:
    be_a_user(monkeypatch)
    virsh.says("list", "a\nboth\n", "qemu:///session")
    virsh.says("list", "b\nboth\n")
    assert find_libvirt("a", None, {}).uri == "qemu:///session"
    assert find_libvirt("b", None, {}).uri == SYSTEM
    assert find_libvirt("both", SYSTEM, {}).uri == SYSTEM
    assert find_libvirt("both", None, {"LIBVIRT_DEFAULT_URI": SYSTEM}).uri == SYSTEM
    with pytest.raises(LibvirtError, match="two domains both"):
        find_libvirt("both", None, {})
    with pytest.raises(LibvirtError, match="no domain c") as caught:
        find_libvirt("c", None, {})
    assert "qemu:///session has: a, both" in caught.value.remedy
    virsh.says("list.error", "error: authentication unavailable")
    assert find_libvirt("a", None, {}).uri == "qemu:///session"
    with pytest.raises(LibvirtError, match="no domain b") as caught:
        find_libvirt("b", None, {})
    assert "authentication" in caught.value.remedy


def test_who_qemu_is(virsh: FakeVirsh) -> None:
    virsh.says("dumpxml", PLAIN)
    virsh.says("domstate", "shut off\n")
    virsh.says("capabilities", CAPABILITIES)
    domain = read_domain(Virsh(SYSTEM), "vm.1")
    assert (domain.owner, domain.running) == ((64055, 109), False)
    assert domain.confinement == ("apparmor",)
    assert domain.virsh.is_system
    label = "<seclabel model='dac'><label>+7:+8</label></seclabel>"
    virsh.says("dumpxml", with_elements(domain=label))
    assert read_domain(Virsh(SYSTEM), "vm.1").owner == (7, 8)
    virsh.says("capabilities", "<capabilities/>")
    virsh.says("dumpxml", PLAIN)
    own = (os.geteuid(), os.getegid())
    assert read_domain(Virsh(SYSTEM), "vm.1").owner == own
    virsh.says("dumpxml", "none")
    with pytest.raises(LibvirtError, match="cannot be read"):
        read_domain(Virsh(SYSTEM), "vm.1")


class Host:
    """A user's host, on which commands are noted and not run."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rules = directory / "rules" / "wlproxy"
        self.units = directory / "units"
        self.config = directory / "config" / "wlproxy" / "config.toml"
        self.scripts: list[str] = []
        self.status = 0
        self.serves = True
        self.sockets = directory.parent / "d"
        for each in ("runtime/systemd", "units"):
            (directory / each).mkdir(parents=True)
        (self.units / SERVICE).touch()
        be_a_user(monkeypatch)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory / "runtime"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / "config"))
        monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
        monkeypatch.setattr(offering, "run_command", self.run)
        monkeypatch.setattr(offering, "command_for", lambda repair: [repair.script])
        repairs = partial(libvirt_setup.host_repairs, rules=self.rules)
        monkeypatch.setattr(libvirt_setup, "host_repairs", repairs)
        service = partial(libvirt_setup.service_repair, installed=(self.units,))
        monkeypatch.setattr(libvirt_setup, "service_repair", service)
        listens = partial(libvirt_setup.listens, seconds=0)
        monkeypatch.setattr(libvirt_setup, "listens", listens)
        self.closing = ExitStack()

    def run(self, command: list[str]) -> int:
        self.scripts += command
        if command[0].startswith("install -d"):
            self.sockets.mkdir()
        if self.serves and "systemctl" in command[0]:
            for name in ("ram", "channel"):
                listener = self.closing.enter_context(socket.socket(socket.AF_UNIX))
                listener.bind(str(self.sockets / name))
        return self.status


@pytest.fixture
def host(
    virsh: FakeVirsh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Host]:
    assert virsh.directory.is_dir()  # before this: it sets variables, too
    host = Host(tmp_path / "host", monkeypatch)
    with host.closing:
        yield host


@pytest.fixture
def words(virsh: FakeVirsh, tmp_path: Path) -> list[str]:
    """What sets up a domain of the system's that runs, for sockets in a directory."""
    virsh.says("list", "vm.1\n")
    virsh.says("dumpxml", PLAIN)
    virsh.says("domstate", "running\n")
    virsh.says("capabilities", CAPABILITIES)
    words = ["setup", "--libvirt", "vm.1", "--connect", SYSTEM]
    return [*words, "--directory", str(tmp_path / "d"), "--name", "work"]


def test_setup_shows_what_it_would_do(
    virsh: FakeVirsh, host: Host, words: list[str], tmp_path: Path
) -> None:
    shown = CliRunner().invoke(main, [*words, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert not (virsh.directory / "defined").exists()
    assert host.scripts == []
    assert f"install -d -o {os.geteuid()} -m 0755 {tmp_path}/d\n" in shown.output
    assert "Before the VM starts" in shown.output
    tap = f"wlproxy ram-tap --name work --socket {tmp_path}/d/ram --group"
    assert tap in shown.output
    assert f"wlproxy run --libvirt vm.1 --connect {SYSTEM} --name work" in shown.output


def test_setup_does_it(
    virsh: FakeVirsh, host: Host, words: list[str], tmp_path: Path
) -> None:
    said = CliRunner().invoke(main, [*words, "--yes"])
    assert said.exit_code == 0, said.output
    directory, rules, service = host.scripts
    assert directory == f"install -d -o {os.geteuid()} -m 0755 {tmp_path}/d\n"
    subprocess.run(["sh", "-eu", "-c", rules], check=True)
    assert host.rules.read_text() == "/var/lib/wlproxy-*/{channel,ram} rw,\n"
    assert service.endswith(
        "systemctl --user import-environment WAYLAND_DISPLAY\n"
        "systemctl --user enable wlproxy.service\n"
        "systemctl --user reload-or-restart wlproxy.service\n"
    )
    subprocess.run(["sh", "-eu", "-c", service.partition("systemctl")[0]], check=True)
    file = ConfigFile.read(host.config)
    check_file(file)
    assert file.table("vm", "work") == {
        "libvirt": "vm.1",
        "connect": SYSTEM,
        "tap": {"socket": f"{tmp_path}/d/ram", "group": "109"},
    }
    assert "shut down and started again" in said.output
    assert "will be here as soon as it runs" in said.output
    assert "wlproxy run" not in said.output.replace("wlproxy run --name", "")

    virsh.says("dumpxml", (virsh.directory / "defined").read_text())
    host.scripts.clear()
    again = CliRunner().invoke(main, [*words, "--yes"])
    assert again.exit_code == 0, again.output
    assert host.scripts == []
    assert "has all that it needs" in again.output
    assert "shut down" not in again.output
    assert "will be here as soon as it runs" in again.output


def test_a_service_that_does_not_listen_is_told(host: Host, words: list[str]) -> None:
    host.serves = False
    said = CliRunner().invoke(main, [*words, "--yes"])
    assert said.exit_code == 1
    assert "journalctl --user -u wlproxy.service" in said.output


def test_what_fails_is_left_to_do(host: Host, words: list[str]) -> None:
    host.status = 1
    host.serves = False
    said = CliRunner().invoke(main, [*words, "--yes"])
    assert said.exit_code == 0, said.output
    assert said.output.count("It failed, with status 1.") == 3, said.output
    assert "Before the VM starts" in said.output
    assert f"wlproxy run --libvirt vm.1 --connect {SYSTEM} --name work" in said.output


def test_without_systemd_it_is_told_how_to_serve(
    host: Host, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")
    said = CliRunner().invoke(main, [*words, "--yes"])
    assert len(host.scripts) == 2
    assert f"wlproxy run --libvirt vm.1 --connect {SYSTEM} --name work" in said.output


def test_a_wrong_configuration_file_is_told(host: Host, words: list[str]) -> None:
    host.config.parent.mkdir(parents=True)
    host.config.write_text("[vms.work]\n")
    said = CliRunner().invoke(main, [*words, "--yes"])
    assert said.exit_code == 1
    assert "config.toml:1: vms: is nothing that can be set here" in said.output


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["run", "--connect", SYSTEM], 2, "--connect is for --libvirt"),
        (["run", "--libvirt", "vm.1", "--listen"], 2, "finds the channel by itself"),
        (
            ["run", "--libvirt", "vm.1", "--connect", SYSTEM],
            1,
            "does not share its RAM",
        ),
        (["setup", "--libvirt", "vm.1", "--directory", "d"], 2, "absolute path"),
        (["setup", "--libvirt", "vm.2"], 1, "there is no domain vm.2"),
    ],
)
def test_mistakes_are_explained(
    virsh: FakeVirsh, words: list[str], status: int, said: str
) -> None:
    for uri in (SYSTEM, "qemu:///session"):
        virsh.says("list", "vm.1\n" if uri == SYSTEM else "", uri)
    virsh.says("dumpxml", with_elements(domain="" if status == 1 else SHARED))
    virsh.says("domstate", "shut off\n")
    virsh.says("capabilities", CAPABILITIES)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == status, result.output
    assert said in result.output


@pytest.mark.parametrize(
    ("text", "options", "channel", "tap"),
    [
        (PLAIN, [], "bind {}/wlproxy-vm-1.channel", None),
        (PLAIN, ["--ram-tap"], "bind {}/wlproxy-vm-1.channel", "{}/wlproxy-vm-1.ram"),
        (
            PLAIN.replace("<memory ", "<maxMemory slots='1'>9</maxMemory><memory "),
            ["--name", "work"],
            "bind {}/wlproxy-work.channel",
            "{}/wlproxy-work.ram",
        ),
        (adapt(PLAIN, Wanted(Path("/own/c"), None)), [], "bind /own/c", None),
        (
            adapt(PLAIN, Wanted(Listen(Path("/own/c")), Path("/own/ram"))),
            ["--no-ram-tap"],
            "connect /own/c",
            "/own/ram",
        ),
    ],
    ids=["plain", "asked", "grows", "has-channel", "has-tap"],
)
def test_a_users_own_keeps_what_will_do(
    virsh: FakeVirsh,
    tmp_path: Path,
    text: str,
    options: list[str],
    channel: str,
    tap: str | None,
) -> None:
    virsh.says("list", "vm.1\n")
    virsh.says("dumpxml", text)
    virsh.says("domstate", "shut off\n")
    virsh.says("capabilities", "<capabilities/>")
    words = ["setup", "--libvirt", "vm.1", "--connect", SYSTEM, *options]
    asked = CliRunner().invoke(main, words, input="y\n")
    assert asked.exit_code == 0, asked.output
    defined = virsh.directory / "defined"
    root = ET.fromstring(defined.read_text() if defined.exists() else text)
    (source,) = root.iterfind("devices/channel[target][source]/source")
    assert f"{source.get('mode')} {source.get('path')}" == channel.format(tmp_path)
    taps = [each.get("path") for each in root.iterfind("devices/disk/source")]
    assert taps == ([tap.format(tmp_path)] if tap else [])
    assert "install -d" not in asked.output or channel.startswith("connect")
