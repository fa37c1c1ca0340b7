"""A compositor with wp_security_context_v1, which denies sandboxed clients what a test says.

What is done about the globals is libwayland's own filter, as in real compositors.
"""

import ctypes
import os
import socket
from collections.abc import Collection
from pathlib import Path

import trio
from pywayland.protocol.security_context_v1 import WpSecurityContextManagerV1

from tests.peers.compositor import Compositor
from tests.peers.libwayland import SYMBOLS, Resource, ServerClient, address
from wlproxy.transport.fds import OwnedFd

_FILTER = ctypes.CFUNCTYPE(
    ctypes.c_bool, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
_POINTER = ctypes.c_void_p
SYMBOLS.wl_display_set_global_filter.argtypes = (_POINTER, _FILTER, _POINTER)
SYMBOLS.wl_global_get_interface.argtypes = [ctypes.c_void_p]
SYMBOLS.wl_global_get_interface.restype = ctypes.c_void_p


class SandboxedClient(ServerClient):
    """One that came through a security context."""


class SandboxingCompositor(Compositor):
    """Clients that come through a security context do not see all globals."""

    def __init__(self, denied: Collection[str]) -> None:
        """Nobody is connected.

        Args:
            denied: interfaces that it denies to them, besides the protocol's own.
        """
        super().__init__()
        self.denied = {WpSecurityContextManagerV1.name, *denied}
        self.add_global(WpSecurityContextManagerV1, 1)
        self.handlers[WpSecurityContextManagerV1.name, "create_listener"] = _listener
        self.handlers["wp_security_context_v1", "commit"] = self._commit
        self._filter = _FILTER(self._shows)
        SYMBOLS.wl_display_set_global_filter(address(self.pointer), self._filter, None)
        self._contexts = trio.open_memory_channel[tuple[int, int]](9)

    @property
    def sandboxed(self) -> set[int]:
        """The clients, by address, that are connected: the next client may be where one was."""
        return {
            address(client.pointer)
            for client in self.clients
            if isinstance(client, SandboxedClient)
        }

    async def run(
        self,
        path: Path,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve, also at the listeners that clients bring."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_contexts, nursery)
            await super().run(path, task_status)

    def _shows(self, client: int, global_: int, _data: int) -> bool:
        interface = SYMBOLS.wl_global_get_interface(global_)
        name = ctypes.c_char_p.from_address(interface).value or b""
        return client not in self.sandboxed or name.decode() not in self.denied

    def _commit(self, context: Resource) -> None:
        self._contexts[0].send_nowait(context.state)

    async def _serve_contexts(self, nursery: trio.Nursery) -> None:
        async for listener, close in self._contexts[1]:
            nursery.start_soon(self._serve_context, listener, close)

    async def _serve_context(self, listener: int, close: int) -> None:
        with (
            OwnedFd(close),
            trio.socket.from_stdlib_socket(socket.socket(fileno=listener)) as listening,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._accept_sandboxed, listening)
                await trio.lowlevel.wait_readable(close)  # it has hung up
                nursery.cancel_scope.cancel()

    async def _accept_sandboxed(self, listening: trio.socket.SocketType) -> None:
        while True:
            connected, _ = await listening.accept()
            SandboxedClient(self, connected.detach())


def _listener(_: Resource, context: Resource, listener: int, close: int) -> None:
    os.set_blocking(listener, False)
    context.state = (listener, close)
