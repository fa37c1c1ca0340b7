"""The outbox: order kept, sends gathered, fds with their first byte."""

from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.channel.codec import encode_frame
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    Data,
)
from wlproxy.protocol.channel.rules import fault
from wlproxy.relay.commands import (
    CloseHandle,
    SendFrame,
    SendToCompositor,
    Trace,
    TraceLevel,
)
from wlproxy.relay.handles import Handle
from wlproxy.relay.wire.outbox import Outbox

FILE = Attachment(AttachmentKind.FILE, AttachmentFlags.NONE, 1, 10)
TRACE = Trace(7, TraceLevel.DEBUG, "hm")


def test_an_empty_one() -> None:
    assert Outbox(7).take() == []


def test_requests_are_gathered() -> None:
    outbox = Outbox(7)
    outbox.request(b"one.")
    outbox.request(bytearray(b"two."))

    assert outbox.take() == [SendToCompositor(7, b"one.two.")]
    assert outbox.take() == []


def test_fds_leave_with_the_first_byte_of_their_message() -> None:
    outbox = Outbox(7)
    outbox.request(b"one.")
    outbox.request(b"two.", (Handle(2),))
    outbox.request(b"three")
    outbox.event(b"four")
    outbox.event(b"five", [FILE])
    outbox.event(b"six.")

    commands = outbox.take()

    assert [c for c in commands if isinstance(c, SendToCompositor)] == [
        SendToCompositor(7, b"one."),
        SendToCompositor(7, b"two.three", (Handle(2),)),
    ]
    assert [c for c in commands if isinstance(c, SendFrame)] == [
        SendFrame(Data(7, b"four")),
        SendFrame(Data(7, b"fivesix.", (FILE,))),
    ]


def test_a_command_comes_after_all_before_it() -> None:
    outbox = Outbox(7)
    outbox.event(b"one.")
    outbox.request(b"two.", (Handle(2),))
    outbox.command(CloseHandle(7, Handle(2)))
    outbox.request(b"three")
    outbox.command(TRACE)

    assert outbox.take() == [
        SendToCompositor(7, b"two.", (Handle(2),)),
        SendFrame(Data(7, b"one.")),
        CloseHandle(7, Handle(2)),
        SendToCompositor(7, b"three"),
        TRACE,
    ]


@given(sizes=st.lists(st.sampled_from([8, 4096, 65532]), min_size=1, max_size=40))
def test_frames_are_never_too_large(sizes: list[int]) -> None:
    outbox = Outbox(7)
    expected = b""
    for index, size in enumerate(sizes):
        data = bytes([index]) * size
        expected += data
        outbox.event(data, [FILE] if index % 3 == 0 else [])

    frames = [c.frame for c in outbox.take() if isinstance(c, SendFrame)]

    assert all(isinstance(frame, Data) and not fault(frame) for frame in frames)
    data_frames = [frame for frame in frames if isinstance(frame, Data)]
    assert b"".join(frame.data for frame in data_frames) == expected
    assert all(len(encode_frame(frame)) <= 64 * 1024 for frame in data_frames)
    assert sum(len(frame.attachments) for frame in data_frames) == -(-len(sizes) // 3)
