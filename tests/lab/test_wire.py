import itertools
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import wire
from lab.wire import SYNC, Connection, Frame, FrameReader, WireError, encode

heads = st.dictionaries(
    st.text(max_size=8), st.integers() | st.text(max_size=8) | st.booleans(), max_size=3
)
frames = st.builds(Frame, heads, st.binary(max_size=64))


def drain(reader: FrameReader) -> list[Frame]:
    return list(iter(reader.next_frame, None))


def decode(chunks: list[bytes]) -> list[Frame]:
    reader = FrameReader()
    result = []
    for chunk in chunks:
        reader.feed(chunk)
        result += drain(reader)
    return result


@given(st.lists(frames, max_size=4), st.lists(st.integers(0, 400), max_size=6))
def test_any_chunking_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    data = b"".join(map(encode, sent))
    edges = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    chunks = [data[a:b] for a, b in itertools.pairwise(edges)]

    assert decode(chunks) == sent


@given(st.binary(max_size=200), frames, st.lists(st.integers(0, 300), max_size=4))
def test_sync_drops_whatever_was_before_it(
    old: bytes, frame: Frame, cuts: list[int]
) -> None:
    # Half a frame of an earlier session, of which the rest will never come.
    unfinished = wire.HEADER.pack(1000, 100_000) + old
    data = unfinished + SYNC + encode(frame)
    edges = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    chunks = [data[a:b] for a, b in itertools.pairwise(edges)]

    assert decode(chunks) == [frame]


@pytest.mark.parametrize(
    "data",
    [
        wire.HEADER.pack(wire.MAX_JSON + 1, 0),
        wire.HEADER.pack(2, wire.MAX_BLOB + 1),
        wire.HEADER.pack(3, 0) + b"{1}",
        wire.HEADER.pack(2, 0) + b"[]",
        wire.HEADER.pack(1, 0) + b"\xff",
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    reader = FrameReader()
    reader.feed(data)

    with pytest.raises(WireError):
        reader.next_frame()


@given(st.binary(max_size=300))
def test_garbage_is_a_frame_or_an_error(data: bytes) -> None:
    reader = FrameReader()
    reader.feed(data)
    try:
        drain(reader)
    except WireError:
        return


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "port"))
        sock.listen()
        yield sock


def answer(listener: socket.socket, before: bytes) -> None:
    """Play the other end: old bytes, then the greeting back, then one frame."""
    peer, _ = listener.accept()
    with peer:
        reader = FrameReader()
        while (hello := reader.next_frame()) is None:
            reader.feed(peer.recv(65536))
        peer.sendall(before + SYNC + encode(hello) + encode(Frame({"op": "x"}, b"y")))


@pytest.mark.parametrize(
    "before",
    [
        b"",
        encode(Frame({"op": "hello", "nonce": "another"})),
        wire.HEADER.pack(7, 1 << 20) + b"half",
        os.urandom(100),
    ],
)
def test_connection_skips_an_earlier_session(
    listener: socket.socket, before: bytes
) -> None:
    thread = threading.Thread(target=answer, args=[listener, before])
    thread.start()

    connection = Connection(listener.getsockname(), timeout=10)
    frame = connection.receive(timeout=10)
    thread.join()

    assert frame == Frame({"op": "x"}, b"y")
    with pytest.raises(WireError, match="closed"):
        connection.receive(timeout=10)
    connection.close()


def test_connection_gives_up(listener: socket.socket) -> None:
    with pytest.raises(WireError, match="nobody answers"):
        Connection(listener.getsockname(), timeout=0.1)


def test_no_socket(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="cannot connect"):
        Connection(tmp_path / "nothing", timeout=0.05)
