"""Windows: never more on the way than was offered, and never a standstill."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.channel.flow import ReceiveWindow, SendWindow, cost
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
    Data,
    FileData,
    Frame,
    Ping,
    StreamData,
)
from wlproxy.protocol.channel.rules import MIN_WINDOW
from wlproxy.protocol.errors import ChannelError, LocalProtocolError

FD = Attachment(AttachmentKind.OTHER, AttachmentFlags.NONE, 0, 0)


@pytest.mark.parametrize(
    ("frame", "bytes_counted"),
    [
        (Data(1, b"abc"), 3),
        (Data(1, b"abc", (FD, FD)), 35),
        (FileData(1, 1, b"abcd"), 4),
        (StreamData(1, 2, b"abcde"), 5),
        (Ping(1), 0),
    ],
)
def test_cost(frame: Frame, bytes_counted: int) -> None:
    assert cost(frame) == bytes_counted


def test_send_window_counts_down_and_up() -> None:
    window = SendWindow(100)
    window.take(100)
    assert window.available == 0
    with pytest.raises(LocalProtocolError, match="1 bytes sent, 0 allowed"):
        window.take(1)
    window.grant(60)
    assert window.available == 60
    window.take(0)


@pytest.mark.parametrize("amount", [41, 2**32 - 1, -1])
def test_a_peer_cannot_grow_our_window(amount: int) -> None:
    window = SendWindow(100)
    window.take(40)
    with pytest.raises(ChannelError, match="40 outstanding"):
        window.grant(amount)
    assert window.available == 60


def test_nothing_negative_is_sent() -> None:
    with pytest.raises(LocalProtocolError):
        SendWindow(100).take(-1)


def test_a_peer_cannot_exceed_its_window() -> None:
    window = ReceiveWindow(100)
    window.received(100)
    with pytest.raises(ChannelError, match="1 bytes received, 0 allowed"):
        window.received(1)
    assert window.held == 100


def test_grants_come_in_halves() -> None:
    window = ReceiveWindow(100)
    window.received(100)
    assert window.consumed(49) == 0
    assert window.consumed(1) == 50
    assert window.consumed(49) == 0
    assert window.consumed(1) == 50
    assert window.held == 0


@pytest.mark.parametrize("amount", [11, -1])
def test_only_what_is_held_can_be_consumed(amount: int) -> None:
    window = ReceiveWindow(100)
    window.received(10)
    with pytest.raises(LocalProtocolError, match="10 held"):
        window.consumed(amount)


@given(
    st.integers(MIN_WINDOW, 4 * MIN_WINDOW),
    st.lists(st.tuples(st.booleans(), st.integers(1, 2 * MIN_WINDOW)), max_size=60),
)
def test_both_ends_agree(initial: int, steps: list[tuple[bool, int]]) -> None:
    sender, receiver = SendWindow(initial), ReceiveWindow(initial)
    for is_send, amount in steps:
        if is_send:
            sent = min(amount, sender.available)
            sender.take(sent)
            receiver.received(sent)
        elif grant := receiver.consumed(min(amount, receiver.held)):
            sender.grant(grant)
        assert receiver.held <= initial
    if grant := receiver.consumed(receiver.held):
        sender.grant(grant)
    # Any one frame's attachments and a byte go out, though grants are held back.
    assert sender.available > initial // 2 - 1 >= 253 * 16


def test_what_is_emptied_is_granted_at_once() -> None:
    window = ReceiveWindow(100)
    window.received(30)
    assert window.consumed(10) == 0
    assert window.emptied() == 30
    assert window.held == 0
    assert window.emptied() == 0
    window.received(100)
