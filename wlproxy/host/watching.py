"""Watches what the host may lose and get while the proxy runs: its compositor, and /dev/udmabuf."""

from collections.abc import Callable
from contextlib import suppress

from wlproxy.host.desktop.desktop import Desktop, prepare_when_back
from wlproxy.host.errors import HostError
from wlproxy.host.report.progress import Progress
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.session import Session

Found = Callable[[], Session | None]
"""Finds the session that there is now."""


async def watch_compositor(
    desktop: Desktop, progress: Progress, found: Found, log: VmLog
) -> None:
    """Notice that the compositor ends, and look anew at the one that follows.

    The session goes on: the clients that the old one had have lost their connections,
    and those that come wait for the new one.
    """
    while True:
        await desktop.wait_gone()
        progress.set_compositor(there=False)
        if session := found():
            session.compositor_away()
        log.warning("the compositor has gone; waiting for it")
        await prepare_when_back(desktop, log)
        log.info("the compositor is back")
        progress.set_compositor(there=True)
        if session := found():
            session.use_desktop(desktop.capabilities)


async def watch_devices(desktop: Desktop, found: Found, log: VmLog) -> None:
    """Notice that /dev/udmabuf comes, or that we may use it at last."""
    if desktop.device is not None:
        return
    try:
        # Here, since it is mostly there, and libudev takes a while.
        from wlproxy.host.desktop.udmabuf_watch import DeviceWatch  # noqa: PLC0415

        watch = DeviceWatch()
    except (ImportError, OSError) as exc:
        log.info("/dev/udmabuf is only looked for at the start: %s", exc)
        return
    while desktop.device is None:
        await watch.wait()
        with suppress(HostError):
            if await desktop.find_device() and (session := found()):
                session.use_desktop(desktop.capabilities)
