"""What waits for what on its way to the guest."""

import os

import pytest
import trio
import trio.testing

from wlproxy.host.outgoing import (
    Outgoing,
    fit_text,
)
from wlproxy.protocol.channel.flow import cost
from wlproxy.protocol.channel.frames import (
    MAX_TEXT,
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    ClientClosed,
    ClientReleased,
    CloseReason,
    Credit,
    Data,
    FileData,
    Frame,
    Pong,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.bounds import CHUNK, MAX_URGENT
from wlproxy.protocol.errors import ChannelError, LocalProtocolError
from wlproxy.transport.fds import OwnedFd

WINDOW = 16 * 1024


def outgoing(*client_ids: int) -> Outgoing:
    made = Outgoing(WINDOW, WINDOW)
    for client_id in client_ids:
        made.open_client(client_id)
    return made


def memfd(contents: bytes) -> OwnedFd:
    fd = OwnedFd(os.memfd_create("test"))
    os.write(fd.fileno(), contents)
    return fd


def closed(client_id: int) -> ClientClosed:
    return ClientClosed(client_id, CloseReason.NORMAL, "")


def test_clients_take_turns() -> None:
    waiting = outgoing(1, 2)
    for number in range(3):
        waiting.put(Data(1, bytes([number])))
    waiting.put(Data(2, b"x"))
    assert waiting.take(9) == [
        Data(1, b"\0"),
        Data(2, b"x"),
        Data(1, b"\1"),
        Data(1, b"\2"),
    ]


def test_data_waits_for_credit_and_others_do_not() -> None:
    waiting = outgoing(1, 2)
    big = Data(1, bytes(WINDOW // 2))
    for _ in range(3):
        waiting.put(big)
    waiting.put(closed(1))
    waiting.put(Data(2, b"x"))
    waiting.put(Pong(7))
    assert waiting.take(99) == [Pong(7), big, Data(2, b"x"), big]
    assert waiting.take(99) == []
    waiting.receive_credit(Credit(1, 0, WINDOW // 2))
    assert waiting.take(99) == [big, closed(1)]


def test_too_large_data_is_split_and_its_attachments_go_first() -> None:
    waiting = outgoing(1)
    attachment = Attachment(AttachmentKind.FILE, AttachmentFlags.NONE, 1, 5)
    data = bytes(range(256)) * 200
    waiting.put(Data(1, data, (attachment,)))
    received: list[Data] = []
    while frames := waiting.take(99):
        for frame in frames:
            assert isinstance(frame, Data)
            assert cost(frame) <= WINDOW // 2
            received.append(frame)
            waiting.receive_credit(Credit(1, 0, cost(frame)))
    assert b"".join(frame.data for frame in received) == data
    assert received[0].attachments == (attachment,)
    assert not any(frame.attachments for frame in received[1:])


def test_a_file_is_read_as_credit_comes_and_goes_before_its_data() -> None:
    waiting = outgoing(1)
    contents = os.urandom(3 * WINDOW + 17)
    waiting.clients[1].put_file(5, memfd(contents), len(contents))
    waiting.put(Data(1, b"keymap"))
    received = b""
    frames: list[Frame] = []
    while batch := waiting.take(99):
        frames += batch
        for frame in batch:
            if isinstance(frame, FileData):
                received += frame.data
                assert len(frame.data) <= CHUNK
                waiting.receive_credit(Credit(1, 0, cost(frame)))
    assert received == contents
    assert frames[-1] == Data(1, b"keymap")


def test_a_file_that_shrank_is_filled_up() -> None:
    waiting = outgoing(1)
    waiting.clients[1].put_file(5, memfd(b"abc"), 5)
    assert waiting.take(99) == [FileData(1, 5, b"abc\0\0")]


def test_an_unreadable_file_is_zeros() -> None:
    waiting = outgoing(1)
    read_end, write_end = os.pipe()
    os.close(read_end)
    waiting.clients[1].put_file(5, OwnedFd(write_end), 2)
    assert waiting.take(99) == [FileData(1, 5, b"\0\0")]


def test_an_empty_file_has_no_frames() -> None:
    waiting = outgoing(1)
    waiting.clients[1].put_file(5, memfd(b""), 0)
    assert waiting.take(99) == []


def test_a_file_that_is_nowhere_else() -> None:
    waiting = outgoing(1)
    contents = bytes(range(256)) * 48
    queue = waiting.clients[1]
    queue.put_contents(5, contents)
    queue.put_contents(6, b"")
    waiting.put(Data(1, b"about it"))

    frames = waiting.take(99)

    sent = [frame for frame in frames if isinstance(frame, FileData)]
    assert b"".join(frame.data for frame in sent) == contents
    assert {frame.file_id for frame in sent} == {5}
    assert frames[-1] == Data(1, b"about it")


def test_what_an_app_does_not_read_is_counted() -> None:
    waiting = outgoing(1)
    queue = waiting.clients[1]
    event = Data(1, bytes(WINDOW))
    queue.put_contents(5, bytes(1000))
    queue.put_file(6, memfd(b"not ours"), 8)
    waiting.put(event)
    assert queue.unread_bytes == 1000 + cost(event)

    waiting.take(99)
    left = queue.unread_bytes
    assert 0 < left < cost(event)
    waiting.receive_credit(Credit(1, 0, WINDOW // 2))
    waiting.take(99)
    assert queue.unread_bytes == 0

    queue.put_contents(7, bytes(1000))
    queue.drop_data()
    assert queue.unread_bytes == 0


async def test_a_chunk_waits_for_the_streams_credit_alone() -> None:
    waiting = outgoing(1)
    stream = waiting.open_stream(1, 2, announced=True)
    chunk = bytes(stream.chunk_size)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(stream.send, chunk)
            await trio.testing.wait_all_tasks_blocked()
            assert waiting.take(99) == [StreamData(1, 2, chunk)]
        nursery.start_soon(stream.send, b"more")
        await trio.testing.wait_all_tasks_blocked()
        stream.close(CloseReason.NORMAL)
        waiting.put(Data(1, b"x"))
        assert waiting.take(99) == [Data(1, b"x")]
        waiting.receive_credit(Credit(1, 2, len(chunk)))
        assert waiting.take(99) == [
            StreamData(1, 2, b"more"),
            StreamClosed(1, 2, CloseReason.NORMAL),
        ]
    assert not waiting.has_stream(1, 2)


def test_a_stream_that_the_host_named_waits_for_its_announcement() -> None:
    waiting = outgoing(1)
    stream = waiting.open_stream(1, 3, announced=False)
    stream.close(CloseReason.NORMAL)
    assert waiting.take(99) == []
    attachment = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS, 3, 0)
    announcing = Data(1, b"offer", (attachment,))
    waiting.put(announcing)
    assert waiting.take(99) == [announcing, StreamClosed(1, 3, CloseReason.NORMAL)]


def test_an_id_names_one_stream() -> None:
    waiting = outgoing(1)
    waiting.open_stream(1, 2, announced=True)
    with pytest.raises(LocalProtocolError):
        waiting.open_stream(1, 2, announced=True)
    with pytest.raises(LocalProtocolError):
        waiting.open_client(1)


async def test_a_stream_goes_on_when_its_client_is_gone() -> None:
    waiting = outgoing(1)
    stream = waiting.open_stream(1, 2, announced=True)
    chunk = bytes(stream.chunk_size)
    waiting.put(closed(1))
    waiting.put(ClientReleased(1))
    assert waiting.take(99) == [closed(1), ClientReleased(1)]
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(stream.send, chunk)
            await trio.testing.wait_all_tasks_blocked()
            assert waiting.take(99) == [StreamData(1, 2, chunk)]
        nursery.start_soon(stream.send, b"more")
        await trio.testing.wait_all_tasks_blocked()
        assert waiting.take(99) == []
        waiting.receive_credit(Credit(1, 2, len(chunk)))
        assert waiting.take(99) == [StreamData(1, 2, b"more")]
    stream.close(CloseReason.NORMAL)
    assert waiting.take(99) == [StreamClosed(1, 2, CloseReason.NORMAL)]
    assert not waiting.stream_count


def test_a_stream_whose_announcement_is_dropped_is_forgotten() -> None:
    waiting = outgoing(1)
    dropped: list[str] = []
    waiting.open_stream(1, 1, announced=False, dropped=lambda: dropped.append("one"))
    waiting.open_stream(1, 2, announced=True, dropped=lambda: dropped.append("two"))
    attachment = Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS, 1, 0)
    waiting.put(Data(1, b"offer", (attachment,)))
    waiting.clients[1].drop_data()
    assert waiting.take(99) == []
    assert dropped == ["one"]
    assert not waiting.has_stream(1, 1)
    assert waiting.has_stream(1, 2)


def test_a_client_with_many_streams_has_no_more_turns_than_one_with_few() -> None:
    waiting = outgoing(1, 2)
    for number in range(10):
        stream = waiting.open_stream(1, 2 + 2 * number, announced=True)
        stream.close(CloseReason.NORMAL)
    waiting.open_stream(2, 2, announced=True).close(CloseReason.NORMAL)
    waiting.put(Data(2, b"x"))
    assert {frame.client_id for frame in waiting.take(3)[1:]} == {2}  # type: ignore[union-attr]


def test_dropped_data_leaves_the_last_words() -> None:
    waiting = outgoing(1)
    waiting.put(Data(1, b"x"))
    waiting.clients[1].put_file(1, memfd(b"x"), 1)
    waiting.put(closed(1))
    waiting.clients[1].drop_data()
    waiting.put(ClientReleased(1))
    assert waiting.take(99) == [closed(1), ClientReleased(1)]
    waiting.put(Data(1, b"late"))
    waiting.receive_credit(Credit(1, 0, 1))
    assert waiting.take(99) == []
    assert not waiting.clients


def test_more_credit_than_was_spent_breaks_the_session() -> None:
    waiting = outgoing(1)
    waiting.open_stream(1, 2, announced=True)
    waiting.receive_credit(Credit(1, 4, 1))  # a stream that is gone
    with pytest.raises(ChannelError):
        waiting.receive_credit(Credit(1, 0, 1))
    with pytest.raises(ChannelError):
        waiting.receive_credit(Credit(1, 2, 1))


def test_a_guest_that_asks_and_never_reads_breaks_the_session() -> None:
    waiting = outgoing()
    for number in range(MAX_URGENT + 1):
        waiting.put(Pong(number))
    with pytest.raises(ChannelError):
        waiting.check_read()


async def test_waiting_for_work_and_for_the_end_of_it() -> None:
    waiting = outgoing(1)
    seen = []

    async def drained() -> None:
        await waiting.clients[1].wait_drained()
        seen.append("drained")

    async def work() -> None:
        await waiting.wait_work()
        seen.append("work")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await trio.testing.wait_all_tasks_blocked()
        waiting.put(Data(1, b"x"))
        nursery.start_soon(drained)
        await trio.testing.wait_all_tasks_blocked()
        assert seen == ["work"]
        assert waiting.take(9)
    assert seen == ["work", "drained"]


async def test_closed_it_keeps_nobody_waiting_and_nothing() -> None:
    waiting = outgoing(1)
    queue = waiting.clients[1]
    stream = waiting.open_stream(1, 2, announced=True)
    async with trio.open_nursery() as nursery:
        waiting.put(Data(1, b"x"))
        waiting.put(closed(1))
        queue.put_file(1, memfd(b"x"), 1)
        nursery.start_soon(queue.wait_drained)
        nursery.start_soon(stream.send, b"x")
        await trio.testing.wait_all_tasks_blocked()
        waiting.close()
    queue.put(Data(1, b"x"))
    queue.put_file(1, memfd(b"x"), 1)
    waiting.put(Pong(1))
    assert waiting.take(9) == []


def test_a_text_is_cut_between_characters() -> None:
    assert fit_text("a\0b") == "a b"
    fitted = fit_text("é" * MAX_TEXT)
    assert fitted == "é" * (MAX_TEXT // 2)
    assert len(fit_text("a" + "é" * MAX_TEXT).encode()) == MAX_TEXT - 1
