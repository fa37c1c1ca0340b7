"""The handshake and the proof of the RAM, against an agent that runs the real session."""

import os
import resource

import pytest
import trio
import trio.testing

from tests.host.scripted import RAM_SIZE, Agent, guest_ram, link_pair, ram_pages
from wlproxy.host.errors import GuestRamError, GuestRamWrongMapError, HostError
from wlproxy.host.link import (
    HELLO_INTERVAL,
    MAX_EARLY_FRAMES,
    ChannelGoneError,
    Goodbyed,
    Link,
)
from wlproxy.host.report.vm_log import VmLog
from wlproxy.memory.guest_memory import ExtentError
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
    Side,
)
from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.channel.lanes.lane import Windows
from wlproxy.protocol.channel.session import SessionLost
from wlproxy.protocol.errors import ChannelError, LocalProtocolError
from wlproxy.relay.wire.clock import SETTLED
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks

LOG = VmLog("test")
OPENED = ClientOpened(1, 5, 1000, 1000, "foot")


async def receive_for_ever(link: Link) -> None:
    while True:
        await link.receive()


async def test_a_session_begins_whatever_was_in_the_channel() -> None:
    link, stream = link_pair()
    agent = Agent(stream)
    with pytest.raises(LocalProtocolError):
        _ = link.agent
    async with stream, trio.open_nursery() as nursery:
        await stream.send(b"of another session" * 100)
        nursery.start_soon(agent.greet)
        ack = await link.establish(7)
        assert ack.agent == link.agent.agent == "scripted agent"
        assert link.established
        await link.aclose()


async def test_hello_is_repeated_until_an_agent_comes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    link, stream = link_pair()
    agent = Agent(stream)

    async def come_late() -> None:
        await trio.sleep(100 * HELLO_INTERVAL)
        await agent.greet()
        await agent.send(Ping(1))

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(come_late)
        await link.establish(7)
        assert (link.received() or await link.receive()) == [Ping(1)]
        await link.aclose()


async def test_a_channel_that_closes_before_an_agent_comes() -> None:
    link, stream = link_pair()
    await stream.aclose()
    with pytest.raises(ChannelGoneError):
        await link.establish(7)
    await link.aclose()


async def test_fds_that_get_lost_are_no_secret_but_whose_limit_it_is() -> None:
    link, stream = link_pair()
    async with stream:
        with OwnedFd(os.memfd_create("unasked for", os.MFD_CLOEXEC)) as fd:
            await stream.send(b"x", [fd] * 20)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(HostError, match="ulimit") as caught:
                await link.establish(7)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert caught.value.for_guest == "the host is short of file descriptors"
        await link.aclose()


async def test_frames_that_come_with_the_proof_are_kept() -> None:
    link, stream = link_pair()
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
        await link.establish(7)
        early += await link.prove_ram(ram_pages(ram))
    assert early == [OPENED, Data(1, b"x"), Data(1, b"y")]
    await link.aclose()
    ram.close()


async def test_the_clock_is_asked_for_while_the_ram_is_proved() -> None:
    link, stream = link_pair()
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
        await link.establish(7)
        assert await link.prove_ram(ram_pages(ram)) == []
    assert [sample.clock for sample in link.pings.samples] == [
        number + 1 for number in range(SETTLED)
    ]
    assert not link.pings.unanswered
    await link.aclose()
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
    link, stream = link_pair()
    ram = guest_ram()
    agent = Agent(stream, ram)

    async def act() -> None:
        await agent.greet()
        await agent.receive()
        await agent.send(*answer)

    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(act)
        await link.establish(7)
        with pytest.raises(error):
            await link.prove_ram(ram_pages(ram))
    await link.aclose()
    ram.close()


async def test_an_agent_that_starts_over_ends_the_session() -> None:
    link, stream = link_pair()
    agent = Agent(stream)
    async with stream:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent.greet)
            await link.establish(7)
        await stream.send(agent.session.announce())
        with pytest.raises(SessionLost):
            await receive_for_ever(link)
        await link.say_goodbye(CloseReason.NORMAL, "nobody is to hear it")
        await link.aclose()


async def test_goodbye_is_said_once_and_fits() -> None:
    link, stream = link_pair()
    agent = Agent(stream)
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(agent.greet)
        await link.establish(7)
        await link.say_goodbye(CloseReason.REFUSED, "no" * 10000)
        await link.say_goodbye(CloseReason.REFUSED, "again")
        frame = await agent.receive()
        assert isinstance(frame, Goodbye)
        assert frame.reason is CloseReason.REFUSED
        await link.aclose()


async def established() -> tuple[Link, Agent, LaneTasks]:
    """A session whose lanes are sent, and what waits for its agent."""
    link, stream = link_pair()
    agent = Agent(stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.greet)
        await link.establish(7)
    lanes = LaneTasks(Lanes(Side.HOST, Windows(), Windows()), link.flush)
    lanes.receive(OPENED)
    link.carry(lanes)
    return link, agent, lanes


async def test_what_is_put_is_sent_by_who_puts_it() -> None:
    link, agent, lanes = await established()
    lanes.put(Data(1, b"x"))
    await link.sent()
    assert await agent.receive() == Data(1, b"x")
    link.carry(None)
    lanes.put(Data(1, b"nobody sends this"))
    assert lanes.usage(1).waiting
    await link.aclose()
    await agent.stream.aclose()


async def test_what_the_socket_does_not_take_is_sent_later_and_the_urgent_first() -> (
    None
):
    link, agent, lanes = await established()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.write_rest)
        pongs = 0
        while not link.stream.backlog:
            lanes.put(Pong(pongs))
            pongs += 1
        lanes.put(Data(1, b"x"))
        lanes.put(Pong(pongs))
        assert await agent.receive() == Pong(0)
        for number in range(1, pongs + 1):
            assert await agent.receive() == Pong(number)
        assert await agent.receive() == Data(1, b"x")
        await link.sent()
        nursery.cancel_scope.cancel()
    await link.aclose()
    await agent.stream.aclose()


async def test_a_socket_that_closes_is_noticed_by_who_writes_the_rest() -> None:
    link, agent, lanes = await established()
    await agent.stream.aclose()
    lanes.put(Pong(1))
    with pytest.raises(ChannelGoneError):
        await link.write_rest()
    await link.aclose()
