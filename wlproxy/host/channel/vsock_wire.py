"""A vsock of the guest's, where its agent listens.

With AF_VSOCK the host's kernel has the connection (vhost-vsock).  Some VMMs have a vsock of their
own instead, and a Unix socket on the host: who connects there writes `CONNECT port` on a line, and
reads `OK port` on one; what follows is the guest's (Firecracker, docs/vsock.md, "Host-initiated
connections"; cloud-hypervisor, docs/vsock.md).
"""

import errno
import re
import socket
from functools import partial
from pathlib import Path
from typing import Final

import trio

from wlproxy.host.channel.unix_wire import connect_channel
from wlproxy.host.channel.wire import NobodyThereError, Wire, patiently
from wlproxy.host.channel_address import HybridVsock, Vsock
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fd_stream import FdsLostError, FdStream

NOT_THERE: Final = (
    errno.ENODEV,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
)
"""What connect(2) says of a CID without a VM, or a VM where nobody listens."""

ANSWER_SECONDS: Final = 5.0
"""For a VMM to connect to its guest; Firecracker itself gives up after two."""
MAX_ANSWER: Final = len("OK 4294967295\n")

_ANSWER: Final = re.compile(rb"OK [0-9]{1,10}\n")


class VsockWire(Wire):
    """A port of the guest's, by the host's kernel."""

    def __init__(self, address: Vsock, locks: Path | None, name: str) -> None:
        super().__init__(address, locks, name)
        self._connect = partial(connect_vsock, address)

    async def open(self, log: VmLog) -> FdStream:
        """See `Wire`."""
        return await patiently(self._connect, self.address, log)


class HybridVsockWire(Wire):
    """A port of the guest's, by the VMM's Unix socket."""

    def __init__(self, address: HybridVsock, locks: Path | None, name: str) -> None:
        super().__init__(address, locks, name)
        self._connect = partial(connect_hybrid, address)

    async def open(self, log: VmLog) -> FdStream:
        """See `Wire`."""
        return await patiently(self._connect, self.address, log)


async def connect_vsock(address: Vsock) -> FdStream:
    """Connect to a port of a guest's.

    Raises:
        NobodyThereError: there is no such VM, or nobody listens there.
        HostError: this host has no vsock, or it may not be used.
    """
    problem, tried = "cannot connect to the guest's vsock", f"connect {address}"
    remedy = (
        "As root: modprobe vhost_vsock. (A systemd unit of an older wlproxy lacks AF_VSOCK in "
        "RestrictAddressFamilies=.)"
    )
    with HostError.explaining(problem, tried="socket(AF_VSOCK)", remedy=remedy):
        sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    with closed_on_error(sock):
        sock.setblocking(False)  # noqa: FBT003 - as the library has it
        number = sock.connect_ex((address.cid, address.port))
        if number == errno.EINPROGRESS:
            await trio.lowlevel.wait_writable(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        else:
            await trio.lowlevel.checkpoint()
        if number:
            kind = NobodyThereError if number in NOT_THERE else HostError
            raise kind(problem, tried=tried, errno=number, remedy=remedy)
    return FdStream(sock)


async def connect_hybrid(address: HybridVsock) -> FdStream:
    """Connect to a port of a guest's by the socket of its VMM.

    Raises:
        NobodyThereError: there is no such VM, or nobody listens there.
        HostError: whoever is at that socket does not do what such VMMs do.
    """
    stream = await connect_channel(address.path)
    hung_up = NobodyThereError(f"the VMM at {address.path} hung up")
    with closed_on_error(stream):
        try:
            with trio.fail_after(ANSWER_SECONDS):
                await stream.send(b"CONNECT %d\n" % address.port)
                answer = await _receive_line(stream)
        except trio.TooSlowError:
            problem = f"the VMM at {address.path} does not answer"
            raise NobodyThereError(problem) from None
        except (trio.BrokenResourceError, FdsLostError) as exc:
            raise hung_up from exc
        if len(answer) < MAX_ANSWER and not answer.endswith(b"\n"):
            raise hung_up
        if not _ANSWER.fullmatch(answer):
            raise HostError(
                f"what listens at {address.path} is no vsock of a VMM: it answers "
                f"{answer!r}",
                remedy="It has to be Firecracker's `uds_path`, or the `socket=` of "
                "cloud-hypervisor's --vsock, without a port at its end.",
            )
    return stream


async def _receive_line(stream: FdStream) -> bytes:
    """Receive a line and not a byte more: what follows is the guest's.

    Returns:
        As much of it as came, up to the bytes that it may have.
    """
    line = b""
    while len(line) < MAX_ANSWER and not line.endswith(b"\n"):
        more, fds = await stream.receive(1)
        for fd in fds:
            fd.close()
        if not more:
            break
        line += more
    return line
