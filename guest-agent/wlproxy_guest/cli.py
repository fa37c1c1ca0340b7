"""The command line: arguments to a running `Server`, and errors to words."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from wlproxy import __version__
from wlproxy_guest.channel import PORT_NAME, WireSource, parse_source
from wlproxy_guest.module_locator import ModuleLocator
from wlproxy_guest.quotas import MIB, Limits
from wlproxy_guest.server import Server, raise_fd_limit
from wlproxy_guest.unix_socket import Listener, SocketError, adopt_activated, listen

LEVELS: Final = ("debug", "info", "warning", "error")


class Options(argparse.Namespace):
    """What the command line said."""

    socket: Path
    port: WireSource
    log_level: str
    max_clients: int
    max_pinned_mib: int
    max_pinned_total_mib: int

    @property
    def limits(self) -> Limits:
        """The quotas."""
        default = Limits()
        total = self.max_pinned_total_mib * MIB or default.pinned_total
        return Limits(
            clients=self.max_clients,
            pinned=min(self.max_pinned_mib * MIB, total),
            pinned_total=total,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent until it is told to stop; return the exit status."""
    options = parse(arguments)
    logging.basicConfig(
        level=options.log_level.upper(), format="%(levelname)s: %(message)s"
    )
    raise_fd_limit()
    try:
        listener = adopt_activated() or listen(options.socket)
        failure = trio.run(serve, listener, options.port, options.limits)
    except SocketError as exc:
        failure = str(exc)
    if failure:
        print(f"wlproxy-guest-agent: {failure}", file=sys.stderr)  # noqa: T201
    return 1 if failure else 0


def parse(arguments: Sequence[str] | None) -> Options:
    """Read the command line; exits on a wrong one, as argparse does."""
    limits = Limits()
    parser = argparse.ArgumentParser(
        prog="wlproxy-guest-agent",
        description="Shows this machine's Wayland apps on the desktop of its host.",
    )
    parser.add_argument(
        "--socket",
        type=Path,
        default=default_socket(),
        help="where apps connect (default: %(default)s; ignored if systemd passes one)",
    )
    parser.add_argument(
        "--port",
        type=parse_source,
        default=PORT_NAME,
        metavar="PORT",
        help="the wire to the host: a virtio port's name, a device's path, unix:PATH or"
        " fd:N (default: %(default)s)",
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info")
    parser.add_argument(
        "--max-clients",
        type=int,
        default=limits.clients,
        metavar="N",
        help="apps at once",
    )
    parser.add_argument(
        "--max-pinned-mib",
        type=int,
        default=0,
        metavar="MIB",
        help="buffers of one app that the host may read (default: 3/4 of what all may)",
    )
    parser.add_argument(
        "--max-pinned-total-mib",
        type=int,
        default=0,
        metavar="MIB",
        help="the same of all apps (default: half of the memory)",
    )
    parser.add_argument("--version", action="version", version=__version__)
    return parser.parse_args(arguments, namespace=Options())


def default_socket() -> Path:
    """Where a compositor would listen."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/run/wlproxy") / "wayland-0"


async def serve(listener: Listener, source: WireSource, limits: Limits) -> str:
    """Serve until SIGTERM or SIGINT, or until there is no host any more: why not."""
    failure = ""
    locator = ModuleLocator()
    server = Server(listener, source, locator, limits)

    async def run(nursery: trio.Nursery) -> None:
        nonlocal failure
        failure = await server.run()
        nursery.cancel_scope.cancel()

    try:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, nursery)
                async for _ in signals:
                    await server.stop()
                    nursery.cancel_scope.cancel()
    finally:
        locator.close()
        listener.close()
    return failure
