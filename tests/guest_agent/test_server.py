"""The agent as a whole, between a fake host that speaks by the real codec, and apps."""

import os
import socket
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import trio
import trio.testing

from tests.guest_agent.conftest import Agent, RunAgent, Wires
from tests.guest_agent.fakes import (
    App,
    FakeHost,
    FileOffsetLocator,
    hello,
    opened,
    parse_error,
    told,
)
from wlproxy.protocol.channel.codec import encode_frame
from wlproxy.protocol.channel.frames import (
    RAM_TOKEN_SIZE,
    RESYNC_PADDING,
    VERSION_MAJOR,
    VERSION_MINOR,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseMemory,
    CloseReason,
    Credit,
    Data,
    Feature,
    FileData,
    Frame,
    Goodbye,
    HelloAck,
    Locate,
    LocateStatus,
    Ping,
    Pong,
    ProveRam,
    RamProof,
    Release,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.session import SessionLost
from wlproxy_guest import link, server, session
from wlproxy_guest.quotas import Limits
from wlproxy_guest.server import Server
from wlproxy_guest.unix_socket import listen


async def test_hello_is_answered_with_what_the_agent_has(agent: Agent) -> None:
    host = await agent.plug_in()

    ack = await host.start(hello(7))

    assert ack.nonce == hello(7).nonce
    assert ack.features == Feature.LOCATE_MEMFD | Feature.READ_MEMORY
    assert ack.page_size == os.sysconf("SC_PAGE_SIZE")
    assert ack.agent.startswith("wlproxy-guest ")


MEMFD, DMABUF = Feature.LOCATE_MEMFD, Feature.LOCATE_DMABUF
LINEAR = Feature.IMPLICIT_LINEAR


@pytest.mark.parametrize(
    ("located", "linear", "offered", "features"),
    [
        (MEMFD | DMABUF, True, MEMFD | DMABUF | LINEAR, MEMFD | DMABUF | LINEAR),
        (MEMFD | DMABUF, False, MEMFD | DMABUF | LINEAR, MEMFD | DMABUF),
        (MEMFD | DMABUF, True, MEMFD | DMABUF, MEMFD | DMABUF),
        (MEMFD, True, MEMFD | DMABUF | LINEAR, MEMFD),
    ],
)
async def test_hello_is_answered_with_what_the_drivers_imply(
    agent: Agent,
    monkeypatch: pytest.MonkeyPatch,
    located: Feature,
    offered: Feature,
    features: Feature,
    *,
    linear: bool,
) -> None:
    agent.locator.features = located
    monkeypatch.setattr(session, "implicit_layout_is_linear", lambda: linear)
    host = await agent.plug_in()

    ack = await host.start(replace(hello(), features=offered))

    assert ack.features == features


async def test_app_is_announced_with_who_it_is(host: FakeHost, app: App) -> None:
    client = await host.expect(ClientOpened)

    assert (client.client_id, client.pid) == (1, os.getpid())
    assert (client.uid, client.gid) == (os.getuid(), os.getgid())
    assert "python" in client.executable


async def test_app_that_leaves_is_reported(host: FakeHost, app: App) -> None:
    await opened(host)

    await app.send(b"last words")
    app.socket.close()

    assert (await host.expect(ClientClosed)).reason is CloseReason.NORMAL
    assert isinstance(host.frames[0], Data)


async def test_host_closes_a_client_after_its_last_events(
    host: FakeHost, app: App
) -> None:
    client_id = await opened(host)

    await host.send(
        Data(client_id, b"goodbye"),
        ClientClosed(client_id, CloseReason.COMPOSITOR_GONE, "weston died"),
        ClientReleased(client_id),
    )

    assert await app.receive() == (b"goodbye", [])
    assert await app.receive() == (b"", [])
    assert await host.silence() == []  # no ClientClosed of ours: the host knows


async def test_apps_that_waited_are_announced_in_the_order_of_their_ids(
    agent: Agent,
) -> None:
    """All at once, as when the host is back; a host ends the session of another order."""
    apps = [await agent.connect() for _ in range(8)]
    await trio.testing.wait_all_tasks_blocked()

    host = await agent.plug_in()
    await host.start(hello())

    assert [await opened(host) for _ in apps] == list(range(1, 9))
    for app in apps:
        app.socket.close()


async def test_ids_are_not_used_again(agent: Agent, host: FakeHost) -> None:
    ids = []
    for _ in range(3):
        with await agent.connect():
            ids.append(await opened(host))

    assert ids == [1, 2, 3]


async def test_ram_is_proved(agent: Agent, host: FakeHost) -> None:
    token = bytes(range(RAM_TOKEN_SIZE))

    await host.send(ProveRam(token))

    expected = RamProof(LocateStatus.OK, 0, agent.locator.token_gpa)
    assert await host.expect(RamProof) == expected
    assert agent.locator.tokens == [token]
    assert agent.locator.pinned == 1


@pytest.mark.parametrize("offered", [Feature.NONE, Feature.GRANTS])
async def test_grants_are_for_a_host_that_takes_them(
    agent: Agent, host: FakeHost, offered: Feature
) -> None:
    """To any other a reference would look like an address."""
    agent.locator.features |= Feature.GRANTS
    ack = await host.start(replace(hello(2), features=hello().features | offered))
    assert ack.features & Feature.GRANTS == offered
    await host.send(ProveRam(bytes(RAM_TOKEN_SIZE)))
    proof = await host.expect(RamProof)
    assert (proof.status is LocateStatus.OK) == bool(offered)
    if not offered:
        assert proof == RamProof(LocateStatus.NOT_PERMITTED, 0, 0)
        assert not agent.locator.tokens


async def test_too_many_proofs_end_the_session(host: FakeHost) -> None:
    await host.send(*[ProveRam(bytes(RAM_TOKEN_SIZE))] * 17)

    assert (await host.expect(Goodbye)).message == "over 16 ProveRam frames"


async def test_goodbye_of_the_host_disconnects_apps(host: FakeHost, app: App) -> None:
    await opened(host)

    await host.send(Goodbye(CloseReason.NORMAL, "done"))

    assert await told(app) == "wlproxy: it was stopped on the host"


async def test_new_session_ends_the_one_before(
    agent: Agent, host: FakeHost, app: App
) -> None:
    await opened(host)

    await host.start(hello(2))

    assert await told(app) == "wlproxy: it was restarted on the host"
    with await agent.connect() as another:
        assert await opened(host) == 1  # ids count anew
        await another.send(b"x")
        assert await host.expect(Data) == Data(1, b"x")


async def test_host_that_hangs_up_and_comes_back(agent: Agent) -> None:
    first = await agent.plug_in()
    await first.start(hello())
    with await agent.connect() as app:
        await opened(first)
        await first.stream.aclose()
        assert await told(app) == "wlproxy: the connection to the host was lost"

    second = await agent.plug_in()
    await second.start(hello(2))

    with await agent.connect():
        assert await opened(second) == 1


async def test_app_waits_for_a_host_that_comes_late(agent: Agent) -> None:
    with await agent.connect() as app:
        await app.send(b"early")
        host = await agent.plug_in()
        await host.start(hello())

        assert await host.expect(Data) == Data(1, b"early")


async def test_app_without_a_host_is_told_so(run_agent: RunAgent) -> None:
    agent = await run_agent(host_wait=0)

    with await agent.connect() as app:
        code, message = parse_error((await app.receive())[0])

        assert code == 3
        assert message == "wlproxy: the host is not connected"
        assert await app.receive() == (b"", [])


async def test_app_that_has_said_much_gets_to_read_why_it_ends(
    run_agent: RunAgent,
) -> None:
    """Closed with that unread, the connection would be reset, and the text lost."""
    agent = await run_agent(host_wait=0)

    with await agent.connect() as app:
        for _ in range(20):
            await app.send(bytes(5000), 0)
        assert await told(app) == "wlproxy: the host is not connected"


async def test_apps_that_do_not_leave_are_cut_off(
    run_agent: RunAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_TURNED_AWAY", 1)
    agent = await run_agent(host_wait=0)

    with await agent.connect() as first, await agent.connect() as second:
        for app in (first, second):
            assert await told(app) == "wlproxy: the host is not connected"
        await first.send(b"x")
        with pytest.raises(BrokenPipeError):
            await second.send(b"x")


async def test_app_over_the_limit_is_told_so(run_agent: RunAgent) -> None:
    agent = await run_agent(Limits(clients=1))
    host = await agent.plug_in()
    await host.start(hello())

    with await agent.connect(), await agent.connect() as second:
        code, message = parse_error((await second.receive())[0])

        assert (code, message) == (2, "wlproxy: over 1 apps at once")
        await opened(host)
    assert (await host.expect(ClientClosed)).client_id == 1
    await host.silence()  # it counts until its task has ended
    with await agent.connect():
        assert await opened(host) == 2


async def test_host_of_another_version_gets_an_answer_and_no_apps(
    run_agent: RunAgent,
) -> None:
    agent = await run_agent(host_wait=0)
    host = await agent.plug_in()

    ack = await host.start(hello(version=99))

    assert ack.version == (VERSION_MAJOR, VERSION_MINOR)
    with await agent.connect() as app:
        assert parse_error((await app.receive())[0])[0] == 3


async def test_garbage_ends_the_session_and_the_next_one_works(
    agent: Agent, host: FakeHost, app: App
) -> None:
    await opened(host)

    await host.stream.send_all(b"\xff" * 100)

    assert await told(app) == "wlproxy: the connection to the host broke"
    with pytest.raises(SessionLost):
        await host.expect(HelloAck)
    await host.start(hello(2))
    with await agent.connect():
        assert await opened(host) == 1


async def test_frame_for_a_client_that_never_was_ends_the_session(
    host: FakeHost,
) -> None:
    await host.send(Data(5, b"x"))

    assert (await host.expect(Goodbye)).reason is CloseReason.PROTOCOL_ERROR


async def test_frame_for_a_client_that_has_gone_is_ignored(
    host: FakeHost, app: App
) -> None:
    client_id = await opened(host)
    app.socket.close()
    await host.expect(ClientClosed)

    await host.send(Data(client_id, b"x"), ClientReleased(client_id))
    await host.send(Data(client_id, b"x"))

    assert await host.silence() == []


async def test_stopping_says_goodbye(agent: Agent, host: FakeHost, app: App) -> None:
    await opened(host)

    async def leave_when_told() -> None:
        assert await told(app) == "wlproxy: the agent was stopped"
        app.socket.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave_when_told)
        await agent.server.stop()

    assert (await host.expect(Goodbye)).message == "the agent stops"


async def test_stopping_agent_begins_no_other_session(
    agent: Agent, host: FakeHost, app: App
) -> None:
    """The proxy says hello again at once; the next agent is to answer."""
    await opened(host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.server.stop)  # waits for the app
        await host.expect(Goodbye)

        await host.stream.send_all(host.session.start(hello(8)))
        await trio.testing.wait_all_tasks_blocked()

        with pytest.raises(BlockingIOError):
            os.read(host.stream.socket.fileno(), 1)
        app.socket.close()


async def test_stopping_does_not_wait_for_an_app_that_does_not_listen(
    agent: Agent, host: FakeHost, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "LAST_WORDS", 0.01)
    await opened(host)

    await agent.server.stop()

    assert (await host.expect(Goodbye)).message == "the agent stops"


async def test_apps_that_wait_for_a_host_are_told_that_the_agent_stops(
    nursery: trio.Nursery, tmp_path: Path
) -> None:
    listener = listen(tmp_path / "wayland-0")
    agent = Server(listener, Wires(), FileOffsetLocator(), Limits(), grace=0)
    scope = trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[None]) -> None:
        with scope:
            await agent.run(task_status)
        listener.close()

    await nursery.start(serve)
    connecting = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    await connecting.connect(str(tmp_path / "wayland-0"))
    with App(connecting) as app:
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        assert await told(app) == "wlproxy: the agent was stopped"


async def test_stopping_without_a_host_is_quiet(agent: Agent) -> None:
    await agent.server.stop()


async def test_agent_announces_itself_before_anything_else(agent: Agent) -> None:
    host = await agent.plug_in()

    with trio.fail_after(30):
        padding = bytearray()
        while len(padding) < RESYNC_PADDING:
            padding += await host.stream.receive_some(RESYNC_PADDING)

    assert padding == bytes(RESYNC_PADDING)


async def test_whatever_the_host_sends_the_agent_lives(agent: Agent) -> None:
    """Valid frames with a few bytes changed, over and over: never more than a session."""
    random = Random(2026)
    host = await agent.plug_in()
    for number in range(1, 60):
        await host.start(hello(number))
        with await agent.connect() as app:
            client_id = await opened(host)
            await app.send(b"x", 0)
            data = bytearray(b"".join(map(encode_frame, every_frame(client_id))))
            for _ in range(random.randrange(4)):
                data[random.randrange(len(data))] = random.randrange(256)
            await host.stream.send_all(data[: random.randrange(len(data) + 1)])

    ack = await host.start(hello(100))
    assert ack.nonce == hello(100).nonce


async def test_an_answer_to_a_ping_tells_the_clock_that_apps_read(
    host: FakeHost,
) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    await host.send(Ping(4711))
    pong = await host.expect(Pong)

    assert pong.timestamp == 4711
    assert before <= pong.clock <= time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def every_frame(client_id: int) -> list[Frame]:
    stream = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES, 1, 0)
    file = Attachment(AttachmentKind.FILE, AttachmentFlags.NONE, 1, 4)
    return [
        Ping(1),
        ProveRam(bytes(RAM_TOKEN_SIZE)),
        FileData(client_id, 1, b"abcd"),
        Data(client_id, b"event", (stream, file)),
        StreamData(client_id, 1, b"bytes"),
        Credit(client_id, 0, 1),
        Locate(client_id, 1, 1, 0, 100, 1),
        Release(client_id, 1),
        CloseMemory(client_id, 1),
        StreamClosed(client_id, 1, CloseReason.NORMAL),
        ClientClosed(client_id, CloseReason.FAILED, "no"),
        ClientReleased(client_id),
        Pong(1),
    ]


async def test_host_that_asks_and_does_not_read_loses_its_session(
    host: FakeHost, app: App, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wlproxy.protocol.channel.lanes.engine.MAX_URGENT", 10_000)
    pings = b"".join(host.session.encode(Ping(number)) for number in range(60_000))
    nursery.start_soon(host.stream.send_all, pings)
    assert await told(app) == "wlproxy: the connection to the host broke"
    assert (await host.expect(Goodbye)).reason is CloseReason.PROTOCOL_ERROR


async def test_host_that_reads_late_gets_all_its_answers(host: FakeHost) -> None:
    pings = b"".join(host.session.encode(Ping(number)) for number in range(30_000))
    await host.stream.send_all(pings)
    for number in range(30_000):
        assert (await host.expect(Pong)).timestamp == number


async def test_many_apps_at_once_and_one_that_stalls(
    agent: Agent, host: FakeHost
) -> None:
    async with AsyncExitStack() as stack:
        apps = []
        for _ in range(50):
            apps.append(stack.enter_context(await agent.connect()))
            await opened(host)
        # The first sends and sends, and is never granted credit; it does not read.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood, apps[0])
            for turn in range(20):
                for client_id, app in enumerate(apps[1:], 2):
                    await app.send(b"commit%d" % turn)
                    await host.send(Data(client_id, b"done%d" % turn))
                for app in apps[1:]:
                    assert (await app.receive())[0] == b"done%d" % turn
            nursery.cancel_scope.cancel()
        received = Counter(
            frame.client_id for frame in await host.silence() if isinstance(frame, Data)
        )
        assert all(received[client_id] for client_id in range(2, 51))


async def flood(app: App) -> None:
    while True:
        await app.socket.send(bytes(10_000))
