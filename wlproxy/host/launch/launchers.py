"""The guest's launchers in one session: they start commands there, as their users."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from wlproxy.host.client.streams import Streams
from wlproxy.host.errors import HostError
from wlproxy.protocol.channel.frames import (
    ClientClosed,
    ClientReleased,
    Credit,
    Frame,
    Launch,
    LauncherOpened,
    StreamClosed,
    StreamData,
)
from wlproxy.protocol.channel.lanes.lane import Lane
from wlproxy.protocol.channel.launching import LAST_STREAM, PIPES
from wlproxy.protocol.errors import ChannelError
from wlproxy.relay.labels import plain
from wlproxy.transport.fds import OwnedFd
from wlproxy.transport.lane_tasks import LaneTasks

MAX_LAUNCHERS: Final = 64
"""In a session; those that are too many are not used."""
MAX_UNUSED: Final = 1024
"""How many of those there may be; an agent that tells of more breaks the session."""
MAX_COMMANDS: Final = 64
"""Whose pipes are open at once: the apps' pastes need streams, too."""
MAX_NAME: Final = 64
"""Characters of a user's name."""


@dataclass(slots=True)
class _Launcher:
    """One of them.

    Attributes:
        user: whose, as the guest says.
        next_stream: the first id of its streams that was not used.
    """

    user: str
    next_stream: int = 1


class Launchers:
    """Those that are there."""

    def __init__(self, lanes: LaneTasks, streams: Streams) -> None:
        """None is yet.

        Args:
            lanes: of the session.
            streams: likewise.
        """
        self._lanes = lanes
        self._streams = streams
        self._all: dict[int, _Launcher] = {}
        self._unused: set[int] = set()
        """Those that were too many."""
        self._gone: set[int] = set()
        """Those whose streams may be open yet."""

    @property
    def users(self) -> list[str]:
        """Whose they are."""
        return sorted(each.user for each in self._all.values())

    def receive(self, frame: Frame) -> bool:
        """Take a frame from the guest, unless it is about somebody else.

        Raises:
            ChannelError: the agent broke the protocol.
        """
        if isinstance(frame, LauncherOpened):
            self._open(frame)
            return True
        client_id: int = getattr(frame, "client_id", 0)
        if client_id not in self._all and client_id not in self._unused:
            return False
        match frame:
            case ClientClosed():
                self._close(client_id)
            case StreamData() | StreamClosed() | Credit():
                pass  # whoever waits for it has been woken
            case _:
                raise ChannelError(f"{type(frame).__name__} is not for a launcher")
        return True

    def _open(self, frame: LauncherOpened) -> None:
        if len(self._all) >= MAX_LAUNCHERS:
            if len(self._unused) >= MAX_UNUSED:
                raise ChannelError(f"over {MAX_LAUNCHERS + MAX_UNUSED} launchers")
            self._unused.add(frame.client_id)
            return
        user = plain(frame.user.encode())[:MAX_NAME]
        self._all[frame.client_id] = _Launcher(user or str(frame.uid))

    def _close(self, client_id: int) -> None:
        self._all.pop(client_id, None)
        self._unused.discard(client_id)
        self._gone = {each for each in self._gone if self._lanes.streams_of(each)}
        self._gone.add(client_id)
        self._lanes.put(ClientReleased(client_id))

    def launch(self, user: str | None, pipes: Sequence[OwnedFd]) -> str:
        """Have a launcher serve the other ends of these pipes; return whose it is.

        Args:
            user: whose it is to be; None if there is only one.
            pipes: in the order of PIPES; this takes them over, even if it fails.

        Raises:
            HostError: there is none, or it cannot be chosen.
        """
        try:
            client_id, launcher = self._choose(user)
            self._check_room()
        except HostError:
            for fd in pipes:
                fd.close()
            raise
        first = launcher.next_stream
        launcher.next_stream += LAST_STREAM + 2
        self._lanes.put(Launch(client_id, first))
        for index, (pipe, fd) in enumerate(zip(PIPES, pipes, strict=True)):
            lane = Lane(client_id, first + 2 * index)
            with suppress(OSError):  # the guest has been told
                self._streams.carry(lane, fd, to_guest=pipe.from_host)
        return launcher.user

    def _choose(self, user: str | None) -> tuple[int, _Launcher]:
        found = [
            (client_id, each)
            for client_id, each in self._all.items()
            if user in (None, each.user)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise HostError(
                f"several users of the guest have commands started: {', '.join(self.users)}",
                remedy="Choose one: --user",
            )
        whose = f"user {user!r} of the guest" if user else "nobody in the guest"
        raise HostError(
            f"{whose} has no launcher running" if user else f"{whose} runs a launcher",
            remedy="In the guest, as the user that commands are to run as: `systemctl "
            "--user enable --now wlproxy-launcher`; the agent must let launchers "
            "connect: see docs/apps.md, 'Apps from the host'.",
        )

    def _check_room(self) -> None:
        ids = [*self._all, *self._gone]
        streams = sum(self._lanes.streams_of(each) for each in ids)
        if streams + len(PIPES) > MAX_COMMANDS * len(PIPES):
            raise HostError(
                f"{MAX_COMMANDS} commands run in this guest already",
                remedy="Wait for some to end, or start apps with --detach.",
            )
