import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.host.conftest import Weston
from tests.peers.compositor import Compositor
from wlproxy.host.desktop import wayland_client
from wlproxy.host.desktop.wayland_client import MAX_ANSWER, WaylandClient
from wlproxy.host.errors import CompositorRefusedError, NoCompositorError
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.transport.fds import OwnedFd


def test_reads_the_registry_and_binds(weston: Weston) -> None:
    with WaylandClient(weston.socket) as client:
        assert client.global_versions["wl_compositor"] >= 4
        client.bind("wl_compositor", 4).create("create_surface")
        client.roundtrip()


def test_absent_globals_are_key_errors(weston: Weston) -> None:
    with WaylandClient(weston.socket) as client:
        assert "wl_seat" not in client.global_versions  # weston headless has none
        with pytest.raises(KeyError):
            client.bind("wl_seat", 1)


def test_closing_twice_is_fine(weston: Weston) -> None:
    client = WaylandClient(weston.socket)
    client.close()
    client.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NoCompositorError, match="no compositor at"):
        WaylandClient(tmp_path / "wl")


def test_compositor_hangs_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wl"))
        listener.listen()

        def hang_up() -> None:
            listener.accept()[0].close()

        server = threading.Thread(target=hang_up)
        server.start()
        with pytest.raises(CompositorRefusedError, match="ended the connection"):
            WaylandClient(tmp_path / "wl")
        server.join()


def test_compositor_that_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wayland_client, "TIMEOUT", 0.1)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wl"))
        listener.listen()
        with pytest.raises(CompositorRefusedError, match="does not answer"):
            WaylandClient(tmp_path / "wl")


def test_no_answer_is_waited_for_after_the_deadline(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wl"))
        listener.listen()
        with pytest.raises(CompositorRefusedError, match="does not answer"):
            WaylandClient(tmp_path / "wl", deadline=time.monotonic())


# ---------------------------------------------------------------- what is answered

REGISTRY, CALLBACK = 2, 3
DONE = struct.pack("=III", CALLBACK, 12 << 16, 0)


@contextmanager
def answering(path: Path, *answers: bytes) -> Iterator[Path]:
    """A compositor that says this to its one client, and hangs up once that does."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            client, _ = listener.accept()
            with client, suppress(ConnectionError):  # our client leaves when it likes
                client.recv(65536)
                for each in answers:
                    client.sendall(each)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass

        server = threading.Thread(target=answer)
        server.start()
        yield path
        server.join()


def event(sender: int, opcode: int, body: bytes) -> bytes:
    return struct.pack("=II", sender, (8 + len(body)) << 16 | opcode) + body


def text(said: bytes) -> bytes:
    data = said + b"\0"
    return struct.pack("=I", len(data)) + data + bytes(-len(data) % 4)


def test_an_answer_without_end_is_refused(tmp_path: Path) -> None:
    """Each global is remembered: a compositor has some dozens, not hundreds of thousands."""
    names = [f"x{number:08}".encode() + b"y" * 3000 for number in range(400)]
    shown = [
        struct.pack("=I", number) + text(name) + struct.pack("=I", 1)
        for number, name in enumerate(names)
    ]
    said = b"".join(event(REGISTRY, 0, each) for each in shown)
    assert len(said) > MAX_ANSWER
    with (
        answering(tmp_path / "much", said) as path,
        pytest.raises(CompositorRefusedError, match="with more than 1 MiB"),
    ):
        WaylandClient(path)
    whole = len(said) // len(shown) * (len(shown) // 2)
    with (
        answering(tmp_path / "enough", said[:whole], DONE) as path,
        WaylandClient(path) as client,
    ):
        assert len(client.global_versions) == len(shown) // 2


ERROR = event(1, 0, struct.pack("=II", REGISTRY, 1) + text(b"invalid method 7"))


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (ERROR, "ended the connection: error 1 of wl_registry: invalid method 7"),
        (
            event(1, 0, struct.pack("=II", 77, 1) + text(b"x")),
            "of an unknown object: x",
        ),
        (event(77, 0, b""), "breaks the protocol: event of object 77"),
        (
            event(REGISTRY, 9, b""),
            "breaks the protocol: wl_registry@2 version 1 has no",
        ),
        (event(REGISTRY, 0, b"abcd"), "breaks the protocol: wl_registry.global"),
        (struct.pack("=II", 1, 4 << 16), "breaks the protocol: object 1: message size"),
        (b"", "ended the connection$"),
    ],
)
def test_why_it_ended_is_said(tmp_path: Path, said: bytes, problem: str) -> None:
    with (
        answering(tmp_path / "wl", said) as path,
        pytest.raises(CompositorRefusedError, match=problem),
    ):
        WaylandClient(path)


@given(st.lists(st.binary(max_size=64), max_size=8))
@settings(max_examples=60, deadline=None)
def test_garbage_ends_the_connection_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    directory = tmp_path_factory.mktemp("g")
    with (
        answering(directory / "wl", *pieces) as path,
        pytest.raises(CompositorRefusedError),
    ):
        WaylandClient(path)


def test_a_roundtrip_has_a_limit_whatever_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wayland_client, "TIMEOUT", 0)
    with (
        answering(tmp_path / "wl", event(REGISTRY, 1, struct.pack("=I", 5))) as path,
        pytest.raises(CompositorRefusedError, match="does not answer"),
    ):
        WaylandClient(path)


def test_events_may_come_in_pieces(tmp_path: Path) -> None:
    body = struct.pack("=I", 5) + text(b"wl_seat") + struct.pack("=I", 9)
    said = event(REGISTRY, 0, body) + DONE
    with (
        answering(tmp_path / "wl", *(bytes([each]) for each in said)) as path,
        WaylandClient(path) as client,
    ):
        assert client.global_versions == {"wl_seat": 9}
        with pytest.raises(CompositorRefusedError, match="ended the connection"):
            client.roundtrip()


def test_the_reason_is_heard_though_a_request_came_too_late(tmp_path: Path) -> None:
    """The compositor has hung up by then: what it said before is there to be read."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "wl"))
        listener.listen()
        read, gone = threading.Event(), threading.Event()

        def answer() -> None:
            with listener.accept()[0] as client:
                client.recv(65536)
                body = struct.pack("=I", 5) + text(b"wl_seat") + struct.pack("=I", 9)
                client.sendall(event(REGISTRY, 0, body) + DONE)
                read.wait(10)
                client.sendall(ERROR)
            gone.set()

        server = threading.Thread(target=answer)
        server.start()
        with WaylandClient(tmp_path / "wl") as client:
            read.set()
            gone.wait(10)
            with pytest.raises(CompositorRefusedError, match="invalid method 7"):
                client.bind("wl_seat", 9)
        server.join()


def test_what_is_no_request_of_that_kind_is_our_own_mistake(weston: Weston) -> None:
    with WaylandClient(weston.socket) as client:
        compositor = client.bind("wl_compositor", 4)
        with pytest.raises(KeyError):
            compositor.send("commit")
        with pytest.raises(KeyError):
            compositor.on("enter", print)
        surface = compositor.create("create_surface")
        with pytest.raises(LocalProtocolError):
            surface.send("damage", 1, 2, 3)


async def asked(directory: Path, ask: Callable[[WaylandClient], Any]) -> Any:
    """Ask a compositor of libwayland's, which imports dma-bufs."""
    path = directory / "wl"

    def in_a_thread() -> Any:
        with WaylandClient(path) as client:
            return ask(client)

    async with trio.open_nursery() as nursery:
        await nursery.start(Compositor(dmabuf=True).run, path)
        try:
            return await trio.to_thread.run_sync(in_a_thread)
        finally:
            nursery.cancel_scope.cancel()


async def test_an_object_that_an_event_makes_can_be_used(tmp_path: Path) -> None:
    def import_one(client: WaylandClient) -> list[str]:
        params = client.bind("zwp_linux_dmabuf_v1", 3).create("create_params")
        made: list[Any] = []
        params.on("created", made.append)
        with OwnedFd(os.memfd_create("planes", os.MFD_CLOEXEC)) as memory:
            os.ftruncate(memory.fileno(), 1 << 16)
            params.send("add", 0, 0, 256, 0, 0, fds=(memory.fileno(),))
            params.send("create", 64, 64, 0x34325258, 0)
            client.roundtrip()
        surface = client.bind("wl_compositor", 4).create("create_surface")
        surface.send("attach", made[0], 0, 0)
        surface.send("commit")
        client.roundtrip()
        made[0].send("destroy")
        client.roundtrip()
        return [each.interface.name for each in made]

    assert await asked(tmp_path, import_one) == ["wl_buffer"]
