"""The proxy's socket for commands: this user's programs ask there, and pass the ends of pipes.

A question is a line of JSON and five fds; so is the answer a line: whose launcher it went to,
or why it went to none.  What passes through the pipes is no business of the socket's.
"""

import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final

import trio

from wlproxy.host.config import HostConfig
from wlproxy.host.errors import HostError
from wlproxy.host.launch.launchers import Launchers
from wlproxy.host.report.progress import State
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.runtime_dir import launch_path, listen_at
from wlproxy.protocol.channel.launch_lines import Fields, LineReader, encode_line
from wlproxy.protocol.channel.launching import PIPES
from wlproxy.protocol.errors import ChannelError, WlproxyError
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

ASK_SECONDS: Final = 5.0
"""For whoever connects to ask, and to take the answer."""
MAX_ASKING: Final = 16
"""That have connected, and have no answer yet."""
MAX_USER: Final = 256
"""Characters of the name of a user that is asked for, as of a login (LOGIN_NAME_MAX)."""
ACCEPT_PAUSE: Final = 0.1
"""Seconds until the next is accepted where there was nothing to accept it with."""

Found = Launchers | State
"""The launchers of the session; without one, what the proxy is doing instead."""


async def serve_launches(
    config: HostConfig, find: Callable[[], Found], log: VmLog
) -> None:
    """Serve whoever asks, until cancelled; nobody, if the user wants that.

    Args:
        config: the user's.
        find: says whom to ask.
        log: written to.
    """
    if config.status is None or not config.exec:
        return
    path = launch_path(config.status)
    try:
        listening = listen_at(
            path,
            socket.SOCK_STREAM,
            "cannot make the socket for commands",
            f"somebody serves commands for {path.stem} already",
        )
    except HostError as exc:
        log.warning("`wlproxy exec` will not work: %s", exc)
        return
    try:
        with trio.socket.from_stdlib_socket(listening) as listener:
            await _Questions(find, log).serve(listener)
    finally:
        path.unlink(missing_ok=True)


class _Questions:
    """Those who ask, each in a task of its own."""

    def __init__(self, find: Callable[[], Found], log: VmLog) -> None:
        self._find = find
        self._log = log
        self._asking = 0

    async def serve(self, listener: trio.socket.SocketType) -> None:
        """Accept them, for ever."""
        async with trio.open_nursery() as nursery:  # noqa: TID251 - ends with the socket
            while True:
                try:
                    connection, _ = await listener.accept()
                except OSError:  # it has left already, or no fd or memory is left
                    await trio.sleep(ACCEPT_PAUSE)
                    continue
                connected = socket.socket(fileno=connection.detach())
                if self._asking >= MAX_ASKING:
                    connected.close()
                    continue
                self._asking += 1
                nursery.start_soon(self._serve_one, FdStream(connected, own))

    async def _serve_one(self, stream: FdStream) -> None:
        try:
            with trio.move_on_after(ASK_SECONDS):
                await self._answer(stream)
        except (OSError, trio.BrokenResourceError, WlproxyError) as exc:
            self._log.warning("a question of `wlproxy exec` was lost: %s", exc)
        finally:
            self._asking -= 1
            stream.close()

    async def _answer(self, stream: FdStream) -> None:
        with ExitStack() as closing:
            question, pipes = await _read_question(stream, closing)
            reply: Fields = {"error": "that is no question of `wlproxy exec`"}
            user = question.get("user")
            if len(pipes) != len(PIPES) or not isinstance(user, str | None):
                pass
            elif not all(is_pipe(fd.fileno()) for fd in pipes):
                reply = {
                    "error": "what `wlproxy exec` passes is pipes, and nothing else"
                }
            elif user is not None and len(user) > MAX_USER:
                reply = {"error": f"a user's name has {MAX_USER} characters at most"}
            else:
                try:
                    # It takes them over; closing them again is harmless.
                    reply = {"user": _launchers(self._find()).launch(user, pipes)}
                except HostError as exc:
                    reply = {"error": exc.problem, "remedy": exc.remedy}
        with suppress(trio.BrokenResourceError):
            await stream.send(encode_line({"remedy": "", **reply}))


async def _read_question(
    stream: FdStream, closing: ExitStack
) -> tuple[Fields, list[OwnedFd]]:
    """Read a question and the fds that come with it; without a whole one, return none.

    One fd too many is no question, however it might end.
    """
    lines = LineReader()
    pipes: list[OwnedFd] = []
    with suppress(ChannelError):
        while (question := lines.next_line()) is None:
            said, fds = await stream.receive()
            pipes += [closing.enter_context(fd) for fd in fds]
            if not said or len(pipes) > len(PIPES):
                break
            lines.feed(said)
        else:
            return question, pipes
    return {}, []


def is_pipe(fd: int) -> bool:
    """Tell whether an fd is of a pipe without a name, and ask nobody but the kernel.

    A file may be of a server that does not answer (FUSE, NFS), and fstat asks that.
    """
    # A file's path begins with a slash.
    with suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:[")
    return False


def own(fd: int) -> OwnedFd:
    """Take over an fd that somebody passed: closing what is no pipe holds up nobody."""
    return OwnedFd(fd) if is_pipe(fd) else OwnedFd(fd, _close_elsewhere)


def _close_elsewhere(fd: int) -> None:
    def close() -> None:
        with suppress(OSError):
            OwnedFd(fd).close()

    # Nobody waits for it, at the end of the process neither.  Without a thread it stays open.
    with suppress(RuntimeError, MemoryError):
        threading.Thread(target=close, daemon=True).start()


def _launchers(found: Found) -> Launchers:
    """Return the launchers of a session.

    Raises:
        HostError: there is no session; with what helps.
    """
    match found:
        case Launchers():
            return found
        case State.STARTING | State.WAITING_FOR_QEMU:
            raise HostError(
                "the VM is off: nobody serves its channel",
                remedy="Start it, and try again.",
            )
        case _:
            raise HostError(
                f"the guest cannot be asked: the proxy is {found.value}",
                remedy="Is the VM up, and its agent running? `wlproxy status` and the "
                "proxy's log say more.",
            )
