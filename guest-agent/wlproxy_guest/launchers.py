"""The launchers: who offers to have the host start commands, and as which user.

A launcher (`wlproxy_guest.launcher`) is a program that a user of the guest runs, connected to
a socket of its own.  Whom it starts commands for is decided by it, and as whom by the kernel,
which says whose it is.  What host and launcher tell each other goes through pipes that are
passed on here, and is not read: like Wayland, it is no business of the agent's.

Launchers stay connected while sessions come and go; each session offers them to its host.
"""

import logging
import pwd
import socket
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from wlproxy.protocol.channel.frames import (
    AttachmentFlags,
    ClientClosed,
    ClientReleased,
    CloseReason,
    Credit,
    Frame,
    Launch,
    LauncherOpened,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.protocol.channel.launching import PIPES
from wlproxy.protocol.channel.rules import fit_text
from wlproxy.protocol.errors import ChannelError
from wlproxy.transport.closable import closed_on_error
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks
from wlproxy_guest.hanging_files import own
from wlproxy_guest.launcher.passing import PASSED, REFUSED
from wlproxy_guest.streams import Streams
from wlproxy_guest.unix_socket import Listener, SocketError, identify_peer, listen

MAX_LAUNCHERS: Final = 16
MAX_CONNECTED: Final = 64
"""Connections at once, those included that are turned away in a moment."""
MAX_OFFERED: Final = 32
"""Launchers that the host has not released.  It takes 64: that one has gone is told in order, but
that one has come may overtake it, so what counts is what the host has let go of."""
NAME_SECONDS: Final = 5.0
"""For whoever knows the names of users (a server, perhaps) to say one."""
ACCEPT_PAUSE: Final = 0.1
"""Seconds until the next is accepted when there was nothing to accept it with."""

log = logging.getLogger(__name__)


class Launcher:
    """One that is connected."""

    def __init__(self, stream: FdStream, uid: int, user: str) -> None:
        """Take over `stream`; the kernel says whose it is."""
        self.uid = uid
        self.user = user
        self._stream = stream

    def __str__(self) -> str:
        return f"the launcher of {self.user}"

    def pass_on(self, pipes: Collection[OwnedFd]) -> bool:
        """Give it the ends of pipes, which stay ours to close; False if it takes none."""
        with suppress(trio.ClosedResourceError):
            if self._stream.send_at_once(PASSED, (*pipes,)):
                return True
            self._stream.drop_unsent()  # it hangs: nobody waits for it
        return False

    async def gone(self) -> None:
        """Wait until it hangs up, or says anything: there is nothing it has to say.

        What that is stays where it is: an fd in it may be of a file that hangs.
        """
        with suppress(OSError):
            await trio.lowlevel.wait_readable(self._stream.socket)


class Launchers:
    """Those that are connected."""

    def __init__(self, listener: Listener, users: Collection[str] = ()) -> None:
        """Nobody is yet.

        Args:
            listener: where they connect.
            users: whose launchers are let in; none: everybody's.
        """
        self._listener = listener
        self._users = users
        self._all: list[Launcher] = []
        self._connected = 0
        self._offers: Offers | None = None

    def close(self) -> None:
        """Stop listening, once `run` has ended."""
        self._listener.close()

    async def run(self) -> None:
        """Accept launchers until cancelled."""
        log.info("launchers connect to %s", self._listener)
        async with trio.open_nursery() as nursery:  # noqa: TID251
            while True:
                try:
                    connected = await self._listener.accept_socket()
                except ConnectionError:
                    continue
                except (OSError, MemoryError) as exc:
                    log.error("no launcher can connect: %s", str(exc) or "no memory")  # noqa: TRY400
                    await trio.sleep(ACCEPT_PAUSE)
                    continue
                if self._connected >= MAX_CONNECTED:
                    _hang_up(connected)
                    continue
                self._connected += 1
                nursery.start_soon(self._serve_defended, connected)

    async def _serve_defended(self, connected: socket.socket) -> None:
        try:
            await self._serve(connected)
        except OSError as exc:
            log.warning("a launcher was lost: %s", exc)
        except Exception:
            # The last line of defence: it costs this launcher, and not the agent.
            log.exception("a launcher was lost: a bug, or no memory")
        finally:
            self._connected -= 1

    async def _serve(self, connected: socket.socket) -> None:
        with ExitStack() as closing:
            closing.callback(_hang_up, connected)
            stream = FdStream(connected)
            closing.callback(stream.drop_unsent)
            uid = identify_peer(connected).uid
            launcher = Launcher(stream, uid, await user_name(uid))
            if why := self._refusal(launcher):
                log.warning("%s turned away: %s", launcher, why)
                stream.send_at_once(REFUSED + why.encode())
                return
            log.info("%s is there", launcher)
            self._all.append(launcher)
            try:
                if self._offers is not None:
                    self._offers.open(launcher)
                await launcher.gone()
            finally:
                self._all.remove(launcher)
                if self._offers is not None:
                    self._offers.close(launcher)
                log.info("%s has gone", launcher)

    def _refusal(self, launcher: Launcher) -> str:
        if self._users and launcher.user not in self._users:
            return f"the agent lets no launcher of {launcher.user} in (--launch-user)"
        if any(each.uid == launcher.uid for each in self._all):
            return f"{launcher.user} has a launcher already"
        if len(self._all) >= MAX_LAUNCHERS:
            return f"over {MAX_LAUNCHERS} launchers"
        return ""

    def offer(self, offers: "Offers") -> None:
        """Offer them, and those that come, to this session's host."""
        self._offers = offers
        for launcher in self._all:
            offers.open(launcher)

    def withdraw(self, offers: "Offers") -> None:
        """Offer no more to a session that is over."""
        if self._offers is offers:
            self._offers = None


class Offers:
    """The launchers that the host of one session knows of."""

    def __init__(
        self, lanes: LaneTasks, streams: Streams, new_id: Callable[[], int]
    ) -> None:
        """Begin with none.

        Args:
            lanes: of the session.
            streams: likewise.
            new_id: returns an id that no client of the session has had.
        """
        self._lanes = lanes
        self._streams = streams
        self._new_id = new_id
        self._known: dict[int, Launcher | None] = {}
        """By id, until the host releases it; None has gone."""
        self._ids: dict[Launcher, int] = {}
        """Those that have not gone."""
        self._waiting: dict[Launcher, None] = {}
        """Those that the host is told of when it has released others, in order."""

    def open(self, launcher: Launcher) -> None:
        """Tell the host of one, now or when it has let go of enough others."""
        if len(self._known) >= MAX_OFFERED:
            self._waiting[launcher] = None
            return
        client_id = self._new_id()
        self._known[client_id] = launcher
        self._ids[launcher] = client_id
        user = fit_text(launcher.user)
        self._lanes.put(LauncherOpened(client_id, launcher.uid, user))

    def close(self, launcher: Launcher) -> None:
        """Tell the host that one has gone; what it has started goes on."""
        self._waiting.pop(launcher, None)
        client_id = self._ids.pop(launcher, None)
        if client_id is not None:
            self._known[client_id] = None
            self._lanes.put(ClientClosed(client_id, CloseReason.NORMAL, ""))

    def _release(self, client_id: int) -> None:
        """Forget one that the host has let go of; another may have its place."""
        if self._known.pop(client_id):
            raise ChannelError(f"launcher {client_id} has not ended")
        if self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            self.open(first)

    def receive(self, frame: Frame) -> bool:
        """Take a frame from the host, unless it is about somebody else.

        Raises:
            ChannelError: the host broke the protocol.
        """
        client_id: int = getattr(frame, "client_id", 0)
        if client_id not in self._known:
            if isinstance(frame, Launch):
                raise ChannelError(f"client {client_id} is no launcher")
            return False
        match frame:
            case Launch():
                self._launch(frame, self._known[client_id])
            case ClientReleased():
                self._release(client_id)
            case StreamData() | StreamClosed() | Credit():
                pass  # whoever waits for it has been woken
            case _:
                raise ChannelError(f"{type(frame).__name__} is not for a launcher")
        return True

    def _launch(self, frame: Launch, launcher: Launcher | None) -> None:
        """Pass on the ends of new pipes; if that fails, they break, and the host knows."""
        reason = CloseReason.NORMAL if launcher is None else CloseReason.FAILED
        with ExitStack() as closing:
            pipes: list[OwnedFd] = []
            for index, pipe in enumerate(PIPES):
                lane = Lane(frame.client_id, frame.stream_id + 2 * index)
                if launcher is None or len(pipes) < index:
                    self._streams.refuse(lane, reason)
                    continue
                reads, writes = (
                    AttachmentFlags.HOLDER_READS,
                    AttachmentFlags.HOLDER_WRITES,
                )
                # Without fds there is no pipe, and the host has been told.
                with suppress(OSError, MemoryError):
                    made = self._streams.create(
                        lane, reads if pipe.from_host else writes
                    )
                    pipes.append(closing.enter_context(made))
            whole = len(pipes) == len(PIPES)
            if launcher is not None and not (whole and launcher.pass_on(pipes)):
                log.warning("%s does not get what it is to start", launcher)


def _hang_up(connected: socket.socket) -> None:
    """Close a connection, and wait for nobody.

    With it go fds that were sent and not received, whose files may hang: a thread does it.
    """
    with suppress(OSError):  # it has gone already
        connected.shutdown(socket.SHUT_RDWR)
    trio.lowlevel.notify_closing(connected)
    own(connected.detach()).close()


def listen_for_launchers(path: Path) -> Listener:
    """Listen where anybody may connect; whose launchers are let in is judged then.

    Raises:
        SocketError: as `listen`.
    """
    listener = listen(path)
    with closed_on_error(listener):
        try:
            path.chmod(0o666)
        except OSError as exc:
            raise SocketError(f"cannot open {path} for launchers: {exc}") from exc
    return listener


@contextmanager
def launching(path: Path | None, users: Collection[str]) -> Iterator[Launchers | None]:
    """Let launchers of these users connect at a path; without one, nobody's.

    Raises:
        SocketError: as `listen_for_launchers`.
    """
    if path is None:
        yield None
        return
    launchers = Launchers(listen_for_launchers(path), users)
    try:
        yield launchers
    finally:
        launchers.close()


async def user_name(uid: int) -> str:
    """Return a user's name, or the number if nobody knows it, or not in time."""
    find = partial(pwd.getpwuid, uid)
    with trio.move_on_after(NAME_SECONDS), suppress(KeyError, RuntimeError):
        found = await trio.to_thread.run_sync(find, abandon_on_cancel=True)
        return found.pw_name
    return str(uid)
