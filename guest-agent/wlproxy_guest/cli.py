"""The command line of the agent: starts a `Server` and explains its errors."""

import argparse
import gc
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import trio

from wlproxy import __version__
from wlproxy.protocol.channel.frames import PORT_NAME
from wlproxy.transport.fds import raise_fd_limit
from wlproxy.transport.journal import is_journal
from wlproxy_guest import vchan
from wlproxy_guest.doctor import diagnose
from wlproxy_guest.launchers import Launchers, launching
from wlproxy_guest.locating.locators import make_locator
from wlproxy_guest.logs import log_to_stderr
from wlproxy_guest.quotas import MIB, Limits, half_of_ram
from wlproxy_guest.server import Server
from wlproxy_guest.unix_socket import Listener, SocketError, adopt_activated, listen
from wlproxy_guest.vsock import FirstOf, VsockPort, parse_port
from wlproxy_guest.wire import WireSource
from wlproxy_guest.xen_console import parse_source

LEVELS: Final = ("debug", "info", "warning", "error")
DOCTOR: Final = "doctor"
VCHAN: Final = "xen-vchan"
SWITCH_SECONDS: Final = 0.0005
"""How long the event loop waits for a thread that joins a buffer's pages: not Python's 5 ms."""
ANEW_PAUSE: Final = 1.0
"""Seconds until an agent that failed begins anew: perhaps there is memory then."""

log = logging.getLogger(__name__)


class Options(argparse.Namespace):
    """What the command line said."""

    command: str | None
    socket: Path
    launch_socket: Path | None
    launch_user: list[str]
    port: WireSource
    vsock: VsockPort | None
    vchan_socket: Path
    vchan_user: str
    vchan_domid: int
    log_level: str
    max_clients: int
    max_pinned_mib: int
    max_pinned_total_mib: int

    @property
    def source(self) -> WireSource:
        """Where a host may be."""
        return self.port if self.vsock is None else FirstOf(self.vsock, self.port)

    @property
    def vchan(self) -> tuple[Path, str, int]:
        """Where a vchan is joined, for whom, with which domain."""
        return self.vchan_socket, self.vchan_user, self.vchan_domid

    @property
    def limits(self) -> Limits:
        """The quotas."""
        return Limits(
            clients=self.max_clients,
            pinned=self.max_pinned_mib * MIB,
            pinned_total=self.max_pinned_total_mib * MIB or half_of_ram(),
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent until it is told to stop, or the doctor; return the exit status."""
    options = parse(arguments)
    if options.command == DOCTOR:
        text, status = diagnose(shutil.get_terminal_size().columns)
        sys.stdout.write(text)
        return status
    log_to_stderr(options.log_level)
    if options.command == VCHAN:
        with early_stop():
            return report(vchan.serve(*options.vchan))
    raise_fd_limit()
    sys.setswitchinterval(SWITCH_SECONDS)
    # What is there now stays: collections need not look at it (tens of thousands of objects).
    gc.freeze()
    failure = ""
    with early_stop():
        try:
            listener = adopt_activated() or listen(options.socket)
            try:
                with launching(options.launch_socket, options.launch_user) as lets:
                    failure = trio.run(serve, listener, options, lets)
            except Exception:
                log.exception("a bug, or no memory at all: the agent begins anew")
                begin_anew(listener)
            finally:
                listener.close()
        except (SocketError, OSError) as exc:
            failure = str(exc)
    return report(failure)


def report(failure: str) -> int:
    """Say what failed, if anything did; return the exit status."""
    if failure:
        priority = "<3>" if is_journal(sys.stderr) else ""
        print(f"{priority}wlproxy-guest-agent: {failure}", file=sys.stderr)  # noqa: T201
    return 1 if failure else 0


def begin_anew(listener: Listener) -> NoReturn:
    """Replace this process by a fresh agent that keeps only systemd's socket.

    Without memory trio itself may fail, anywhere; and of what was open then, only the
    kernel knows what is to be closed.

    Raises:
        OSError: not even that can be done.
    """
    time.sleep(ANEW_PAUSE)
    listener.hand_over()
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - ourselves


@contextmanager
def early_stop() -> Iterator[None]:
    """Make the signals that stop the agent work before it runs, too, and as cleanly."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(0)

    before = {number: signal.signal(number, leave) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop the agent: without SIGHUP if `nohup` had it ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, signal.SIGHUP


def parse(arguments: Sequence[str] | None) -> Options:
    """Read the command line; exits on a wrong one, as argparse does."""
    return make_parser().parse_args(arguments, namespace=Options())


def make_parser() -> argparse.ArgumentParser:
    """Say what the command line may have."""
    limits = Limits()
    parser = argparse.ArgumentParser(
        prog="wlproxy-guest-agent",
        description="Shows this machine's Wayland apps on the desktop of its host.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=[DOCTOR, VCHAN],
        help=f"{DOCTOR}: say what is wrong in this machine, and what to do about it; {VCHAN}:"
        " as root of a domain of Xen's, join an agent's --port with a vchan of the host's; without"
        " either, run the agent",
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
        help="the wire to the host: the name of a virtio port (of a channel, in a domain of"
        " Xen's), a device's path, unix:PATH or fd:N (default: %(default)s)",
    )
    parser.add_argument(
        "--vsock",
        type=parse_port,
        metavar="PORT",
        help="let the host connect to this port of the machine's vsock, too (`wlproxy run"
        " --channel vsock:CID:PORT` there); whichever wire has a host first is used",
    )
    parser.add_argument(
        "--vchan-socket",
        type=Path,
        default=vchan.SOCKET,
        metavar="PATH",
        help=f"where {VCHAN} lets an agent connect, whose --port then is unix:PATH (default:"
        " %(default)s)",
    )
    parser.add_argument(
        "--vchan-user",
        default=vchan.USER,
        metavar="NAME",
        help=f"whose agent {VCHAN} lets in (default: %(default)s)",
    )
    parser.add_argument(
        "--vchan-domid",
        type=int,
        default=0,
        metavar="N",
        help=f"the host's domain, with which {VCHAN} has a vchan (default: %(default)s)",
    )
    parser.add_argument(
        "--launch-socket",
        type=Path,
        default=os.environ.get("WLPROXY_LAUNCH_SOCKET") or None,
        metavar="PATH",
        help="let launchers connect here, so that the host can have them start commands"
        " (default: $WLPROXY_LAUNCH_SOCKET, else it cannot)",
    )
    parser.add_argument(
        "--launch-user",
        action="append",
        default=os.environ.get("WLPROXY_LAUNCH_USERS", "").split(),
        metavar="NAME",
        help="let in no launchers but this user's; may be repeated (default:"
        " $WLPROXY_LAUNCH_USERS, else everybody's)",
    )
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        default="info",
        help="what to log, and all that is worse (default: %(default)s)",
    )
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
    return parser


def default_socket() -> Path:
    """Return the path at which a compositor would listen."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/run/wlproxy") / "wayland-0"


async def serve(
    listener: Listener, options: Options, launchers: Launchers | None
) -> str:
    """Serve until told to stop, or until no host can come any more; return why not."""
    failure = ""
    try:
        locator = make_locator()
    except OSError as exc:
        return f"{exc.filename} cannot be opened: {exc.strerror}"
    server = Server(
        listener, options.source, locator, options.limits, launchers=launchers
    )

    async def run(nursery: trio.Nursery) -> None:
        nonlocal failure
        failure = await server.run()
        nursery.cancel_scope.cancel()

    try:
        with trio.open_signal_receiver(*stop_signals()) as signals:
            async with trio.open_nursery() as nursery:  # noqa: TID251
                nursery.start_soon(run, nursery)
                async for _ in signals:
                    await server.stop()
                    nursery.cancel_scope.cancel()
    finally:
        locator.close()
    return failure
