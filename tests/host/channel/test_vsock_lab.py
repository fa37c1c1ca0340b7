"""Both ends on a kernel with vsock_loopback: the proxy's wire and the agent's."""

import errno
import shutil
import socket
import subprocess
from contextlib import suppress

import pytest
import trio
import trio.testing

from tests.guest_agent.fakes import hello
from wlproxy.host.channel.vsock_wire import VsockWire, connect_vsock
from wlproxy.host.channel.wire import NobodyThereError
from wlproxy.host.channel_address import LOCAL_CID, Vsock
from wlproxy.host.report.vm_log import VmLog
from wlproxy.protocol.channel.frames import FrameType, Side
from wlproxy.protocol.channel.hello_scanner import Scanner
from wlproxy.protocol.channel.session import Session
from wlproxy_guest.vsock import VsockPort

pytestmark = pytest.mark.lab

ADDRESS = Vsock(LOCAL_CID, 5000)
LOG = VmLog("test")
GREETING = Session(Side.HOST).start(hello())


@pytest.fixture(autouse=True)
def loopback() -> None:
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "vsock_loopback"], check=False)
    try:
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            error = probe.connect_ex((LOCAL_CID, 9))
    except OSError as exc:
        pytest.skip(f"the kernel has no AF_VSOCK ({exc.strerror})")
    if error != errno.ECONNRESET:  # there is a way, and nobody at its end
        pytest.skip("the kernel has no vsock_loopback")


async def test_bytes_go_both_ways_and_a_second_host_is_hung_up_on() -> None:
    agent = VsockPort(ADDRESS.port, hosts=(LOCAL_CID,))
    host = VsockWire(ADDRESS, None, "test")
    for _ in range(2):  # sessions one after the other, at one port
        wires = []
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                wires.append(await agent.open())  # noqa: B023 - ends in this round

            nursery.start_soon(listen)
            stream = await host.open(LOG)
            await stream.send(GREETING)
        (wire,) = wires
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(agent.turn_away, wire)
            scanner = Scanner(FrameType.HELLO)
            while scanner.next_frame() is None:  # what comes before it is skipped
                scanner.feed(await wire.receive(65536))
            assert wire.send_at_once(b"answer")
            assert (await stream.receive())[0] == b"answer"
            await is_hung_up_on()
            assert not stream.hung_up
            nursery.cancel_scope.cancel()
        wire.close()
    agent.close()
    with pytest.raises(NobodyThereError):
        await connect_vsock(ADDRESS)


async def is_hung_up_on() -> None:
    async with await connect_vsock(ADDRESS) as stream:
        with trio.fail_after(5), suppress(trio.BrokenResourceError):
            assert (await stream.receive())[0] == b""


async def test_who_is_no_host_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    agent = VsockPort(ADDRESS.port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent.open)
        await trio.testing.wait_all_tasks_blocked()
        await is_hung_up_on()
        nursery.cancel_scope.cancel()
    agent.close()
    assert "context 1, which is no host, is refused" in caplog.text
