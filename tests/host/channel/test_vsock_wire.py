"""Vsocks: those of VMMs with a Unix socket, byte for byte; the kernel's need a lab."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wlproxy.host.channel.vsock_wire import (
    ANSWER_SECONDS,
    MAX_ANSWER,
    HybridVsockWire,
    VsockWire,
    connect_hybrid,
    connect_vsock,
)
from wlproxy.host.channel.wire import NobodyThereError
from wlproxy.host.channel_address import HybridVsock, Vsock
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog

LOG = VmLog("test")
NOWHERE = Vsock(2, 9)
"""The host of this machine, if it is a guest; no address at all if it is none."""


class Vmm:
    """What listens at Firecracker's `uds_path`."""

    def __init__(self, path: Path) -> None:
        self.address = HybridVsock(path, 5000)
        self.listener = trio.socket.socket(socket.AF_UNIX)

    async def accept(self) -> trio.SocketStream:
        """Take a connection and what it asks for."""
        connection, _ = await self.listener.accept()
        stream = trio.SocketStream(connection)
        asked = b""
        while not asked.endswith(b"\n"):
            asked += await stream.receive_some(1)
        assert asked == b"CONNECT 5000\n"
        return stream


@pytest.fixture
async def vmm(tmp_path: Path) -> AsyncIterator[Vmm]:
    vmm = Vmm(tmp_path / "v.sock")
    await vmm.listener.bind(str(vmm.address.path))
    vmm.listener.listen()
    yield vmm
    vmm.listener.close()


@asynccontextmanager
async def answering(vmm: Vmm, answer: bytes, *, close: bool) -> AsyncIterator[None]:
    """Answer one connection, in single bytes."""

    async def answer_one() -> None:
        async with await vmm.accept() as stream:
            for byte in answer:
                try:
                    await stream.send_all(bytes([byte]))
                except trio.BrokenResourceError:
                    return
            if not close:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_one)
        yield
        nursery.cancel_scope.cancel()


async def test_what_follows_the_answer_is_the_guests(vmm: Vmm) -> None:
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            async with await vmm.accept() as stream:
                await stream.send_all(b"OK 1073741824\nguest")
                assert await stream.receive_some(9) == b"host"

        nursery.start_soon(serve)
        async with await HybridVsockWire(vmm.address, None, "test").open(LOG) as stream:
            assert (await stream.receive())[0] == b"guest"
            await stream.send(b"host")


@pytest.mark.parametrize("answer", [b"", b"O", b"OK 12"])
async def test_nobody_listens_in_the_guest(vmm: Vmm, answer: bytes) -> None:
    """Firecracker hangs up then, without a word."""
    async with answering(vmm, answer, close=True):
        with pytest.raises(NobodyThereError, match="hung up"):
            await connect_hybrid(vmm.address)


@pytest.mark.parametrize(
    "answer",
    [
        b"\n",
        b"ERR 1\n",
        b"OK\n",
        b"OK \n",
        b"OK x\n",
        b"OK 1 \n",
        b"x" * 99,
        b"\0" * 99,
    ],
)
async def test_it_is_no_vsock(vmm: Vmm, answer: bytes) -> None:
    async with answering(vmm, answer, close=False):
        with pytest.raises(HostError, match="is no vsock of a VMM") as caught:
            await connect_hybrid(vmm.address)
    assert not isinstance(caught.value, NobodyThereError)


@given(answer=st.binary(max_size=40), close=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_answer_is_ok_or_an_error(
    tmp_path: Path, answer: bytes, *, close: bool
) -> None:
    async def go() -> None:
        vmm = Vmm(tmp_path / "any.sock")
        await vmm.listener.bind(str(vmm.address.path))
        vmm.listener.listen()
        try:
            async with answering(vmm, answer, close=close):
                try:
                    stream = await connect_hybrid(vmm.address)
                except HostError:
                    return
                await stream.aclose()
                assert answer.startswith(b"OK ")
                assert b"\n" in answer[:MAX_ANSWER]
        finally:
            vmm.listener.close()
            vmm.address.path.unlink()

    trio.run(go, clock=trio.testing.MockClock(autojump_threshold=0.01))


async def test_one_that_is_slow_is_waited_for_and_tried_again(
    vmm: Vmm, autojump_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            mute = await vmm.accept()
            assert await mute.receive_some(1) == b""
            assert trio.current_time() >= ANSWER_SECONDS
            await mute.aclose()
            async with await vmm.accept() as stream:
                await stream.send_all(b"OK 7\n")

        nursery.start_soon(serve)
        wire = HybridVsockWire(vmm.address, None, "test")
        async with await wire.open(LOG):
            pass


async def test_there_is_no_vmm_yet(tmp_path: Path) -> None:
    with pytest.raises(NobodyThereError, match="ENOENT"):
        await connect_hybrid(HybridVsock(tmp_path / "v", 5000))


def needs_vsock() -> None:
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError as exc:
        pytest.skip(f"the kernel has no AF_VSOCK ({exc.strerror})")


async def test_a_guest_that_is_not_there() -> None:
    needs_vsock()
    with pytest.raises(NobodyThereError) as caught:
        await connect_vsock(NOWHERE)
    assert caught.value.errno
    assert "modprobe vhost_vsock" in caught.value.remedy


async def test_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    needs_vsock()
    caplog.set_level("INFO")
    monkeypatch.setattr("wlproxy.host.channel.wire.FIRST_RETRY", 0.001)
    with trio.move_on_after(1):
        await VsockWire(NOWHERE, None, "test").open(LOG)
    assert caplog.text.count("waiting for the VM at vsock:2:9") == 1


async def test_a_kernel_without_vsock(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", none)
    with pytest.raises(HostError, match="EAFNOSUPPORT") as caught:
        await connect_vsock(Vsock(3, 5000))
    assert not isinstance(caught.value, NobodyThereError)
