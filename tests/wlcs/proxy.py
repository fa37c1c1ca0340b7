"""wlproxy's proxy on the agent's own kernel, which tells its ids to the shim.

    WLCS_SHIM_IDS=PATH python -m tests.wlcs.proxy run ...

The proxy is that of `bench.proxy`: the real one, but for /dev/udmabuf.  WLCS positions windows
from outside of Wayland, at the compositor, which knows a surface by another id than WLCS does. So
a thread answers at a socket, one line for each connection: to `latest`, the number of the
client that came last; to a client's number and a surface's id in the guest, its id at the compositor, or 0.
"""

import os
import socket
import threading

from bench.proxy import LentFiles
from wlproxy import cli
from wlproxy.host.desktop import desktop
from wlproxy.protocol.wayland.interface import Interface
from wlproxy.relay.wire import context
from wlproxy.relay.wire.objects import ObjectTable

_tables: list[ObjectTable] = []


class KnownTable(ObjectTable):
    """One that can be found again."""

    __slots__ = ()

    def __init__(self, display: Interface) -> None:
        """As the other, and it has a number from now on."""
        super().__init__(display)
        _tables.append(self)


def answer(question: str) -> int:
    """Answer the shim."""
    if question.strip() == "latest":
        return len(_tables) - 1
    table, guest_id = map(int, question.split())
    for entry in list(_tables[table].guest_objects()):
        if entry.guest_id == guest_id:
            return entry.host_id
    return 0


def serve(listening: socket.socket) -> None:
    """Answer for as long as the process runs."""
    while True:
        connection, _ = listening.accept()
        with connection, connection.makefile("rw") as lines:
            lines.write(f"{answer(lines.readline())}\n")


def main() -> None:
    """Be the proxy."""
    for module, name, other in (
        (desktop, "UdmabufDevice", LentFiles),
        (context, "ObjectTable", KnownTable),
    ):
        assert name in vars(module)  # else nothing is replaced
        vars(module)[name] = other
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(os.environ["WLCS_SHIM_IDS"])
    listening.listen()
    threading.Thread(target=serve, args=(listening,), daemon=True).start()
    cli.main()


if __name__ == "__main__":
    main()
