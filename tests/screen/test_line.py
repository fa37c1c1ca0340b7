import socket
from typing import Any

import pytest
import trio

from tests.screen.fake_qemu import LET_IN
from wlproxy.protocol.dbus.messages import (
    Fields,
    Message,
    MessageKind,
    encode_message,
)
from wlproxy.screen import line as module
from wlproxy.screen.line import Line
from wlproxy.transport.fd_stream import FdStream

PATIENCE = 20


async def test_who_calls_and_does_not_read_is_hung_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_UNSENT", 1 << 16)
    ours, theirs = socket.socketpair()
    fields = Fields("/", "a.b", "Do")
    call = Message[Any](MessageKind.METHOD_CALL, fields, (), (), 1)
    data, _ = encode_message(call)
    with trio.fail_after(PATIENCE), Line(ours) as line:
        async with FdStream(theirs) as qemu, trio.open_nursery() as nursery:
            nursery.start_soon(line.run)
            await qemu.send(LET_IN)
            while not line.ended.is_set():
                with trio.move_on_after(0.1):
                    await qemu.send(data * 100)
            assert "does not read" in line.why


async def test_what_was_stuck_is_sent_once_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    with trio.fail_after(PATIENCE), Line(ours) as line:
        async with FdStream(theirs) as qemu, trio.open_nursery() as nursery:
            nursery.start_soon(line.run)
            await qemu.send(LET_IN)
            await line.wait_news()
            for _ in range(20):
                line.peer.tell("/a", "b.c", "ay", (bytes(100_000),))
            line.send_out()
            assert line.unsent
            received = 0
            while received < 2_000_000:
                data, _ = await qemu.receive()
                received += len(data)
            nursery.cancel_scope.cancel()


async def test_no_dbus() -> None:
    ours, theirs = socket.socketpair()
    with trio.fail_after(PATIENCE), Line(ours) as line:
        async with FdStream(theirs) as qemu:
            await qemu.send(b"HTTP/1.1 400 Bad Request\r\n")
            await line.run()
            assert "not understood" in line.why
            line.peer.tell("/a", "b.c", "", ())
            line.send_out()  # to nobody
