"""Has a command run in a guest: asks its proxy, and carries the bytes meanwhile.

The command's standard streams are ours, through pipes; so it sees when ours end, and we when
its do.  There is no terminal in the guest: what the command writes is shown as it comes, and
what is typed goes to it line by line.  Nothing of our environment is sent.
"""

import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from wlproxy.host.errors import HostError
from wlproxy.protocol.channel.lanes.bounds import CHUNK
from wlproxy.protocol.channel.launch_lines import (
    BAD_REQUEST,
    Fields,
    LineReader,
    Outcome,
    Request,
    encode_line,
)
from wlproxy.protocol.channel.launching import PIPES, Pipe
from wlproxy.protocol.errors import ChannelError, LocalProtocolError
from wlproxy.relay.labels import plain
from wlproxy.transport.fd_stream import FdStream, connect_unix
from wlproxy.transport.fds import OwnedFd, duplicate
from wlproxy.transport.stream_end import StreamEnd, adopt_end, make_pipe

ANSWER_SECONDS: Final = 10.0
"""For the proxy to say whom it has asked."""
FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE: Final = 3
"""Signals after which we leave, whatever the command does."""


class NotAskedError(HostError):
    """The proxy is not there, or asked nobody."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What one run of a command is about.

    Attributes:
        path: the proxy's socket for commands.
        vm: the VM's name.
        user: of the guest; None if there is only one launcher.
        request: for the launcher.
        stdin: what the command reads; None for nothing.
        stdout: where it writes, or who takes what it writes (ChannelError: no more).
        stderr: likewise an fd.
    """

    path: Path
    vm: str
    user: str | None
    request: Request
    stdin: int | None = 0
    stdout: int | Callable[[bytes], None] = 1
    stderr: int = 2


async def ask(asked: Asked) -> Outcome:
    """Have a command run, to its end or ours.

    Raises:
        NotAskedError: nobody was asked, with the remedy.
        HostError: the other side has gone meanwhile.
        ChannelError: whoever takes the output does not want it.
    """
    try:
        request = asked.request.to_line()
        question = encode_line({"user": asked.user})
    except LocalProtocolError as exc:
        raise NotAskedError(f"this cannot be asked: {exc}") from exc
    # First of all: from now on signals are the command's.
    with trio.open_signal_receiver(*FORWARDED) as signals, ExitStack() as closing:
        ends, theirs = _make_pipes(closing)
        await _ask_proxy(asked, question, theirs)
        return await _Run(asked, ends).run(request, signals)


def _make_pipes(closing: ExitStack) -> tuple[dict[Pipe, StreamEnd], list[OwnedFd]]:
    ends: dict[Pipe, StreamEnd] = {}
    theirs: list[OwnedFd] = []
    with HostError.explaining("cannot make pipes", tried="pipe2"):
        for pipe in PIPES:
            end, their = make_pipe(we_write=pipe.from_host)
            ends[pipe] = closing.enter_context(end)
            theirs.append(closing.enter_context(their))
    return ends, theirs


async def _ask_proxy(asked: Asked, question: bytes, pipes: Sequence[OwnedFd]) -> None:
    """Give the proxy its ends of the pipes, which are closed here after that."""
    try:
        stream = await connect_unix(asked.path)
    except OSError as exc:
        raise NotAskedError(
            f"no proxy serves commands for {asked.vm}",
            tried=f"connect {asked.path}",
            errno=exc.errno or 0,
            remedy=f"Start the VM, if it is off, and `wlproxy run --name {asked.vm}` "
            "(without --no-exec), as this user.",
        ) from exc
    async with stream:
        answer: Fields | None = None
        with suppress(trio.BrokenResourceError), trio.move_on_after(ANSWER_SECONDS):
            await stream.send(question, pipes)
            answer = await _read_answer(stream)
    for fd in pipes:
        fd.close()
    match answer:
        case {"user": str()}:
            return
        case {"error": str() as error, "remedy": str() as remedy}:
            raise NotAskedError(error, remedy=remedy)
        case _:
            raise NotAskedError(
                f"the proxy of {asked.vm} does not answer",
                tried=f"read from {asked.path}",
                remedy="Its log says more: journalctl --user -u wlproxy@" + asked.vm,
            )


async def _read_answer(stream: FdStream) -> Fields | None:
    lines = LineReader()
    with suppress(ChannelError):
        while (answer := lines.next_line()) is None:
            said, fds = await stream.receive()
            for fd in fds:  # nobody has reason to send any
                fd.close()
            if not said:
                return None
            lines.feed(said)
        return answer
    return None


class _Run:
    """One command, while it runs."""

    def __init__(self, asked: Asked, ends: dict[Pipe, StreamEnd]) -> None:
        """Take over our ends of the pipes."""
        self._asked = asked
        self._ends = ends
        self._outcome: Outcome | None = None
        self._refused: ChannelError | None = None
        self._signals = 0
        self._to_send: list[bytes] = []
        self._changed = trio.Event()

    async def run(self, request: bytes, signals: AsyncIterator[int]) -> Outcome:
        """Carry bytes until all has been said.

        Raises:
            HostError: the other side has gone without a word.
        """
        self._to_send.append(request)
        async with trio.open_nursery() as nursery:  # noqa: TID251 - ends with it
            nursery.start_soon(self._send_requests)
            nursery.start_soon(self._carry_stdin)
            nursery.start_soon(self._forward, signals, nursery.cancel_scope)
            await self._read_all()
            nursery.cancel_scope.cancel()
        if self._refused is not None:
            raise self._refused
        if self._outcome is None:
            if self._signals:
                return Outcome(killed=int(signal.SIGINT))
            raise HostError(
                "the command's end is not known: the guest, its launcher or the proxy "
                "has gone",
                remedy="Look at the proxy's log, and at `journalctl --user -u "
                "wlproxy-launcher` in the guest.",
            )
        return self._outcome

    async def _read_all(self) -> None:
        """Read what comes from the guest, until all three streams have ended."""
        async with trio.open_nursery() as nursery:  # noqa: TID251 - ends with it
            nursery.start_soon(self._carry, Pipe.STDOUT, self._asked.stdout)
            nursery.start_soon(self._carry, Pipe.STDERR, self._asked.stderr)
            await self._read_outcome()

    async def _read_outcome(self) -> None:
        lines = LineReader()
        with self._ends[Pipe.ANSWERS] as end, suppress(OSError):
            while data := await end.read(CHUNK):
                lines.feed(data)
                try:
                    if (fields := lines.next_line()) is not None:
                        self._outcome = Outcome.read(fields)
                        return
                except ChannelError as exc:
                    why = f"the launcher answers nonsense: {exc}"
                    self._outcome = Outcome(error=why, status=BAD_REQUEST)
                    return

    async def _carry(self, pipe: Pipe, into: int | Callable[[bytes], None]) -> None:
        """Write what the command writes; if nobody reads that, the command gets to know."""
        with self._ends[pipe] as end, suppress(OSError):
            if not isinstance(into, int):
                await self._give(end, into)
                return
            own = adopt_end(duplicate(into), we_write=True)
            with own:
                await own.write_chunks(partial(_chunk, end), _nothing)

    async def _give(self, end: StreamEnd, take: Callable[[bytes], None]) -> None:
        try:
            while data := await end.read(CHUNK):
                take(data)
        except ChannelError as exc:
            self._refused = exc

    async def _carry_stdin(self) -> None:
        with self._ends[Pipe.STDIN] as end, suppress(OSError):
            if self._asked.stdin is None:
                return
            own = adopt_end(duplicate(self._asked.stdin), we_write=False)
            with own:
                await end.write_chunks(partial(_chunk, own), _nothing)

    async def _send_requests(self) -> None:
        async def next_line() -> bytes:
            while not self._to_send:
                self._changed = trio.Event()
                await self._changed.wait()
            return self._to_send.pop(0)

        await self._ends[Pipe.REQUEST].write_chunks(next_line, _nothing)

    async def _forward(
        self, signals: AsyncIterator[int], scope: trio.CancelScope
    ) -> None:
        """Pass signals on; whoever sends several wants an end."""
        async for number in signals:
            self._signals += 1
            if self._signals >= PATIENCE:
                scope.cancel()
            self._to_send.append(encode_line({"signal": number}))
            self._changed.set()


async def _chunk(end: StreamEnd) -> bytes | None:
    return await end.read(CHUNK) or None


def _nothing(_: int) -> None:
    """Nobody counts."""


def explain(outcome: Outcome) -> str:
    """Say in one line why nothing was started; empty if something was."""
    if outcome.error is None:
        return ""
    # A file's name may be no text, and what a launcher says is JSON, which has more than text.
    return plain(outcome.error.encode(errors="replace"))
