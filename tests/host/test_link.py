"""The handshake and the proof of the RAM, against an agent that runs the real session."""

import os
import resource
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.host.scripted import RAM_SIZE, Agent, channel_pair, guest_ram
from wlproxy.host.errors import GuestRamError, GuestRamWrongMapError, HostError
from wlproxy.host.link import (
    HELLO_INTERVAL,
    LAST_RETRY,
    MAX_EARLY_FRAMES,
    Channel,
    ChannelGoneError,
    Goodbyed,
    connect_channel,
)
from wlproxy.host.report.vm_log import VmLog
from wlproxy.memory.guest import ExtentError
from wlproxy.protocol.channel.frames import (
    ClientOpened,
    CloseReason,
    Data,
    Frame,
    Goodbye,
    LocateStatus,
    Ping,
    Pong,
    ProveRam,
    RamProof,
)
from wlproxy.protocol.channel.session import SessionLost
from wlproxy.protocol.errors import ChannelError, LocalProtocolError
from wlproxy.relay.wire.clock import SETTLED
from wlproxy.transport.fds import OwnedFd

LOG = VmLog("test")
OPENED = ClientOpened(1, 5, 1000, 1000, "foot")


async def receive_for_ever(channel: Channel) -> None:
    while True:
        await channel.receive()


async def test_a_session_begins_whatever_was_in_the_channel() -> None:
    channel, stream = channel_pair()
    agent = Agent(stream)
    with pytest.raises(LocalProtocolError):
        _ = channel.agent
    async with stream, trio.open_nursery() as nursery:
        await stream.send(b"of another session" * 100)
        nursery.start_soon(agent.greet)
        ack = await channel.establish(7)
        assert ack.agent == channel.agent.agent == "scripted agent"
        assert channel.established
        await channel.aclose()


async def test_hello_is_repeated_until_an_agent_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    channel, stream = channel_pair()
    agent = Agent(stream)

    async def come_late() -> None:
        await trio.sleep(100 * HELLO_INTERVAL)
        await agent.greet()
        await agent.send(Ping(1))

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(come_late)
        await channel.establish(7)
        assert (channel.received() or await channel.receive()) == [Ping(1)]
        await channel.aclose()


async def test_a_channel_that_closes_before_an_agent_comes() -> None:
    channel, stream = channel_pair()
    await stream.aclose()
    with pytest.raises(ChannelGoneError):
        await channel.establish(7)
    await channel.aclose()


async def test_fds_that_get_lost_are_no_secret_but_whose_limit_it_is() -> None:
    channel, stream = channel_pair()
    async with stream:
        with OwnedFd(os.memfd_create("unasked for", os.MFD_CLOEXEC)) as fd:
            await stream.send(b"x", [fd] * 20)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(HostError, match="ulimit") as caught:
                await channel.establish(7)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert caught.value.for_guest == "the host is short of file descriptors"
        await channel.aclose()


async def test_frames_that_come_with_the_proof_are_kept() -> None:
    channel, stream = channel_pair()
    ram = guest_ram()
    agent = Agent(stream, ram)
    agent.answers_pings = False
    early: list[Frame] = []

    async def act() -> None:
        await agent.greet()
        asked = await agent.receive()
        assert isinstance(asked, ProveRam)
        os.pwrite(ram.files[0].fileno(), asked.token, 4096)
        proof = RamProof(LocateStatus.OK, 0, 4096)
        await agent.send(OPENED, Ping(5), Data(1, b"x"), proof, Data(1, b"y"))
        assert isinstance(await agent.receive(), Ping)  # about the clock
        assert await agent.receive() == Pong(5)

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(act)
        await channel.establish(7)
        early += await channel.prove_ram(ram)
    assert early == [OPENED, Data(1, b"x"), Data(1, b"y")]
    await channel.aclose()
    ram.close()


async def test_the_clock_is_asked_for_while_the_ram_is_proved() -> None:
    channel, stream = channel_pair()
    ram = guest_ram()
    agent = Agent(stream, ram)
    agent.answers_pings = False

    async def act() -> None:
        await agent.greet()
        asked = await agent.receive()
        assert isinstance(asked, ProveRam)
        for number in range(SETTLED):
            ping = await agent.receive()
            assert isinstance(ping, Ping)
            await agent.send(Pong(ping.timestamp, number + 1))
        os.pwrite(ram.files[0].fileno(), asked.token, 4096)
        await agent.send(RamProof(LocateStatus.OK, 0, 4096))

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(act)
        await channel.establish(7)
        assert await channel.prove_ram(ram) == []
    assert [sample.clock for sample in channel.pings.samples] == [
        number + 1 for number in range(SETTLED)
    ]
    assert not channel.pings.unanswered
    await channel.aclose()
    ram.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((Pong(1, 1),), ChannelError),
        ((RamProof(LocateStatus.OK, 0, 4096),), GuestRamWrongMapError),
        ((RamProof(LocateStatus.OK, 0, RAM_SIZE),), ExtentError),
        ((RamProof(LocateStatus.OK, 0, (1 << 64) - 4096),), ExtentError),
        ((RamProof(LocateStatus.NOT_PERMITTED, 0, 0),), GuestRamError),
        ((RamProof(LocateStatus.FAILED, 12, 0),), GuestRamError),
        ((Goodbye(CloseReason.FAILED, "no"),), Goodbyed),
        ((OPENED,) * (MAX_EARLY_FRAMES + 1), ChannelError),
        ((), GuestRamError),
    ],
)
async def test_without_a_proof_there_is_no_session(
    answer: tuple[Frame, ...],
    error: type[Exception],
    autojump_clock: trio.testing.MockClock,
) -> None:
    channel, stream = channel_pair()
    ram = guest_ram()
    agent = Agent(stream, ram)

    async def act() -> None:
        await agent.greet()
        await agent.receive()
        await agent.send(*answer)

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(act)
        await channel.establish(7)
        with pytest.raises(error):
            await channel.prove_ram(ram)
    await channel.aclose()
    ram.close()


async def test_an_agent_that_starts_over_ends_the_session() -> None:
    channel, stream = channel_pair()
    agent = Agent(stream)
    async with stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.greet)
            await channel.establish(7)
        await stream.send(agent.session.announce())
        with pytest.raises(SessionLost):
            await receive_for_ever(channel)
        await channel.say_goodbye(CloseReason.NORMAL, "nobody is to hear it")
        await channel.aclose()


async def test_goodbye_is_said_once_and_fits() -> None:
    channel, stream = channel_pair()
    agent = Agent(stream)
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(agent.greet)
        await channel.establish(7)
        await channel.say_goodbye(CloseReason.REFUSED, "no" * 10000)
        await channel.say_goodbye(CloseReason.REFUSED, "again")
        frame = await agent.receive()
        assert isinstance(frame, Goodbye)
        assert frame.reason is CloseReason.REFUSED
        await channel.aclose()


async def test_connecting_waits_for_qemu(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    path = tmp_path / "channel"
    async with trio.open_nursery() as nursery:

        async def connect() -> None:
            stream = await connect_channel(path, LOG)
            await stream.aclose()

        nursery.start_soon(connect)
        await trio.sleep(100)
        listener = socket.socket(socket.AF_UNIX)
        with listener:
            listener.bind(str(path))
            await trio.sleep(LAST_RETRY)  # nobody listens yet
            listener.listen()
            await trio.sleep(2 * LAST_RETRY)
            listener.accept()[0].close()


async def test_a_channel_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot connect"):
        await connect_channel(tmp_path / ("x" * 200), LOG)
