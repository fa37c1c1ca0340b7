"""Commands that are printed for people to paste do what they say."""

import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.host.conftest import nobody
from tests.host.fake_root import FakeRoot
from wlproxy import cli
from wlproxy.commands import doctor
from wlproxy.host.desktop.udmabuf_device import (
    UdmabufDevice,
    UdmabufItem,
    UdmabufLimits,
    explain_refusal,
)
from wlproxy.host.doctor import Finding, Verdict, check_limits
from wlproxy.host.errors import HostError
from wlproxy.host.qemu.ram import open_guest_ram

TIMEOUT = 60


@pytest.fixture
def root(tmp_path: Path) -> FakeRoot:
    return FakeRoot(tmp_path / "root")


def test_doctors_remedies_are_not_broken_by_a_narrow_terminal(
    root: FakeRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    with nobody(), pytest.raises(HostError) as denied:
        UdmabufDevice(locked / "udmabuf")
    findings = [
        Finding("udmabuf", Verdict.PROBLEM, "not ours", denied.value.remedy),
        *check_limits(UdmabufLimits(1024, 64 << 20)),
    ]
    monkeypatch.setattr(doctor, "examine", lambda environ, display: findings)
    monkeypatch.setenv("COLUMNS", "40")
    printed = CliRunner().invoke(cli.main, ["doctor"]).stdout
    table, _, remedies = printed.partition("\n\n")
    assert max(map(len, table.splitlines())) <= 40
    root.paste(remedies)
    assert root.read("etc/udev/rules.d/70-udmabuf.rules") == (
        'KERNEL=="udmabuf", GROUP="kvm", MODE="0660", TAG+="uaccess"\n'
    )
    assert root.read("called").splitlines() == [
        "udevadm control --reload",
        "udevadm trigger --name-match=udmabuf",
    ]
    assert root.read("sys/module/udmabuf/parameters/list_limit") == "65536\n"
    assert root.read("sys/module/udmabuf/parameters/size_limit_mb") == "256\n"
    assert root.read("etc/modprobe.d/udmabuf.conf") == (
        "options udmabuf list_limit=65536 size_limit_mb=256\n"
    )


def test_raising_one_limit_leaves_the_other_where_it_is(root: FakeRoot) -> None:
    limits = UdmabufLimits(list_limit=100_000, size_limit=300 << 20)
    too_many = [UdmabufItem(-1, 0, 4096)] * 100_001
    too_large = [UdmabufItem(-1, 0, 301 << 20)]
    for items in (too_many, too_large):
        refused = explain_refusal(items, limits)
        assert refused is not None
        root.paste(refused.remedy)
        options = root.read("etc/modprobe.d/udmabuf.conf").split()
        most = int(options[2].removeprefix("list_limit="))
        megabytes = int(options[3].removeprefix("size_limit_mb="))
        assert most >= limits.list_limit
        assert megabytes << 20 >= limits.size_limit
        assert (most, megabytes) > (100_000, 300)
        for name, value in (("list_limit", most), ("size_limit_mb", megabytes)):
            assert root.read(f"sys/module/udmabuf/parameters/{name}") == f"{value}\n"


class Qemu:
    """A QEMU that was started by pasting what `wlproxy qemu-args` prints."""

    def __init__(self, arguments: list[str], directory: Path) -> None:
        printed = CliRunner().invoke(cli.main, ["qemu-args", *arguments])
        assert printed.exit_code == 0, printed.output
        # QEMU comes to us, so that nobody has to ask whether its socket is there yet.
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(directory / "qmp"))
        listener.listen()
        listener.settimeout(TIMEOUT)
        own = f"-S -display none -nodefaults -qmp unix:{directory}/qmp,server=off"
        command = f"exec qemu-system-x86_64 {own} \\\n{printed.output}"
        self.process = subprocess.Popen(["sh", "-c", command])
        with listener, listener.accept()[0] as connection:
            self._monitor = connection.makefile("rw")
        self._monitor.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str) -> object:
        self._monitor.write(json.dumps({"execute": command}) + "\n")
        self._monitor.flush()
        while True:
            answer = json.loads(self._monitor.readline())
            if "event" not in answer:
                return answer["return"]

    def close(self) -> None:
        self.execute("quit")
        self._monitor.close()
        assert self.process.wait(TIMEOUT) == 0


@pytest.fixture
def qemu_directory(tmp_path: Path) -> Path:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed (python -m lab setup)")
    return tmp_path


@pytest.mark.parametrize("machine", ["q35", "pc", "microvm"])
@pytest.mark.parametrize("memory", ["256", "256m", "1GiB"])
def test_qemu_takes_what_is_printed(
    machine: str, memory: str, qemu_directory: Path
) -> None:
    channel = qemu_directory / "a, channel"
    qemu = Qemu(
        ["--machine", machine, "--memory", memory, "--channel", str(channel)],
        qemu_directory,
    )
    try:
        status = qemu.execute("query-status")
        assert isinstance(status, dict)
        assert status["status"] == "prelaunch"
        with open_guest_ram(qemu.process.pid) as ram:
            assert ram.memory.size == (1 << 30 if "G" in memory else 256 << 20)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(channel))
    finally:
        qemu.close()
