"""Pipes through the agent, in all four ways."""

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.guest_agent.conftest import RunAgent
from tests.guest_agent.fakes import WINDOW, App, FakeHost, adopt, hello, opened
from wlproxy.protocol.channel.flow import SendWindow
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientReleased,
    CloseReason,
    Credit,
    Data,
    Frame,
    Goodbye,
    OpenStream,
    Ping,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import STREAM_WINDOW
from wlproxy_guest.quotas import Limits

READS = AttachmentFlags.HOLDER_READS
WRITES = AttachmentFlags.HOLDER_WRITES


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Fd:
    """An fd of the test's, closed once."""

    def __init__(self, closing: ExitStack, fd: int) -> None:
        self.fd = fd
        closing.callback(self.close)
        os.set_blocking(fd, False)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    async def read(self) -> bytes:
        with trio.fail_after(10):
            while True:
                try:
                    return os.read(self.fd, 65536)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self.fd)

    def write_all_it_takes(self) -> int:
        total = 0
        while True:
            try:
                total += os.write(self.fd, bytes(65536))
            except BlockingIOError:
                return total


def pipe(closing: ExitStack) -> tuple[Fd, Fd]:
    reader, writer = os.pipe()
    return Fd(closing, reader), Fd(closing, writer)


async def pass_pipe(host: FakeHost, app: App, end: Fd) -> tuple[int, int]:
    """Have the app pass a pipe's end; return client id and stream id."""
    client_id = await opened(host)
    await app.send(b"receive", end.fd)
    end.close()
    (attachment,) = (await host.expect(Data)).attachments
    return client_id, attachment.object_id


async def get_pipe(
    host: FakeHost, app: App, flags: AttachmentFlags, closing: ExitStack
) -> tuple[int, Fd]:
    """Have the host pass a pipe's end as stream 1; return client id and the fd."""
    client_id = await opened(host)
    attachment = Attachment(AttachmentKind.STREAM, flags, 1, 0)
    await host.send(Data(client_id, b"send", (attachment,)))
    _, (fd,) = await app.receive()
    return client_id, Fd(closing, fd)


async def test_app_receives_a_paste(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    reader, writer = pipe(closing)
    client_id, stream_id = await pass_pipe(host, app, writer)
    assert stream_id == 2

    await host.send(
        StreamData(client_id, stream_id, b"pasted "),
        StreamData(client_id, stream_id, b"text"),
        StreamClosed(client_id, stream_id, CloseReason.NORMAL),
    )

    received = b""
    while data := await reader.read():
        received += data
    assert received == b"pasted text"


async def test_a_bug_or_no_memory_in_a_pipe_costs_no_app(
    host: FakeHost, app: App, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr("wlproxy.transport.pumps.pump_to_peer", fail)
    reader, writer = pipe(closing)
    client_id, stream_id = await pass_pipe(host, app, reader)
    expected = StreamClosed(client_id, stream_id, CloseReason.FAILED)
    assert await host.expect(StreamClosed) == expected

    await app.send(b"goes on")
    assert (await host.expect(Data)).data == b"goes on"
    writer.close()


async def test_app_passes_a_pipe_to_be_read(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    reader, writer = pipe(closing)
    client_id, stream_id = await pass_pipe(host, app, reader)

    os.write(writer.fd, b"typed")
    assert await host.expect(StreamData) == StreamData(client_id, stream_id, b"typed")
    writer.close()

    expected = StreamClosed(client_id, stream_id, CloseReason.NORMAL)
    assert await host.expect(StreamClosed) == expected


async def test_app_serves_a_paste(host: FakeHost, app: App, closing: ExitStack) -> None:
    client_id, writer = await get_pipe(host, app, WRITES, closing)

    os.write(writer.fd, b"copied text")
    writer.close()

    assert await host.expect(StreamData) == StreamData(client_id, 1, b"copied text")
    await host.expect(StreamClosed)


async def test_app_is_given_a_pipe_to_read(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, reader = await get_pipe(host, app, READS, closing)

    await host.send(
        StreamData(client_id, 1, b"x"), StreamClosed(client_id, 1, CloseReason.NORMAL)
    )

    assert await reader.read() == b"x"
    assert await reader.read() == b""


async def test_last_bytes_of_an_app_that_leaves(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, writer = await get_pipe(host, app, WRITES, closing)
    app.socket.close()
    await host.expect(ClientClosed)
    await host.send(ClientReleased(client_id))
    assert await host.silence() == []

    os.write(writer.fd, b"copied")
    writer.close()

    assert await host.expect(StreamData) == StreamData(client_id, 1, b"copied")
    await host.expect(StreamClosed)


async def test_app_that_leaves_is_still_pasted_to(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    reader, writer = pipe(closing)
    client_id, stream_id = await pass_pipe(host, app, writer)
    await host.send(ClientClosed(client_id, CloseReason.NORMAL, ""))
    await host.send(ClientReleased(client_id))
    while (await app.receive())[0]:
        pass  # it is told that the host has ended it

    await host.send(
        StreamData(client_id, stream_id, b"pasted"),
        StreamClosed(client_id, stream_id, CloseReason.NORMAL),
    )

    assert await reader.read() == b"pasted"
    assert await reader.read() == b""


async def test_ends_that_an_app_did_not_live_to_get(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id = await opened(host)
    app.socket.close()
    await host.expect(ClientClosed)

    ends = tuple(Attachment(AttachmentKind.STREAM, READS, n, 0) for n in (1, 3))
    await host.send(Data(client_id, b"send", ends))

    closed = [StreamClosed(client_id, n, CloseReason.NORMAL) for n in (1, 3)]
    assert sorted(await host.silence(), key=str) == closed


async def test_ends_of_an_event_that_cannot_be_had(
    host: FakeHost, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory() -> int:
        raise OSError(errno.ENOMEM, "none left")

    monkeypatch.setattr("wlproxy_guest.files.begin_file", no_memory)
    client_id = await opened(host)
    file = Attachment(AttachmentKind.FILE, AttachmentFlags.NONE, 2, 0)
    first, last = (Attachment(AttachmentKind.STREAM, READS, n, 0) for n in (1, 3))

    await host.send(Data(client_id, b"x", (first, file, last)))

    await host.expect(ClientClosed)
    ended = [(await host.expect(StreamClosed)).stream_id for _ in range(2)]
    assert sorted(ended) == [1, 3]


async def connected(run_agent: RunAgent, limits: Limits) -> tuple[FakeHost, App]:
    agent = await run_agent(limits)
    host = await agent.plug_in()
    await host.start(hello())
    return host, await agent.connect()


async def test_one_too_many_has_ended_and_the_app_goes_on(
    run_agent: RunAgent, closing: ExitStack
) -> None:
    host, app = await connected(run_agent, Limits(streams=2))
    with app:
        client_id = await opened(host)
        pipes = [pipe(closing) for _ in range(3)]
        await app.send(b"receive", *(writer.fd for _, writer in pipes))
        for _, writer in pipes:
            writer.close()

        assert len((await host.expect(Data)).attachments) == 3
        limit = CloseReason.LIMIT_EXCEEDED
        assert await host.expect(StreamClosed) == StreamClosed(client_id, 6, limit)
        assert await pipes[2][0].read() == b""

        attachment = Attachment(AttachmentKind.STREAM, READS, 1, 0)
        await host.send(Data(client_id, b"send", (attachment,)))
        data, (fd,) = await app.receive()
        assert data == b"send"
        assert await Fd(closing, fd).read() == b""
        assert await host.expect(StreamClosed) == StreamClosed(client_id, 1, limit)

        pipes[0][0].close()  # there is room again
        await host.expect(StreamClosed)
        reader, writer = pipe(closing)
        await app.send(b"receive", writer.fd)
        await host.expect(Data)
        await host.send(StreamData(client_id, 8, b"pasted"))
        assert await reader.read() == b"pasted"


async def test_those_of_apps_that_left_count(
    run_agent: RunAgent, closing: ExitStack
) -> None:
    agent = await run_agent(Limits(streams_total=1))
    host = await agent.plug_in()
    await host.start(hello())
    with await agent.connect() as app:
        await get_pipe(host, app, READS, closing)
    await host.expect(ClientClosed)
    with await agent.connect() as app:
        client_id = await opened(host)
        _, writer = pipe(closing)
        await app.send(b"receive", writer.fd)
        await host.expect(Data)
        assert await host.expect(StreamClosed) == StreamClosed(
            client_id, 2, CloseReason.LIMIT_EXCEEDED
        )


# -------------------------------------------------------------------- OpenStream


async def pass_file(host: FakeHost, app: App, fd: int) -> tuple[int, int]:
    """Have the app pass what is no pipe; return client id and memory id."""
    client_id = await opened(host)
    await app.send(b"receive", fd)
    (attachment,) = (await host.expect(Data)).attachments
    assert attachment.kind is not AttachmentKind.STREAM
    return client_id, attachment.object_id


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND])
@pytest.mark.parametrize("leaves", [False, True])
async def test_paste_into_a_file(
    host: FakeHost,
    app: App,
    closing: ExitStack,
    tmp_path: Path,
    flags: int,
    *,
    leaves: bool,
) -> None:
    path = tmp_path / "pasted"
    path.write_bytes(b"")
    fd = adopt(closing, os.open(path, flags))
    client_id, memory_id = await pass_file(host, app, fd)
    if leaves:
        app.socket.close()
        await host.expect(ClientClosed)

    await host.send(
        OpenStream(client_id, memory_id, 1, WRITES),
        StreamData(client_id, 1, b"pasted"),
        StreamClosed(client_id, 1, CloseReason.NORMAL),
    )

    with trio.fail_after(10):
        while path.read_bytes() != b"pasted":  # noqa: ASYNC110 - a thread writes
            await trio.sleep(0.001)


async def test_file_is_read(host: FakeHost, app: App, closing: ExitStack) -> None:
    fd = adopt(closing, os.memfd_create("file"))
    os.pwrite(fd, b"contents", 0)
    client_id, memory_id = await pass_file(host, app, fd)

    await host.send(OpenStream(client_id, memory_id, 1, READS))

    assert await host.expect(StreamData) == StreamData(client_id, 1, b"contents")
    await host.expect(StreamClosed)


async def test_what_cannot_be_a_stream_has_ended(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    null = adopt(closing, os.open("/dev/null", os.O_RDONLY))
    client_id, memory_id = await pass_file(host, app, null)

    await host.send(
        OpenStream(client_id, memory_id, 1, WRITES),
        StreamData(client_id, 1, b"under way"),
    )
    failed = StreamClosed(client_id, 1, CloseReason.FAILED)
    assert await host.expect(StreamClosed) == failed

    await host.send(OpenStream(client_id, memory_id, 3, WRITES))
    failed = StreamClosed(client_id, 3, CloseReason.FAILED)
    assert await host.expect(StreamClosed) == failed


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([OpenStream(1, 2, 1, WRITES)], "no memory 2 yet"),
        ([OpenStream(1, 1, 3, WRITES), OpenStream(1, 1, 1, WRITES)], "not new"),
        ([OpenStream(1, 1, 1, WRITES), StreamData(1, 3, b"x")], "no stream 3 yet"),
    ],
)
async def test_host_that_opens_what_it_may_not(
    host: FakeHost, app: App, closing: ExitStack, frames: list[Frame], message: str
) -> None:
    await pass_file(host, app, adopt(closing, os.open("/dev/null", os.O_WRONLY)))

    await host.send(*frames)

    assert message in (await host.expect(Goodbye)).message


async def test_ids_of_both_kinds_ascend_by_themselves(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    """An event that was decided on first may be sent later: it waits for credit."""
    null = adopt(closing, os.open("/dev/null", os.O_WRONLY))
    client_id, memory_id = await pass_file(host, app, null)
    attachment = Attachment(AttachmentKind.STREAM, READS, 1, 0)

    await host.send(
        OpenStream(client_id, memory_id, 3, WRITES),
        Data(client_id, b"send", (attachment,)),
        StreamData(client_id, 1, b"text"),
    )

    _, (fd,) = await app.receive()
    assert await Fd(closing, fd).read() == b"text"


async def test_reader_that_goes_away_is_noticed_without_a_byte(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    reader, writer = pipe(closing)
    _, stream_id = await pass_pipe(host, app, writer)
    assert await host.silence() == []

    reader.close()

    assert (await host.expect(StreamClosed)).stream_id == stream_id


async def test_pipe_of_an_app_is_left_as_it_was(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    reader, writer = pipe(closing)
    os.set_blocking(writer.fd, True)
    client_id = await opened(host)
    await app.send(b"receive", writer.fd)
    (attachment,) = (await host.expect(Data)).attachments

    await host.send(StreamData(client_id, attachment.object_id, b"x"))

    assert await reader.read() == b"x"
    assert os.get_blocking(writer.fd)


async def test_reader_that_goes_away_is_reported(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    reader, writer = pipe(closing)
    client_id, stream_id = await pass_pipe(host, app, writer)
    reader.close()

    await host.send(StreamData(client_id, stream_id, b"nobody wants this"))

    await host.expect(StreamClosed)
    await host.send(StreamData(client_id, stream_id, b"sent meanwhile"))
    assert await host.settle() == []


async def test_host_that_stops_reading_closes_the_pipe(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, writer = await get_pipe(host, app, WRITES, closing)

    await host.send(StreamClosed(client_id, 1, CloseReason.NORMAL))
    assert await host.silence() == []

    with pytest.raises(BrokenPipeError):
        os.write(writer.fd, b"x")


async def test_pipe_that_the_host_will_not_hear_of_is_closed(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id = await opened(host)
    pings = b"".join(host.session.encode(Ping(number)) for number in range(30_000))
    await host.stream.send_all(pings)  # the answers fill the wire
    reader, writer = pipe(closing)
    await app.send(b"here is one", reader.fd)
    reader.close()
    await trio.testing.wait_all_tasks_blocked()
    os.write(writer.fd, b"x")
    await host.send(ClientClosed(client_id, CloseReason.NORMAL, ""))
    await trio.testing.wait_all_tasks_blocked()

    with pytest.raises(BrokenPipeError):
        os.write(writer.fd, b"x")
    assert not [frame for frame in await host.silence() if isinstance(frame, Data)]


async def test_pipe_is_read_no_faster_than_the_host_allows(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, writer = await get_pipe(host, app, WRITES, closing)

    written, received = 0, 0
    while some := writer.write_all_it_takes():
        written += some
        frames = [f for f in await host.silence() if isinstance(f, StreamData)]
        received += sum(len(frame.data) for frame in frames)

    assert received == WINDOW
    await host.send(Credit(client_id, 1, received))
    writer.close()
    while received < written:
        frame = await host.expect(StreamData)
        received += len(frame.data)
        await host.send(Credit(client_id, 1, len(frame.data)))
    await host.expect(StreamClosed)


async def test_pipe_that_is_not_read_stops_only_itself(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    reader, writer = pipe(closing)
    client_id, stream_id = await pass_pipe(host, app, writer)
    credit = SendWindow(STREAM_WINDOW)
    sent = 0
    while credit.available:
        chunk = min(credit.available, 60_000)
        credit.take(chunk)
        sent += chunk
        await host.send(StreamData(client_id, stream_id, bytes(chunk)))
        for frame in await host.silence():
            if isinstance(frame, Credit):
                credit.grant(frame.amount)

    await host.send(Data(client_id, b"events go on"))
    assert (await app.receive())[0] == b"events go on"
    await host.send(StreamClosed(client_id, stream_id, CloseReason.NORMAL))
    received = 0
    while data := await reader.read():
        received += len(data)
    assert received == sent


@pytest.mark.parametrize(
    "frame",
    [
        StreamData(1, 3, b"x"),
        StreamClosed(1, 4, CloseReason.NORMAL),
        StreamData(1, 1, b"x"),
        Credit(1, 1, 1),
    ],
    ids=["no odd one yet", "no even one yet", "wrong way", "no debt"],
)
async def test_host_that_breaks_a_rule(
    host: FakeHost,
    app: App,
    closing: ExitStack,
    frame: StreamData | StreamClosed | Credit,
) -> None:
    await get_pipe(host, app, WRITES, closing)

    await host.send(frame)

    assert (await host.expect(Goodbye)).reason is CloseReason.PROTOCOL_ERROR


async def test_credit_for_a_pipe_that_only_writes(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, _ = await get_pipe(host, app, READS, closing)

    await host.send(Credit(client_id, 1, 1))

    assert "sends nothing" in (await host.expect(Goodbye)).message


async def test_stream_id_that_was_used_before(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, _ = await get_pipe(host, app, READS, closing)

    attachment = Attachment(AttachmentKind.STREAM, READS, 1, 0)
    await host.send(Data(client_id, b"x", (attachment,)))

    assert (await host.expect(Goodbye)).message == "stream 1 is not new"


async def test_last_bytes_that_need_credit(
    host: FakeHost, app: App, closing: ExitStack
) -> None:
    client_id, writer = await get_pipe(host, app, WRITES, closing)
    written, received = writer.write_all_it_takes(), 0
    while received < WINDOW:
        received += len((await host.expect(StreamData)).data)
    written += writer.write_all_it_takes()
    writer.close()
    app.socket.close()
    await host.silence()

    await host.send(Credit(client_id, 1, received))

    while received < written:
        frame = await host.expect(StreamData)
        received += len(frame.data)
        await host.send(Credit(client_id, 1, len(frame.data)))
    await host.expect(StreamClosed)
