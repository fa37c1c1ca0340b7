"""One app through the agent: bytes, fds, files, locations, quotas."""

import fcntl
import mmap
import os
import socket
import struct
from contextlib import ExitStack

import pytest
import trio

from tests.guest_agent.conftest import Agent, RunAgent
from tests.guest_agent.fakes import (
    PAGE,
    WINDOW,
    App,
    FakeHost,
    hello,
    opened,
    parse_error,
    told,
)
from wlproxy.protocol.channel.flow import SendWindow, cost
from wlproxy.protocol.channel.frames import (
    ATTACHMENT_SIZE,
    MAX_ATTACHMENTS,
    MAX_FILE_SIZE,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientReleased,
    CloseMemory,
    CloseReason,
    Credit,
    Data,
    Extent,
    FileData,
    Goodbye,
    Locate,
    Located,
    LocateStatus,
    Release,
    Released,
)
from wlproxy.protocol.channel.lanes.bounds import CLIENT_WINDOW
from wlproxy.transport.fd_stream import FdsLostError
from wlproxy_guest.files import PendingFiles
from wlproxy_guest.locating.locations import Locations
from wlproxy_guest.quotas import Limits
from wlproxy_guest.refusal import unavailable_event
from wlproxy_guest.unix_socket import AppSocket

NONE = AttachmentFlags.NONE
DELETE_ID = struct.pack("=III", 1, 12 << 16 | 1, 3)
"""An event."""


def memfd(closing: ExitStack, pages: int = 4) -> int:
    fd = os.memfd_create("pool")
    closing.callback(os.close, fd)
    os.ftruncate(fd, pages * PAGE)
    return fd


def file(file_id: int, size: int) -> Attachment:
    return Attachment(AttachmentKind.FILE, NONE, file_id, size)


# -------------------------------------------------------------------- bytes and fds


async def test_bytes_reach_the_host_in_order(host: FakeHost, app: App) -> None:
    await opened(host)
    sent = os.urandom(20000)

    await app.send(sent)

    received = b""
    while len(received) < len(sent):
        received += (await host.expect(Data)).data
    assert received == sent


async def test_fds_are_described_in_their_order(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    await opened(host)
    pool = memfd(closing)
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    for fd in (reader, writer, null):
        closing.callback(os.close, fd)

    await app.send(b"x", pool, writer, null, pool)

    assert (await host.expect(Data)).attachments == (
        Attachment(AttachmentKind.MEMORY, AttachmentFlags.MEMORY_WRITABLE, 1, 4 * PAGE),
        Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_WRITES, 2, 0),
        Attachment(AttachmentKind.OTHER, AttachmentFlags.HOLDER_READS, 2, 0),
        Attachment(AttachmentKind.MEMORY, AttachmentFlags.MEMORY_WRITABLE, 3, 4 * PAGE),
    )


async def test_events_reach_the_app(host: FakeHost, app: App) -> None:
    client_id = await opened(host)

    await host.send(Data(client_id, b"one"), Data(client_id, b"two"))

    received = b""
    while len(received) < 6:
        received += (await app.receive())[0]
    assert received == b"onetwo"


async def test_file_arrives_with_its_size_sealed(host: FakeHost, app: App) -> None:
    client_id = await opened(host)
    keymap = os.urandom(100_000)

    await host.send(
        FileData(client_id, 5, keymap[:60_000]),
        FileData(client_id, 5, keymap[60_000:]),
        Data(client_id, b"keymap", (file(5, len(keymap)),)),
    )

    data, (fd,) = await app.receive()
    assert data == b"keymap"
    assert os.pread(fd, 200_000, 0) == keymap
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == 0x7  # SEAL, SHRINK, GROW
    for size in (0, 200_000):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    os.close(fd)


@pytest.mark.parametrize("flags", [mmap.MAP_SHARED, mmap.MAP_PRIVATE])
async def test_file_can_be_mapped_writable_and_is_one_apps_own(
    agent: Agent, host: FakeHost, flags: int
) -> None:
    """Old toolkits map keymaps shared and writable, if only to read them."""
    files = []
    for client_id in (1, 2):
        with await agent.connect() as app:
            assert await opened(host) == client_id
            await host.send(
                FileData(client_id, 1, b"keymap"), Data(client_id, b"x", (file(1, 6),))
            )
            _, fds = await app.receive()
            files += fds

    with mmap.mmap(files[0], 6, flags, mmap.PROT_READ | mmap.PROT_WRITE) as mapping:
        assert mapping[:] == b"keymap"
        mapping[0] = ord("K")
        assert os.pread(files[1], 6, 0) == b"keymap"
    for fd in files:
        os.close(fd)


async def test_empty_file(host: FakeHost, app: App) -> None:
    client_id = await opened(host)

    await host.send(Data(client_id, b"x", (file(1, 0),)))

    _, (fd,) = await app.receive()
    assert os.fstat(fd).st_size == 0
    os.close(fd)


async def test_more_fds_than_libwayland_takes_at_once(host: FakeHost, app: App) -> None:
    client_id = await opened(host)

    await host.send(
        Data(client_id, b"abc", tuple(file(number, 0) for number in range(60)))
    )

    data, batches = b"", []
    while len(data) < 3:
        some, fds = await app.receive()
        data += some
        batches.append(len(fds))
        for fd in fds:
            os.close(fd)
    assert data == b"abc"
    assert batches == [28, 28, 4]


@pytest.mark.parametrize(
    "frames",
    [
        [Data(1, b"x", (file(1, 10),))],
        [FileData(1, 1, b"abc"), Data(1, b"x", (file(1, 4),))],
        [Data(1, b"x", tuple(file(number, 0) for number in range(29)))],
        [Data(1, bytes(60_000))] * 30,  # more than window and socket hold
        [Credit(1, 0, 1)],
    ],
    ids=["no such file", "other size", "too few bytes", "no credit", "no debt"],
)
async def test_host_that_breaks_a_rule(
    host: FakeHost, app: App, frames: list[Data | FileData | Credit]
) -> None:
    await opened(host)

    for frame in frames:
        await host.send(frame)

    assert (await host.expect(Goodbye)).reason is CloseReason.PROTOCOL_ERROR
    while (await app.receive())[0]:
        pass


async def test_file_over_the_limit(host: FakeHost, app: App) -> None:
    client_id = await opened(host)
    chunk = b"x" * 60_000

    credit = SendWindow(CLIENT_WINDOW)
    sent = 0
    while sent <= MAX_FILE_SIZE:
        while credit.available < len(chunk):
            credit.grant((await host.expect(Credit)).amount)
        credit.take(len(chunk))
        await host.send(FileData(client_id, 1, chunk))
        sent += len(chunk)

    assert "over" in (await host.expect(Goodbye)).message


# -------------------------------------------------------------------- credit


async def test_app_is_read_no_faster_than_the_host_allows(
    host: FakeHost, app: App
) -> None:
    client_id = await opened(host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all, app, bytes(2 * WINDOW))
        await trio.testing.wait_all_tasks_blocked()

        frames = [frame for frame in await host.silence() if isinstance(frame, Data)]
        received = sum(map(cost, frames))
        most_attachments = MAX_ATTACHMENTS * ATTACHMENT_SIZE
        assert WINDOW - most_attachments <= received <= WINDOW

        await host.send(Credit(client_id, 0, received))
        while received < 2 * WINDOW:
            frame = await host.expect(Data)
            received += cost(frame)
            await host.send(Credit(client_id, 0, cost(frame)))


async def send_all(app: App, data: bytes) -> None:
    while data:
        data = data[await app.socket.send(data) :]


async def test_app_that_does_not_read_stops_only_itself(
    agent: Agent, host: FakeHost, app: App
) -> None:
    stalled = await opened(host)
    app.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with await agent.connect() as other:
        busy = await opened(host)
        credit = SendWindow(CLIENT_WINDOW)
        while credit.available:
            # Until neither the socket nor the window takes more.
            chunk = min(credit.available, 60_000)
            credit.take(chunk)
            await host.send(Data(stalled, bytes(chunk)))
            for frame in await host.silence():
                if isinstance(frame, Credit):
                    credit.grant(frame.amount)

        for _ in range(100):
            await host.send(Data(busy, b"frame"))
            assert (await other.receive())[0] == b"frame"
            await other.send(b"commit")
            assert (await host.expect(Data)).client_id == busy

        while credit.available < CLIENT_WINDOW // 2:
            await app.receive()
            await trio.testing.wait_all_tasks_blocked()
            for frame in await host.settle():
                if isinstance(frame, Credit):
                    credit.grant(frame.amount)


async def test_credit_is_returned_when_the_app_has_the_bytes(
    host: FakeHost, app: App
) -> None:
    client_id = await opened(host)

    for _ in range(10 * CLIENT_WINDOW // 32_768):
        await host.send(Data(client_id, bytes(32_768)))
        received = 0
        while received < 32_768:
            received += len((await app.receive())[0])

    total = 0
    while total < 9 * CLIENT_WINDOW:
        total += (await host.expect(Credit)).amount


# -------------------------------------------------------------------- locations


async def attach_memory(host: FakeHost, app: App, fd: int) -> tuple[int, int]:
    client_id = await opened(host)
    await app.send(b"create_pool", fd)
    (attachment,) = (await host.expect(Data)).attachments
    return client_id, attachment.object_id


async def test_location_is_pinned_until_released(
    agent: Agent, host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, memory_id = await attach_memory(host, app, memfd(closing))

    await host.send(Locate(client_id, 9, memory_id, PAGE, 2 * PAGE, 0))

    expected = Located(
        client_id, 9, LocateStatus.OK, 0, False, (Extent(PAGE, 2 * PAGE),)
    )
    assert await host.expect(Located) == expected
    assert agent.locator.pinned == 1
    await host.send(Release(client_id, 9))
    assert await host.expect(Released) == Released(client_id, 9)
    assert agent.locator.pinned == 0


async def test_long_lists_of_extents_are_continued(
    agent: Agent, host: FakeHost, app: App, closing: ExitStack
) -> None:
    agent.locator.scattered = True
    client_id, memory_id = await attach_memory(host, app, memfd(closing, 8100))

    await host.send(Locate(client_id, 1, memory_id, 0, 8100 * PAGE, 0))

    parts = [await host.expect(Located) for _ in range(3)]
    assert [(len(part.extents), part.more) for part in parts] == [
        (4000, True),
        (4000, True),
        (100, False),
    ]
    gpas = [extent.gpa for part in parts for extent in part.extents]
    assert gpas == list(range(0, 8100 * PAGE, PAGE))


@pytest.mark.parametrize(
    ("memory_id", "length", "status"),
    [
        (1, 5 * PAGE, LocateStatus.OUT_OF_RANGE),
        (2, PAGE, LocateStatus.UNKNOWN_MEMORY),
    ],
)
async def test_location_that_cannot_be(
    host: FakeHost,
    app: App,
    closing: ExitStack,
    memory_id: int,
    length: int,
    status: LocateStatus,
) -> None:
    client_id, _ = await attach_memory(host, app, memfd(closing))

    await host.send(Locate(client_id, 1, memory_id, 0, length, 0))

    assert await host.expect(Located) == Located(client_id, 1, status, 0, False, ())


async def test_closed_memory_is_unknown_but_stays_pinned(
    agent: Agent, host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, memory_id = await attach_memory(host, app, memfd(closing))

    await host.send(
        Locate(client_id, 1, memory_id, 0, PAGE, 0),
    )
    await host.expect(Located)
    await host.send(
        CloseMemory(client_id, memory_id),
        CloseMemory(client_id, memory_id),
        Locate(client_id, 2, memory_id, 0, PAGE, 0),
    )

    assert (await host.expect(Located)).status is LocateStatus.UNKNOWN_MEMORY
    assert agent.locator.pinned == 1


async def test_pins_of_an_app_that_has_gone_stay_until_the_host_says_so(
    agent: Agent, host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, memory_id = await attach_memory(host, app, memfd(closing))
    await host.send(Locate(client_id, 1, memory_id, 0, PAGE, 0))
    await host.expect(Located)

    app.socket.close()
    await host.expect(ClientClosed)

    assert agent.locator.pinned == 1
    await host.send(ClientReleased(client_id))
    await host.settle()
    assert agent.locator.pinned == 0


async def test_an_app_ends_that_the_host_lets_go_of_without_a_word(
    host: FakeHost, app: App
) -> None:
    client_id = await opened(host)

    await host.send(ClientReleased(client_id))

    assert await told(app) == "wlproxy: the host ended the connection"


async def test_what_comes_while_the_host_closes_an_app_is_closed_as_well(
    run_agent: RunAgent, closing: ExitStack
) -> None:
    """Both are there in one pass of the loop, in any order: nothing is kept for nobody.

    And it has not left by that: it is told.
    """
    agent = await run_agent()
    host = await agent.plug_in()
    await host.start(hello())
    fd = memfd(closing)
    for _ in range(20):
        with await agent.connect() as app:
            client_id = await opened(host)
            await trio.testing.wait_all_tasks_blocked()
            frames = (
                ClientClosed(client_id, CloseReason.NORMAL, ""),
                ClientReleased(client_id),
            )
            ends = b"".join(host.session.encode(frame) for frame in frames)
            with socket.socket(fileno=os.dup(app.socket.fileno())) as raw:
                socket.send_fds(raw, [b"late"], [fd])
            os.write(host.stream.socket.fileno(), ends)
            assert await told(app) == "wlproxy: the host ended the connection"
    await host.settle()


async def test_release_of_what_is_still_being_located(
    agent: Agent, host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, memory_id = await attach_memory(host, app, memfd(closing))

    await host.send(Locate(client_id, 1, memory_id, 0, PAGE, 0), Release(client_id, 1))

    await host.expect(Located)
    await host.expect(Released)
    assert agent.locator.pinned == 0


async def test_release_of_nothing_is_acknowledged(host: FakeHost, app: App) -> None:
    client_id = await opened(host)

    await host.send(Release(client_id, 77))

    assert await host.expect(Released) == Released(client_id, 77)


async def test_location_id_in_use(host: FakeHost, app: App, closing: ExitStack) -> None:
    client_id, memory_id = await attach_memory(host, app, memfd(closing))

    await host.send(*[Locate(client_id, 1, memory_id, 0, PAGE, 0)] * 2)

    assert (await host.expect(Goodbye)).message == "location 1 is in use"


@pytest.mark.parametrize(
    "limits",
    [
        Limits(pinned=4 * PAGE),
        Limits(pinned=8 * PAGE, pinned_total=4 * PAGE),
        Limits(locations=1),
    ],
)
async def test_quota_of_pins(
    run_agent: RunAgent, closing: ExitStack, limits: Limits
) -> None:
    agent = await run_agent(limits)
    host = await agent.plug_in()
    await host.start(hello())
    with await agent.connect() as app:
        client_id, memory_id = await attach_memory(host, app, memfd(closing, 8))

        await host.send(Locate(client_id, 1, memory_id, 1, 3 * PAGE, 0))
        assert (await host.expect(Located)).status is LocateStatus.OK
        await host.send(Locate(client_id, 2, memory_id, 0, PAGE, 0))
        assert (await host.expect(Located)).status is LocateStatus.LIMIT_EXCEEDED

        await host.send(Release(client_id, 1))
        await host.expect(Released)
        await host.send(Locate(client_id, 3, memory_id, 0, PAGE, 0))
        assert (await host.expect(Located)).status is LocateStatus.OK


# -------------------------------------------------------------------- quotas


async def status_of(host: FakeHost, client_id: int, memory_id: int) -> LocateStatus:
    """Ask about a memory, by a location of the same number."""
    await host.send(Locate(client_id, memory_id, memory_id, 0, PAGE, 0))
    return (await host.expect(Located)).status


async def test_memories_that_nobody_asks_about_are_closed(
    run_agent: RunAgent, closing: ExitStack
) -> None:
    agent = await run_agent(Limits(memories=3))
    host = await agent.plug_in()
    await host.start(hello())
    with await agent.connect() as app:
        client_id = await opened(host)
        fds = [memfd(closing) for _ in range(10)]
        await app.send(b"pools", *fds[:3])
        assert len((await host.expect(Data)).attachments) == 3
        assert await status_of(host, client_id, 1) is LocateStatus.OK

        await app.send(b"pools", *fds[3:5])

        assert len((await host.expect(Data)).attachments) == 2
        unknown = LocateStatus.UNKNOWN_MEMORY
        found = [await status_of(host, client_id, each) for each in (2, 3, 4, 5)]
        assert found == [unknown, unknown, LocateStatus.OK, LocateStatus.OK]
        assert agent.locator.pinned == 3
        await host.send(CloseMemory(client_id, 1), Locate(client_id, 9, 1, 0, PAGE, 0))
        assert (await host.expect(Located)).status is unknown
        await app.send(b"pools", *fds[5:6])  # in the place of that
        await host.expect(Data)
        await host.send(Locate(client_id, 10, 4, 0, PAGE, 0))
        assert (await host.expect(Located)).status is LocateStatus.OK


async def test_an_app_has_a_few_memories_whatever_others_have(
    run_agent: RunAgent, closing: ExitStack
) -> None:
    agent = await run_agent(Limits(memories_total=20))
    host = await agent.plug_in()
    await host.start(hello())
    with await agent.connect() as greedy, await agent.connect() as other:
        one = await opened(host)
        two = await opened(host)
        await greedy.send(b"pools", *[memfd(closing) for _ in range(25)])
        assert (await host.expect(Data)).client_id == one
        await other.send(b"pools", *[memfd(closing) for _ in range(17)])
        assert (await host.expect(Data)).client_id == two

        statuses = [await status_of(host, one, each) for each in (5, 6, 25)]
        unknown, ok = LocateStatus.UNKNOWN_MEMORY, LocateStatus.OK
        assert statuses == [unknown, ok, ok]
        statuses = [await status_of(host, two, each) for each in (1, 2, 17)]
        assert statuses == [unknown, ok, ok]


async def test_files_that_nobody_uses_end_the_client(run_agent: RunAgent) -> None:
    agent = await run_agent(Limits(file_bytes=1000))
    host = await agent.plug_in()
    await host.start(hello())
    with await agent.connect() as app:
        client_id = await opened(host)

        await host.send(FileData(client_id, 1, bytes(600)))
        await host.send(FileData(client_id, 2, bytes(600)))

        closed = await host.expect(ClientClosed)
        assert closed.reason is CloseReason.LIMIT_EXCEEDED
        while (await app.receive())[0]:
            pass


async def test_host_may_end_a_client_that_does_not_read(
    host: FakeHost, app: App, autojump_clock: trio.testing.MockClock
) -> None:
    client_id = await opened(host)
    app.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(4):
        await host.send(Data(client_id, bytes(60_000)))
    await host.send(ClientClosed(client_id, CloseReason.NORMAL, ""))

    # Its socket is closed after a while, though it has not taken everything.
    with trio.move_on_after(60):
        await host.receive()
    received = 0
    while data := (await app.receive())[0]:
        received += len(data)
    assert received <= 4 * 60_000


async def test_app_is_not_read_any_more_when_the_host_ended_it(
    host: FakeHost, app: App
) -> None:
    client_id = await opened(host)
    await host.send(ClientClosed(client_id, CloseReason.FAILED, "why not"))
    await host.settle()

    assert await told(app) == "wlproxy: why not"
    await app.send(b"too late")

    assert await host.silence() == []


async def test_app_is_told_its_end_by_the_agent_only_if_nobody_has(
    host: FakeHost, app: App
) -> None:
    client_id = await opened(host)
    error = unavailable_event("the compositor says so")
    await host.send(
        Data(client_id, error[:13]),
        Data(client_id, error[13:]),
        ClientClosed(client_id, CloseReason.PROTOCOL_ERROR, "wlproxy says so"),
    )

    received = b""
    while data := (await app.receive())[0]:
        received += data
    assert received == error


async def test_app_is_told_why_after_the_events_before(
    host: FakeHost, app: App
) -> None:
    client_id = await opened(host)
    await host.send(
        Data(client_id, DELETE_ID[:7]),
        Data(client_id, (DELETE_ID * 1000)[7:]),
        ClientClosed(client_id, CloseReason.COMPOSITOR_GONE, ""),
    )

    received = b""
    while data := (await app.receive())[0]:
        received += data
    assert received.startswith(DELETE_ID * 1000)
    _, message = parse_error(received[len(DELETE_ID) * 1000 :])
    assert message == "wlproxy: the host's compositor has gone"


async def test_in_the_middle_of_an_event_nothing_is_told(
    host: FakeHost, app: App
) -> None:
    client_id = await opened(host)
    await host.send(Data(client_id, DELETE_ID[:7]), Goodbye(CloseReason.NORMAL, ""))

    assert await app.receive() == (DELETE_ID[:7], [])
    assert await app.receive() == (b"", [])


async def test_bug_in_serving_an_app_costs_that_app(
    agent: Agent,
    host: FakeHost,
    app: App,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    await opened(host)
    with monkeypatch.context() as patch:
        patch.setattr(Locations, "are_drawn", fail)
        await app.send(b"x")
        closed = await host.expect(ClientClosed)
    assert closed.reason is CloseReason.FAILED
    assert await told(app) == "wlproxy: the agent failed"
    assert "ZeroDivisionError" in caplog.text
    with await agent.connect():
        assert await opened(host) == 2


async def test_no_memory_for_an_event_costs_its_app(
    agent: Agent, host: FakeHost, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    client_id = await opened(host)
    with monkeypatch.context() as patch:
        patch.setattr(PendingFiles, "append", fail)
        await host.send(FileData(client_id, 1, b"keymap"))
        closed = await host.expect(ClientClosed)
    assert closed.reason is CloseReason.FAILED
    assert await told(app) == "wlproxy: the agent has no memory left"
    with await agent.connect():
        assert await opened(host) == 2


@pytest.mark.parametrize(
    ("failure", "reason", "words"),
    [
        (MemoryError(), CloseReason.FAILED, "the agent has no memory left"),
        (
            FdsLostError(),
            CloseReason.LIMIT_EXCEEDED,
            "fds were lost: the agent has too many open",
        ),
    ],
)
async def test_what_an_app_sends_and_cannot_be_received_costs_that_app(
    agent: Agent,
    host: FakeHost,
    app: App,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    reason: CloseReason,
    words: str,
) -> None:
    receive = AppSocket.receive

    async def fail(ours: AppSocket, size: int) -> object:
        await receive(ours, size)
        raise failure

    assert await opened(host) == 1
    await trio.testing.wait_all_tasks_blocked()  # it waits for its bytes
    with monkeypatch.context() as patch:
        patch.setattr(AppSocket, "receive", fail)
        with await agent.connect() as unlucky:
            assert await opened(host) == 2
            await unlucky.send(b"x")
            closed = await host.expect(ClientClosed)
            assert (closed.client_id, closed.reason) == (2, reason)
            assert await told(unlucky) == f"wlproxy: {words}"
    await app.send(b"y")
    assert await host.expect(Data) == Data(1, b"y")


async def test_questions_for_an_app_that_has_gone_are_ignored(
    agent: Agent, host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, memory_id = await attach_memory(host, app, memfd(closing))
    app.close()
    await host.expect(ClientClosed)

    await host.send(
        Locate(client_id, 1, memory_id, 0, PAGE, 0), CloseMemory(client_id, memory_id)
    )

    assert await host.silence() == []
    with await agent.connect():
        assert await opened(host) == 2


async def test_bytes_wait_until_what_they_name_is_drawn(
    host: FakeHost, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dma-buf with a fence; `Locations` says when (test_fences has real ones)."""
    drawn = trio.Event()

    async def wait(_: Locations) -> None:
        await drawn.wait()

    await opened(host)
    monkeypatch.setattr(Locations, "are_drawn", lambda _: drawn.is_set())
    monkeypatch.setattr(Locations, "wait_drawn", wait)
    await app.send(b"commit")
    assert await host.silence() == []

    drawn.set()

    assert (await host.expect(Data)).data == b"commit"
