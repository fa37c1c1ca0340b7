"""The tap that records an app: what passes, what is written down, and what is not."""

import os
import socket
from collections.abc import Iterator

import pytest

from bench.conversation import Conversation, Said
from bench.record import Tapped, describe, pass_on
from bench.recording import (
    Passed,
    PassedFd,
    Speaker,
    read_recording,
    recordings,
)
from bench.scrubbing import A_KEY, KEPT, scrub
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.protocol.wayland.interface import ArgKind
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue, NewId
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.transport.fds import OwnedFd

REGISTRY = encode_message(1, INTERFACES["wl_display"].request("get_registry"), (2,))


def announced(name: int, interface: bytes, version: int) -> bytes:
    spec = INTERFACES["wl_registry"].event("global")
    return encode_message(2, spec, (name, interface, version))


def bound(name: int, interface: bytes, new_id: int) -> bytes:
    spec = INTERFACES["wl_registry"].request("bind")
    return encode_message(2, spec, (name, NewId(interface, 1, new_id)))


@pytest.fixture
def tapped() -> Tapped:
    tapped = Tapped()
    tapped.take(Speaker.APP, REGISTRY, ())
    return tapped


def said(interface: str, name: str, *args: ArgValue, event: bool = False) -> Said:
    known = INTERFACES[interface]
    spec = known.event(name) if event else known.request(name)
    speaker = Speaker.COMPOSITOR if event else Speaker.APP
    return Said(speaker, 9, spec, list(args))


# ---------------------------------------------------------------- what is taken out


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (said("xdg_toplevel", "set_title", b"secret"), [b"xxxxxx"]),
        (said("xdg_toplevel", "set_app_id", b"foot"), [b"foot"]),
        (said("wl_data_source", "offer", b"text/plain"), [b"text/plain"]),
        (said("wl_data_offer", "accept", 1, None), [1, None]),
        (said("wl_seat", "name", b"seat0", event=True), [b"xxxxx"]),
        (said("wl_keyboard", "key", 1, 2, 16, 1, event=True), [1, 2, A_KEY, 1]),
        (
            said("wl_keyboard", "enter", 1, 2, b"\x10\0\0\0", event=True),
            [1, 2, bytes(4)],
        ),
    ],
)
def test_what_may_tell_of_a_person_becomes_filler(
    before: Said, after: list[ArgValue]
) -> None:
    length = len(before.encode())
    scrub(before)
    assert before.args == after
    assert len(before.encode()) == length


@pytest.mark.parametrize("path", sorted(KEPT))
def test_what_is_kept_is_there(path: tuple[str, str, str]) -> None:
    interface, name, arg = path
    known = INTERFACES[interface]
    assert any(
        (spec.name, each.name, each.kind) == (name, arg, ArgKind.STRING)
        for spec in (*known.requests, *known.events)
        for each in spec.args
    )


def test_the_recordings_have_no_string_that_is_not_filler() -> None:
    for path in recordings():
        conversation = Conversation()
        for batch in read_recording(path).batches:
            for each in conversation.hear(batch.speaker, batch.data):
                before = list(each.args)
                scrub(each)
                assert each.args == before


# ---------------------------------------------------------------- what passes


def test_what_wlproxy_hides_is_hidden_and_comes_in_no_batch(tapped: Tapped) -> None:
    shown = announced(1, b"wl_seat", 5)
    gone = INTERFACES["wl_registry"].event("global_remove")
    removed = [encode_message(2, gone, (name,)) for name in (1, 2)]
    events = shown + announced(2, b"zwlr_layer_shell_v1", 4) + b"".join(removed)
    assert tapped.take(Speaker.COMPOSITOR, events, ()) == shown + removed[0]
    hidden = announced(3, b"zwp_linux_dmabuf_v1", 4)
    assert tapped.take(Speaker.COMPOSITOR, hidden, ()) == b""
    assert [batch.data for batch in tapped.batches] == [REGISTRY, shown + removed[0]]
    assert tapped.messages == 3


def test_a_version_is_no_higher_than_wlproxys(tapped: Tapped) -> None:
    newest = INTERFACES["wl_seat"].version
    sent = tapped.take(Speaker.COMPOSITOR, announced(1, b"wl_seat", newest + 1), ())
    assert sent == announced(1, b"wl_seat", newest)


def test_a_read_that_ends_within_a_message_is_put_together(tapped: Tapped) -> None:
    whole = announced(1, b"wl_seat", 5)
    fd = PassedFd(Passed.FILE, 10)
    assert tapped.take(Speaker.COMPOSITOR, whole[:9], (fd,)) == b""
    assert tapped.take(Speaker.COMPOSITOR, whole[9:], ()) == whole
    assert tapped.batches[-1].data == whole
    assert tapped.batches[-1].fds == (fd,)


def test_what_was_said_of_nothing_known_is_an_error(tapped: Tapped) -> None:
    unknown = encode_message(7, INTERFACES["wl_surface"].request("commit"), ())
    with pytest.raises(LocalProtocolError, match="object 7"):
        tapped.take(Speaker.APP, unknown, ())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bound(1, b"wl_nothing", 3), "unknown wl_nothing"),
        (REGISTRY[:4] + b"\x63\0\x0c\0" + REGISTRY[8:], "opcode 99"),
    ],
)
def test_what_the_tables_do_not_know_is_an_error(
    tapped: Tapped, data: bytes, message: str
) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        tapped.take(Speaker.APP, data, ())


# ---------------------------------------------------------------- through sockets


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pairs() -> Iterator[tuple[Pair, Pair]]:
    app, server = socket.socketpair(), socket.socketpair()
    yield app, server
    for each in (*app, *server):
        each.close()


def test_fds_go_with_their_bytes_and_are_described(pairs: tuple[Pair, Pair]) -> None:
    (app, near), (far, server) = pairs
    pool = INTERFACES["wl_shm"].request("create_pool")
    requests = REGISTRY + bound(1, b"wl_shm", 3)
    requests += encode_message(3, pool, (4, None, 8192))
    with OwnedFd(os.memfd_create("pool")) as memory:
        os.ftruncate(memory.fileno(), 8192)
        socket.send_fds(app, [requests], [memory.fileno()])
    app.shutdown(socket.SHUT_WR)
    tapped = pass_on(near, far, lambda _: True)
    data, fds, _, _ = socket.recv_fds(server, 4096, 9)
    assert data == requests
    with OwnedFd(fds[0]) as passed:
        assert os.fstat(passed.fileno()).st_size == 8192
    assert len(fds) == 1
    assert tapped.batches[0].fds == (PassedFd(Passed.FILE, 8192),)
    assert tapped.messages == 3


def test_it_is_enough_when_it_is_enough(pairs: tuple[Pair, Pair]) -> None:
    (app, near), (far, server) = pairs
    app.sendall(REGISTRY)
    tapped = pass_on(near, far, lambda tapped: tapped.messages < 1)
    assert server.recv(4096) == REGISTRY
    assert tapped.messages == 1


def test_who_is_gone_ends_it(pairs: tuple[Pair, Pair]) -> None:
    (app, near), (far, server) = pairs
    app.sendall(REGISTRY)
    server.close()
    assert pass_on(near, far, lambda _: True).messages <= 1


def test_what_an_fd_is() -> None:
    read, write = (OwnedFd(fd) for fd in os.pipe())
    with read, write, OwnedFd(os.open("/dev/null", os.O_RDWR)) as device:
        assert describe(read.fileno()) == PassedFd(Passed.READ)
        assert describe(write.fileno()) == PassedFd(Passed.WRITE)
        assert describe(device.fileno()) == PassedFd(Passed.OTHER)
