"""What the doctor says of a VM: of one that is served, and of one that is not."""

import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from click.testing import CliRunner

from tests.documents import document, window
from tests.host.scripted import Agent, guest_ram, ram_pages
from wlproxy import cli
from wlproxy.commands import doctor
from wlproxy.host import vm_doctor
from wlproxy.host.config import HostConfig
from wlproxy.host.doctor import Finding, Verdict
from wlproxy.host.errors import GuestRamError, GuestRamNotYetError
from wlproxy.host.qemu.ram import GuestRam
from wlproxy.host.vm_doctor import examine_vm
from wlproxy.protocol.channel.frames import Feature, Goodbye, LocateStatus, RamProof
from wlproxy.transport.fd_stream import FdStream

Acts = Callable[[FdStream], Awaitable[None]]


@pytest.fixture
def config(tmp_path: Path) -> HostConfig:
    (tmp_path / "wlproxy").mkdir()
    return HostConfig(
        tmp_path / "channel", "work", status=tmp_path / "wlproxy" / "work.sock"
    )


@asynccontextmanager
async def vm(config: HostConfig, acts: Acts) -> AsyncIterator[None]:
    """A VM at the channel, which does what the test says with the first connection."""
    assert isinstance(config.channel, Path)
    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind(str(config.channel))
    listener.listen()

    async def accept() -> None:
        connection, _ = await listener.accept()
        async with FdStream(socket.socket(fileno=connection.detach())) as stream:
            await acts(stream)

    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            yield
            nursery.cancel_scope.cancel()


async def say_nothing(stream: FdStream) -> None:
    await stream.wait_closed(9)


def verdicts(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(each.subject, each.verdict.value) for each in findings]


async def examined(
    config: HostConfig, acts: Acts, ram: Callable[[], GuestRam] = guest_ram
) -> list[Finding]:
    async with vm(config, acts):
        return await examine_vm(config, lambda _stream: ram_pages(ram()))


class Guest:
    """An agent with RAM, real or wrong."""

    def __init__(self, *, right: bool = True, dmabufs: bool = True) -> None:
        self.ram = guest_ram()
        self.right = right
        self.features = Feature.LOCATE_MEMFD
        if dmabufs:
            self.features |= Feature.LOCATE_DMABUF
        self.goodbye = ""

    def found(self) -> GuestRam:
        """What the host finds."""
        return self.ram if self.right else guest_ram()

    async def answer(self, stream: FdStream) -> None:
        agent = Agent(stream, self.ram)
        agent.features = self.features
        await agent.greet()
        await agent.prove()
        goodbye = await agent.receive()
        assert isinstance(goodbye, Goodbye)
        self.goodbye = goodbye.message


async def test_a_vm_that_is_well(config: HostConfig) -> None:
    guest = Guest()
    findings = await examined(config, guest.answer, guest.found)
    assert verdicts(findings) == [
        ("channel", "ok"),
        ("guest RAM", "ok"),
        ("guest agent", "ok"),
        ("GPU buffers", "ok"),
        ("proof", "ok"),
    ]
    assert findings[1].explanation.startswith("1 MiB, map of the test, of process ")
    assert findings[2].explanation == "scripted agent"


async def test_an_agent_hears_that_this_was_the_doctor(config: HostConfig) -> None:
    guest = Guest(dmabufs=False)
    heard = trio.Event()

    async def answer(stream: FdStream) -> None:
        await guest.answer(stream)
        heard.set()

    async with vm(config, answer):
        findings = await examine_vm(config, lambda _stream: ram_pages(guest.found()))
        await heard.wait()
    assert guest.goodbye == "wlproxy doctor has looked"
    assert "gem_locate" in findings[3].explanation
    assert findings[3].remedy


async def test_a_vm_that_is_off(
    config: HostConfig, autojump_clock: trio.testing.MockClock
) -> None:
    [finding] = await examine_vm(config)
    assert finding.subject == "channel"
    assert "no VM is at" in finding.explanation
    assert "wlproxy qemu-args --name work" in finding.remedy


async def test_ram_that_cannot_be_had(config: HostConfig) -> None:
    def refuse() -> GuestRam:
        raise GuestRamError("it is private", remedy="Share it.")

    findings = await examined(config, say_nothing, refuse)
    assert verdicts(findings) == [("channel", "ok"), ("guest RAM", "problem")]
    assert findings[1].remedy == "Share it."


async def test_ram_that_is_not_there_yet(
    config: HostConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm_doctor, "RAM_SECONDS", 0.01)

    def wait() -> GuestRam:
        raise GuestRamNotYetError("not told yet")

    findings = await examined(config, say_nothing, wait)
    assert verdicts(findings)[1:] == [("guest RAM", "problem")]
    assert "Has the guest booted?" in findings[1].remedy


async def test_an_agent_that_does_not_answer(
    config: HostConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm_doctor, "AGENT_SECONDS", 0.01)
    findings = await examined(config, say_nothing)
    assert verdicts(findings)[2:] == [("guest agent", "problem")]
    assert "wlproxy-guest-agent doctor" in findings[2].remedy


async def test_the_ram_of_another_vm(config: HostConfig) -> None:
    guest = Guest(right=False)
    try:
        findings = await examined(config, guest.answer, guest.found)
    finally:
        guest.ram.close()
    assert verdicts(findings)[-1] == ("guest agent", "problem")


async def test_an_agent_that_may_not_look(config: HostConfig) -> None:
    async def answer(stream: FdStream) -> None:
        agent = Agent(stream)
        await agent.greet()
        await agent.receive()
        await agent.send(RamProof(LocateStatus.NOT_PERMITTED, 0, 0))
        await stream.wait_closed(9)

    [*_, finding] = await examined(config, answer)
    assert finding.verdict is Verdict.PROBLEM
    assert "CAP_SYS_ADMIN" in finding.remedy


async def test_garbage_at_the_other_end(config: HostConfig) -> None:
    async def answer(stream: FdStream) -> None:
        agent = Agent(stream)
        await agent.greet()
        await stream.send(b"\xff" * 100)
        await stream.wait_closed(9)

    [*_, finding] = await examined(config, answer)
    assert finding.subject == "guest agent"
    assert finding.verdict is Verdict.PROBLEM


async def test_a_vm_that_hangs_up(config: HostConfig) -> None:
    async def answer(stream: FdStream) -> None:
        await Agent(stream).greet()

    [*_, finding] = await examined(config, answer)
    assert finding.verdict is Verdict.PROBLEM
    assert "closed by its other end" in finding.explanation


def serve(listener: socket.socket, answer: dict[str, Any]) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.sendall(json.dumps(answer).encode())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            document(window()),
            [("proxy", "ok"), ("guest agent", "ok"), ("windows", "ok")],
        ),
        (
            document(window(mode="C", reason="copied: \x1b[2J")),
            [("proxy", "ok"), ("guest agent", "ok"), ("windows", "warning")],
        ),
        (
            document(state="waiting for the guest agent", hint="Look there.", agent=""),
            [("proxy", "warning")],
        ),
    ],
)
async def test_a_vm_that_is_served(
    config: HostConfig, answer: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert config.status is not None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(config.status))
        listener.listen()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(trio.to_thread.run_sync, _accept_and, listener, answer)
            )
            findings = await examine_vm(config)
    assert verdicts(findings) == expected
    assert "\x1b" not in str([each.explanation for each in findings])


def _accept_and(listener: socket.socket, answer: dict[str, Any]) -> None:
    listener.accept()[0].close()  # whoever only looks whether somebody is there
    serve(listener, answer)


async def test_a_proxy_that_does_not_answer(config: HostConfig) -> None:
    assert config.status is not None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(config.status))
        listener.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(trio.to_thread.run_sync, _accept_and_hang_up, listener)
            )
            [finding] = await examine_vm(config)
    assert (finding.subject, finding.verdict) == ("proxy", Verdict.PROBLEM)


def _accept_and_hang_up(listener: socket.socket) -> None:
    for _ in range(2):
        listener.accept()[0].close()


def test_the_command_looks_at_the_vm_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "examine", lambda environ, display: [])
    looked: list[HostConfig] = []

    async def examine(config: HostConfig) -> list[Finding]:
        looked.append(config)
        return [Finding("VM", Verdict.PROBLEM, "off")]

    monkeypatch.setattr(doctor, "examine_vm", examine)
    assert CliRunner().invoke(cli.main, ["doctor"]).exit_code == 0
    (tmp_path / "wlproxy").mkdir()
    (tmp_path / "wlproxy" / "config.toml").write_text('[vm.work]\nchannel = "/c"\n')
    for option in ("--name", "--vm"):
        result = CliRunner().invoke(cli.main, ["doctor", option, "work"])
        assert result.exit_code == 1
        assert "off" in result.output
    assert [each.channel for each in looked] == [Path("/c")] * 2
    impossible = CliRunner().invoke(cli.main, ["doctor", "--name", "a.b"])
    assert "cannot name a VM" in impossible.output
