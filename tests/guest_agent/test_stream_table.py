"""Pipes through the agent, in all four ways."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import trio

from tests.guest_agent.fakes import WINDOW, App, FakeHost, opened
from wlproxy.protocol.channel.flow import SendWindow
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    CloseReason,
    Credit,
    Data,
    Goodbye,
    StreamClosed,
    StreamData,
)
from wlproxy_guest.session import STREAM_WINDOW

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
    _, writer = await get_pipe(host, app, WRITES, closing)

    os.write(writer.fd, b"copied")
    writer.close()
    app.socket.close()

    await host.expect(ClientClosed)
    assert [type(frame) for frame in host.frames] == [StreamData, StreamClosed]


async def test_pipe_that_is_kept_open_does_not_keep_the_client(
    host: FakeHost,
    app: App,
    closing: ExitStack,
    autojump_clock: trio.testing.MockClock,
) -> None:
    await get_pipe(host, app, WRITES, closing)

    app.socket.close()

    await host.expect(ClientClosed)


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
    await host.expect(ClientClosed)
    assert isinstance(host.frames[0], StreamClosed)
