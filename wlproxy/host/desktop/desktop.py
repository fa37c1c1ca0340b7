"""The host's compositor as the guest's clients meet it: connections, and what it can do.

The compositor may be restarted at any time.  A connection on which nothing is said
(`wait_gone`) tells when it ends.  Its clients end with it.  Clients that come meanwhile wait
until the next compositor has been probed, because it may not accept what the last one did.
The relay decides what the compositor's abilities are used for.
"""

import errno
import math
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

import trio

from wlproxy.host.desktop.address import compositor_path, connect_compositor
from wlproxy.host.desktop.exposure import Exposure, Remark, remarks
from wlproxy.host.desktop.probe import probe_compositor
from wlproxy.host.desktop.security_context import SecurityContext
from wlproxy.host.desktop.udmabuf_device import UdmabufDevice
from wlproxy.host.errors import (
    HostError,
    NoCompositorError,
    SecurityContextError,
    UdmabufError,
)
from wlproxy.host.report.vm_log import VmLog
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.transport.fd_stream import FdStream

APP_ID = "org.wlproxy"
"""What policies of the compositor may be written for; the instance is the VM."""

CONNECT_PATIENCE = 10.0
"""Seconds that a client waits for a compositor which is being restarted."""

CONNECT_RETRY = 0.1
"""Seconds between attempts, where the compositor has gone and nobody has noticed yet."""

FIRST_LOOK, LAST_LOOK = 0.2, 5.0
"""Seconds between looks for a compositor that has gone.  The first ones cost next to
nothing; they get rarer where somebody listens but does not answer."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look at the compositor has found."""

    capabilities: CompositorCapabilities
    context: SecurityContext | None
    exposure: Exposure

    def close(self) -> None:
        """Close what was found, since nobody wants it."""
        if self.context:
            self.context.close()


class Desktop:
    """The compositor, and the device that makes dma-bufs for it."""

    def __init__(
        self,
        vm: str,
        display: str | None,
        log: VmLog,
        probe: Callable[..., CompositorCapabilities] = probe_compositor,
        *,
        policy: Collection[str] = (),
        allow: Collection[str] = (),
        isolate: bool = True,
    ) -> None:
        """Nothing is opened yet.

        Args:
            vm: names the VM to the compositor.
            display: a WAYLAND_DISPLAY to use instead of the environment's.
            log: written to.
            probe: finds out what the compositor accepts.
            policy: the globals that the guest may see, ours permitting.
            allow: those of them that the user asked for.
            isolate: use a security context, if the compositor has them.

        Raises:
            NoCompositorError: the environment does not tell where it is.
        """
        self._vm = vm
        self._log = log
        self._probe = probe
        self._policy, self._allow = policy, allow
        self._isolate = isolate
        self.remarks: tuple[Remark, ...] = ()
        """What cannot be had on this compositor, and what does not hold."""
        self.path = compositor_path(os.environ, display)
        """The compositor's socket."""
        self._context: SecurityContext | None = None
        self._capabilities: CompositorCapabilities | None = None
        self._watch: FdStream | None = None
        self._prepared = trio.Event()
        self._preparing = trio.Lock()
        self.device: UdmabufDevice | None = None
        self._no_device = ""
        self._no_zero_copy = ""

    @property
    def capabilities(self) -> CompositorCapabilities:
        """What the compositor accepts; known after `prepare`."""
        assert self._capabilities is not None
        return self._capabilities

    @property
    def there(self) -> bool:
        """Whether the compositor has been probed and is still there, as far as we know."""
        return self._prepared.is_set() and not self._gone

    @property
    def isolated(self) -> bool:
        """Whether the compositor knows whose clients these are (security context)."""
        return self._context is not None

    def obey(self, policy: Collection[str], allow: Collection[str]) -> None:
        """Judge by another policy from now on; as of `__init__`."""
        self._policy, self._allow = policy, allow

    async def prepare(self) -> None:
        """Probe the compositor: at start, and whenever it was restarted.

        Raises:
            NoCompositorError: nobody listens at its socket.
            HostError: it does not answer.
        """
        async with self._preparing:
            if self.device is None:
                self._open_device()
            # First of all, so that its end is noticed whenever it comes.
            watch = self._watch or await connect_compositor(self.path)
            try:
                found = await self._look_in_thread()
            except BaseException:
                if watch is not self._watch:
                    await watch.aclose()
                raise
            self._watch = watch
            self._close_context()
            self._context = found.context
            self._capabilities = found.capabilities
            self._say(found)
            self._prepared.set()

    async def find_device(self) -> bool:
        """Look for /dev/udmabuf again; tell whether it was found and can be used now.

        Raises:
            HostError: the compositor has gone meanwhile; `prepare` when it is back.
        """
        self._open_device()
        if self.device is None:
            return False
        await self.prepare()
        return True

    def say_if_copied(self, abilities: CompositorCapabilities) -> None:
        """Warn that every pixel will be copied, if it will; once for each reason.

        Args:
            abilities: what the compositor can do with the pages of the guest that is there;
                a domain of Xen's needs no udmabuf.
        """
        reason = ""
        if not (abilities.shm_udmabuf or abilities.dmabuf_stride_alignment):
            reason = abilities.shm_udmabuf_reason
        if reason and reason != self._no_zero_copy:
            self._log.warning("no zero-copy: %s", reason)
        self._no_zero_copy = reason

    async def connect(self) -> FdStream:
        """Make a connection for a client; if the compositor is being restarted, wait for it.

        What it connects to has been looked at (`prepare`).

        Raises:
            NoCompositorError: none came in time, or this process cannot connect to it.
        """
        with trio.move_on_after(CONNECT_PATIENCE):
            while True:
                await self._prepared.wait()
                stream = await self._connect_now()
                if stream is not None:
                    return stream
                await trio.sleep(CONNECT_RETRY)
        raise NoCompositorError(
            f"no compositor at {self.path} within {CONNECT_PATIENCE:.0f} s"
        )

    async def wait_gone(self) -> None:
        """Wait until the compositor ends; at once if it is not there."""
        try:
            watch = self._watch or await connect_compositor(self.path)
        except NoCompositorError:
            return
        async with watch:
            await watch.wait_closed(math.inf)
        self._watch = None
        self._prepared = trio.Event()

    def close(self) -> None:
        """Close the device and every connection to the compositor.  Again: nothing happens."""
        self._close_context()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        if self.device is not None:
            self.device.close()
            self.device = None

    @property
    def _gone(self) -> bool:
        return self._watch is None or self._watch.hung_up

    async def _connect_now(self) -> FdStream | None:
        """Connect to the compositor that was probed; None if it has gone."""
        context = self._context
        try:
            stream = await connect_compositor(context.path if context else self.path)
        except NoCompositorError as exc:
            if exc.errno not in (errno.ENOENT, errno.ECONNREFUSED):
                raise
            return None
        if self._gone:  # then this is perhaps the one that follows
            await stream.aclose()
            return None
        return stream

    def _open_device(self) -> None:
        try:
            self.device = UdmabufDevice()
        except UdmabufError as exc:
            if self._no_device != exc.problem:
                self._no_device = exc.problem
                self._log.info("no udmabuf: %s", exc)

    async def _look_in_thread(self) -> _Found:
        """Probe in a thread; if cancelled, do not wait for a slow compositor."""
        given_up = threading.Event()

        def look() -> _Found:
            found = self._look()
            if given_up.is_set():
                found.close()
            return found

        try:
            return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
        except trio.Cancelled:
            given_up.set()
            raise

    def _look(self) -> _Found:
        context, not_isolated = None, "" if self._isolate else "--no-security-context"
        try:
            if self._isolate:
                context = SecurityContext(self.path, APP_ID, self._vm)
        except SecurityContextError as exc:
            not_isolated = exc.explanation
        path = context.path if context else self.path
        try:
            capabilities = self._probe(path, self.device, self._no_device)
        except BaseException:
            if context:
                context.close()
            raise
        guests = capabilities.global_versions
        everybody = context.outside if context else guests
        return _Found(capabilities, context, Exposure(everybody, guests, not_isolated))

    def _say(self, found: _Found) -> None:
        abilities = found.capabilities
        shm = "yes" if abilities.shm_udmabuf else f"no, {abilities.shm_udmabuf_reason}"
        count = len(abilities.dmabuf_stride_alignment)
        dmabuf = f"{count} formats" if count else f"no, {abilities.dmabuf_reason}"
        self._log.info(
            "compositor %s: udmabuf as wl_shm (A): %s; as linux-dmabuf (B): %s",
            self.path,
            shm,
            dmabuf,
        )
        told, exposure = self.remarks, found.exposure
        self.remarks = tuple(remarks(exposure, self._policy, self._allow))
        for remark in self.remarks:
            if remark not in told:
                self._log.log(remark.level, "%s", remark.text)

    def _close_context(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None


async def prepare_when_back(desktop: Desktop, log: VmLog) -> None:
    """Look every so often for a desktop that has gone, and prepare it once it is back."""
    pause, said = FIRST_LOOK, ""
    while True:
        await trio.sleep(pause)
        try:
            await desktop.prepare()
        except NoCompositorError:
            pause = FIRST_LOOK
        except HostError as exc:
            if said != exc.problem:
                said = exc.problem
                log.warning("the compositor is not ready: %s", exc)
            pause = min(2 * pause, LAST_LOOK)
        else:
            return
