import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.screen.fake_qemu import FakeFile
from tests.strategies import chunked
from wlproxy.protocol.errors import CompositorError
from wlproxy.protocol.wayland.message import Message
from wlproxy.screen.wayland_connection import MAX_WAITING_FDS, WaylandConnection

REGISTRY = 2


def event(object_id: int, opcode: int, *words: int | bytes) -> bytes:
    body = b""
    for word in words:
        if isinstance(word, bytes):
            text = word + b"\0"
            body += struct.pack("=I", len(text)) + text + bytes(-len(text) % 4)
        else:
            body += struct.pack("=I", word)
    return struct.pack("=II", object_id, (8 + len(body)) << 16 | opcode) + body


def announced(*interfaces: tuple[str, int]) -> bytes:
    return b"".join(
        event(REGISTRY, 0, name, interface.encode(), version)
        for name, (interface, version) in enumerate(interfaces, 1)
    )


def sent(connection: WaylandConnection[FakeFile]) -> bytes:
    return b"".join(out.data for out in connection.take_output())


@pytest.fixture
def connection() -> WaylandConnection[FakeFile]:
    connection = WaylandConnection[FakeFile]()
    connection.take_output()
    connection.receive(announced(("wl_seat", 7), ("wl_shm", 1), ("wl_seat", 9)))
    return connection


def test_it_begins_with_the_registry() -> None:
    assert sent(WaylandConnection[FakeFile]()) == event(1, 1, REGISTRY)


def test_a_global_is_bound(connection: WaylandConnection[FakeFile]) -> None:
    seat = connection.bind("wl_seat", 8)
    assert connection.version(seat) == 7
    assert sent(connection) == event(REGISTRY, 0, 1, b"wl_seat", 7, seat)
    with pytest.raises(CompositorError, match="no wl_output"):
        connection.bind("wl_output", 1)


def test_events_are_told_and_fds_closed(
    connection: WaylandConnection[FakeFile],
) -> None:
    told: list[tuple[str, Message[FakeFile]]] = []
    seat = connection.bind("wl_seat", 7)
    keyboard = connection.create(
        seat, "get_keyboard", handler=lambda *each: told.append(each)
    )
    keymap = FakeFile()
    connection.receive(event(keyboard, 0, 1, 100), (keymap,))
    (only,) = told
    assert only[0] == "keymap"
    assert only[1].fds == (keymap,)
    assert keymap.closed


def test_what_is_destroyed_tells_nothing_but_takes_its_fds(
    connection: WaylandConnection[FakeFile],
) -> None:
    told: list[object] = []
    seat = connection.bind("wl_seat", 7)
    keyboard = connection.create(
        seat, "get_keyboard", handler=lambda *each: told.append(each)
    )
    connection.destroy(keyboard, "release")
    keymap = FakeFile()
    connection.receive(event(keyboard, 0, 1, 100), (keymap,))
    assert (told, keymap.closed) == ([], True)


def test_an_id_is_used_again_once_it_is_free(
    connection: WaylandConnection[FakeFile],
) -> None:
    done: list[bool] = []
    connection.sync(lambda: done.append(True))
    callback = struct.unpack_from("=I", sent(connection), 8)[0]
    connection.receive(event(callback, 0, 7))
    assert done
    other = connection.bind("wl_shm", 1)
    assert other != callback
    connection.receive(event(1, 1, callback))
    assert connection.bind("wl_shm", 1) == callback


def test_fds_wait_held_for_whoever_sends(
    connection: WaylandConnection[FakeFile],
) -> None:
    shm = connection.bind("wl_shm", 1)
    connection.take_output()
    file = FakeFile()
    pool = connection.create(shm, "create_pool", None, 64, fds=(file,))
    connection.destroy(pool)
    (out,) = connection.take_output()
    assert (out.fds, file.holds) == ((file,), 1)
    assert out.data == event(shm, 0, pool, 64) + event(pool, 1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (event(1, 0, 2, 3, b"bad thing"), r"bad thing \(code 3\)"),
        (event(99, 0), "no object: 99"),
        (event(1, 1, 99), "no object 99"),
        (event(1, 1, 1), "no object 1"),
        (event(1, 7), "opcode 7"),
        (struct.pack("=II", 1, 4 << 16), "size 4"),
        (event(REGISTRY, 0, 1), "broke the protocol"),
    ],
)
def test_what_ends_it(
    connection: WaylandConnection[FakeFile], data: bytes, why: str
) -> None:
    with pytest.raises(CompositorError, match=why):
        connection.receive(data)


def test_fds_of_no_event(connection: WaylandConnection[FakeFile]) -> None:
    files = [FakeFile() for _ in range(MAX_WAITING_FDS + 1)]
    with pytest.raises(CompositorError, match="65 fds"):
        connection.receive(b"", files)
    connection.close()
    assert all(file.closed for file in files)


@given(st.data())
def test_any_chunking(data: st.DataObject) -> None:
    connection = WaylandConnection[FakeFile]()
    for chunk in data.draw(chunked(announced(("wl_seat", 7), ("wl_shm", 1)))):
        connection.receive(chunk)
    assert {name: each.version for name, each in connection.globals.items()} == {
        "wl_seat": 7,
        "wl_shm": 1,
    }


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_garbage(chunks: list[bytes]) -> None:
    connection = WaylandConnection[FakeFile]()
    try:
        for chunk in chunks:
            connection.receive(chunk)
    except CompositorError:
        return
