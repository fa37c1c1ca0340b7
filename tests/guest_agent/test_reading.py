"""Parts of an app's files that the host reads."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.guest_agent.conftest import Agent
from tests.guest_agent.fakes import WINDOW, App, FakeHost, adopt, opened
from tests.guest_agent.hung_fuse import HungFile
from wlproxy.protocol.channel.frames import (
    ClientClosed,
    CloseReason,
    Credit,
    Data,
    Frame,
    Goodbye,
    Ping,
    Pong,
    ReadMemory,
    StreamClosed,
    StreamData,
)
from wlproxy_guest import streams, workers

CONTENTS = bytes(range(256)) * 40


async def passed(host: FakeHost, app: App, fd: int) -> tuple[int, int]:
    """Have the app pass a file; return client id and memory id."""
    client_id = await opened(host)
    await app.send(b"set_icc_file", fd)
    (attachment,) = (await host.expect(Data)).attachments
    return client_id, attachment.object_id


async def received(host: FakeHost) -> tuple[bytes, CloseReason]:
    """Take what comes of the one stream, a window at most, and why it ends."""
    reason = (await host.expect(StreamClosed)).reason
    pieces = [frame.data for frame in host.frames if isinstance(frame, StreamData)]
    host.frames.clear()
    return b"".join(pieces), reason


@pytest.fixture
def file(closing: ExitStack, tmp_path: Path) -> int:
    path = tmp_path / "profile"
    path.write_bytes(CONTENTS)
    return adopt(closing, os.open(path, os.O_RDWR))


@pytest.fixture
def memfd(closing: ExitStack) -> int:
    fd = adopt(closing, os.memfd_create("profile"))
    os.write(fd, CONTENTS)
    return fd


@pytest.mark.parametrize("kind", ["file", "memfd"])
@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, len(CONTENTS)), (1000, 3000), (len(CONTENTS) - 1, 1)],
)
async def test_a_part_wherever_the_files_position_is(
    request: pytest.FixtureRequest,
    host: FakeHost,
    app: App,
    kind: str,
    offset: int,
    length: int,
) -> None:
    fd: int = request.getfixturevalue(kind)
    place = os.lseek(fd, 0, os.SEEK_CUR)
    client_id, memory_id = await passed(host, app, fd)

    await host.send(ReadMemory(client_id, memory_id, 1, offset, length))

    part = CONTENTS[offset : offset + length]
    assert await received(host) == (part, CloseReason.NORMAL)
    assert os.lseek(fd, 0, os.SEEK_CUR) == place


@pytest.mark.parametrize(
    ("offset", "left"), [(len(CONTENTS) - 7, 7), (len(CONTENTS), 0), (2**62, 0)]
)
async def test_a_file_that_ends_before(
    host: FakeHost, app: App, file: int, offset: int, left: int
) -> None:
    client_id, memory_id = await passed(host, app, file)

    await host.send(ReadMemory(client_id, memory_id, 1, offset, 2**32 - 1))

    part = CONTENTS[offset : offset + left]
    assert await received(host) == (part, CloseReason.NORMAL)


async def test_a_file_that_shrinks_while_it_is_read(
    host: FakeHost, app: App, file: int
) -> None:
    size = 4 * WINDOW
    os.ftruncate(file, size)
    client_id, memory_id = await passed(host, app, file)
    await host.send(ReadMemory(client_id, memory_id, 1, 0, size))
    sent = 0
    while sent < WINDOW:
        sent += len((await host.expect(StreamData)).data)

    os.ftruncate(file, WINDOW + 10)
    await host.send(Credit(client_id, 1, WINDOW))

    contents, reason = await received(host)
    assert (contents, reason) == (bytes(10), CloseReason.NORMAL)


async def test_an_app_may_have_left(host: FakeHost, app: App, memfd: int) -> None:
    client_id, memory_id = await passed(host, app, memfd)
    app.socket.close()
    await host.expect(ClientClosed)

    await host.send(ReadMemory(client_id, memory_id, 1, 0, 9))

    assert await received(host) == (CONTENTS[:9], CloseReason.NORMAL)


@pytest.mark.parametrize("what", ["directory", "fifo", "socket", "null", "written"])
async def test_what_is_no_file(
    host: FakeHost, app: App, closing: ExitStack, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "profile"
    match what:
        case "directory":
            fd = os.open(tmp_path, os.O_RDONLY)
        case "fifo":
            os.mkfifo(path)
            fd = os.open(path, os.O_RDWR)  # nobody writes: reading it would wait
        case "socket":
            fd = app.socket.fileno()
        case "null":
            fd = os.open("/dev/null", os.O_RDONLY)
        case _:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    if what != "socket":
        adopt(closing, fd)
    client_id, memory_id = await passed(host, app, fd)

    await host.send(ReadMemory(client_id, memory_id, 1, 0, 128), Ping(7))

    assert (await host.expect(Pong)).timestamp == 7
    failed = StreamClosed(client_id, 1, CloseReason.FAILED)
    assert await host.expect(StreamClosed) == failed


async def test_a_file_is_read_once(host: FakeHost, app: App, memfd: int) -> None:
    client_id, memory_id = await passed(host, app, memfd)
    await host.send(ReadMemory(client_id, memory_id, 1, 0, 9))
    await received(host)

    await host.send(ReadMemory(client_id, memory_id, 3, 0, 9))

    failed = StreamClosed(client_id, 3, CloseReason.FAILED)
    assert await host.expect(StreamClosed) == failed


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([ReadMemory(1, 2, 1, 0, 1)], "no memory 2 yet"),
        ([ReadMemory(1, 1, 3, 0, 1), ReadMemory(1, 1, 1, 0, 1)], "not new"),
    ],
)
async def test_a_host_that_reads_what_it_may_not(
    host: FakeHost, app: App, memfd: int, frames: list[Frame], message: str
) -> None:
    await passed(host, app, memfd)

    await host.send(*frames)

    assert message in (await host.expect(Goodbye)).message


async def test_a_hung_file_costs_its_own_stream_only(
    agent: Agent, host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LAST_MOMENT", 0)
    monkeypatch.setattr(streams, "ADOPT_SECONDS", 0.1)
    with HungFile(tmp_path) as file, await agent.connect() as app:
        client_id, memory_id = await passed(host, app, file.fd)
        await host.send(ReadMemory(client_id, memory_id, 1, 0, 9), Ping(5))
        assert (await host.expect(Pong)).timestamp == 5
        failed = StreamClosed(client_id, 1, CloseReason.FAILED)
        assert await host.expect(StreamClosed) == failed
