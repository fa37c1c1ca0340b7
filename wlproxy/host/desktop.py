"""The host's compositor as the guest's clients meet it: connections, and its abilities.

It may be restarted at any time; a connection that says nothing (`wait_gone`) tells.
What its abilities are used for is decided in the relay.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from wlproxy.host.compositor import compositor_path, connect_compositor
from wlproxy.host.errors import (
    FdsLostError,
    HostError,
    NoCompositorError,
    SecurityContextError,
    UdmabufError,
)
from wlproxy.host.probe import probe_compositor
from wlproxy.host.security_context import SecurityContext
from wlproxy.host.udmabuf import UdmabufDevice
from wlproxy.host.unix_socket import FdStream
from wlproxy.host.vm_log import VmLog
from wlproxy.relay.presentation import CompositorCapabilities

APP_ID = "org.wlproxy"
"""What policies of the compositor may be written for; the instance is the VM."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What came of looking at the compositor."""

    capabilities: CompositorCapabilities
    context: SecurityContext | None
    no_context: str


class Desktop:
    """The compositor, and the device that makes dma-bufs for it."""

    def __init__(
        self,
        vm: str,
        display: str | None,
        log: VmLog,
        probe: Callable[..., CompositorCapabilities] = probe_compositor,
    ) -> None:
        """Nothing is opened yet.

        Args:
            vm: names the VM to the compositor.
            display: a WAYLAND_DISPLAY to use instead of the environment's.
            log: written to.
            probe: finds out what the compositor accepts.

        Raises:
            NoCompositorError: the environment does not tell where it is.
        """
        self._vm = vm
        self._log = log
        self._probe = probe
        self._path = compositor_path(os.environ, display)
        self._context: SecurityContext | None = None
        self._capabilities: CompositorCapabilities | None = None
        self.device: UdmabufDevice | None = None
        self._no_device = ""

    @property
    def path(self) -> Path:
        """The compositor's socket."""
        return self._path

    @property
    def capabilities(self) -> CompositorCapabilities:
        """What it accepts; after `prepare`."""
        assert self._capabilities is not None
        return self._capabilities

    @property
    def isolated(self) -> bool:
        """Whether the compositor knows whose clients these are (security context)."""
        return self._context is not None

    async def prepare(self) -> None:
        """Look at the compositor: at start, and when it was restarted.

        Raises:
            NoCompositorError: nobody listens at its socket.
            HostError: it does not answer.
        """
        if self.device is None:
            self._open_device()
        found = await trio.to_thread.run_sync(self._look)
        self._close_context()
        self._context = found.context
        self._capabilities = found.capabilities
        self._say(found)

    async def find_device(self) -> bool:
        """Look for /dev/udmabuf again; say whether it was found, and is of use now.

        Raises:
            HostError: the compositor has gone meanwhile; `prepare` when it is back.
        """
        self._open_device()
        if self.device is None:
            return False
        await self.prepare()
        return True

    async def connect(self) -> FdStream:
        """Make a connection for a client.

        Raises:
            NoCompositorError: nobody listens there (any more).
        """
        context = self._context
        return await connect_compositor(context.path if context else self._path)

    async def wait_gone(self) -> None:
        """Wait until the compositor ends; at once if it is not there."""
        try:
            stream = await connect_compositor(self._path)
        except NoCompositorError:
            return
        async with stream:
            with suppress(trio.BrokenResourceError, FdsLostError):
                while True:
                    received, fds = await stream.receive()
                    for fd in fds:
                        fd.close()
                    if not received:
                        return

    def close(self) -> None:
        """Close the device and the security context.  Again: nothing happens."""
        self._close_context()
        if self.device is not None:
            self.device.close()
            self.device = None

    def _open_device(self) -> None:
        try:
            self.device = UdmabufDevice()
        except UdmabufError as exc:
            if self._no_device != exc.problem:
                self._no_device = exc.problem
                self._log.warning("no zero-copy: %s", exc)

    def _look(self) -> _Found:
        context, no_context = None, ""
        try:
            context = SecurityContext(self._path, APP_ID, self._vm)
        except SecurityContextError as exc:
            no_context = exc.problem
        path = context.path if context else self._path
        try:
            capabilities = self._probe(path, self.device, self._no_device)
        except BaseException:
            if context:
                context.close()
            raise
        return _Found(capabilities, context, no_context)

    def _say(self, found: _Found) -> None:
        abilities = found.capabilities
        shm = "yes" if abilities.shm_udmabuf else f"no, {abilities.shm_udmabuf_reason}"
        count = len(abilities.dmabuf_stride_alignment)
        dmabuf = f"{count} formats" if count else f"no, {abilities.dmabuf_reason}"
        self._log.info(
            "compositor %s: udmabuf as wl_shm (A): %s; as linux-dmabuf (B): %s",
            self._path,
            shm,
            dmabuf,
        )
        if found.no_context:
            self._log.info("no security context: %s", found.no_context)

    def _close_context(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None


async def prepare_when_back(desktop: Desktop, seconds: float) -> None:
    """Prepare a desktop that has gone, as soon as it is back; look every so often."""
    while True:
        await trio.sleep(seconds)
        with suppress(HostError):
            await desktop.prepare()
            return
