"""The policy of a proxy that runs: shown to who asks, read again, and what follows said.

A socket beside that for the status has it: who connects sends a line, `show` or `reload`, and is
answered with one JSON document.  What is wrong in the file changes nothing.  `wlproxy screen`, a process of its own,
has another such socket.
"""

import json
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import trio

from wlproxy.host.errors import HostError
from wlproxy.host.policy_file import PolicySource
from wlproxy.host.report.status_socket import next_asker
from wlproxy.host.report.vm_log import VmLog
from wlproxy.host.runtime_dir import (
    is_alive,
    listen_at,
    policy_path,
    screen_policy_path,
    status_path,
)
from wlproxy.relay.policy_tree import GROUPS, ROWS, Policy

SHOW: Final = "show"
RELOAD: Final = "reload"

SECONDS: Final = 2.0
"""For who asks to say what, and to take the answer; then it is the next one's turn."""

READ_SECONDS: Final = 10.0
"""For the proxy to answer."""

MAX_QUESTION: Final = 64
MAX_ANSWER: Final = 1 << 20

Json = dict[str, Any]


class PolicyKeeper:
    """Knows the policy in force, and where each line of it is from."""

    def __init__(
        self,
        source: PolicySource,
        obey: Callable[[Policy], None],
        bound: Callable[[str], int],
        framed_otherwise: Callable[[], int],
        log: VmLog,
        groups: Collection[str] = GROUPS,
    ) -> None:
        """Read it.

        Args:
            source: where it is from.
            obey: has another policy be in force; ValueError says why it cannot be.
            bound: counts the apps that have bound a global.
            framed_otherwise: counts those whose windows are not framed as new ones are.
            log: written to.
            groups: of keys, of whose changes is told.

        Raises:
            HostError: the file cannot be read, or is wrong.
        """
        self._source = source
        self._groups = groups
        self._obey = obey
        self._bound = bound
        self._framed_otherwise = framed_otherwise
        self._log = log
        self._now = source.read()

    @property
    def policy(self) -> Policy:
        """What is in force."""
        return self._now.policy

    def show(self) -> Json:
        """Say what is in force."""
        return {"lines": [list(line) for line in self._now.lines]}

    def reload(self) -> Json:
        """Read it again, and have it be in force; say what has changed."""
        try:
            read = self._source.read()
            self._obey(read.policy)
        except (HostError, ValueError) as exc:
            self._log.warning("the policy stays as it is: %s", exc)
            return {"error": str(exc)}
        before, self._now = self._now, read
        changed = [
            (line, row.key.effect)
            for row, old, line in zip(ROWS, before.lines, read.lines, strict=True)
            if old.value != line.value and row.group in self._groups
        ]
        kept = list(self._kept(before.policy, read.policy))
        for line, effect in changed:
            self._log.info("policy: %s, %s", line, effect.value)
        for sentence in kept:
            self._log.info("policy: %s", sentence)
        if not changed:
            self._log.info("the policy is as it was")
        return {
            "changed": [[*line, effect.value] for line, effect in changed],
            "kept": kept,
        }

    def answer(self, question: str) -> Json:
        """Answer a line."""
        if question == SHOW:
            return self.show()
        if question == RELOAD:
            return self.reload()
        return {"error": f"it is asked for {SHOW} or {RELOAD}"}

    def _kept(self, before: Policy, now: Policy) -> Iterator[str]:
        """Say what apps keep: what they have bound, although it is not granted any more; and their frames."""
        caps = now.globals.caps
        for name, most in sorted(before.globals.caps.items()):
            count = self._bound(name) if caps.get(name, 0) < most else 0
            if count:
                apps = "1 app has" if count == 1 else f"{count} apps have"
                yield f"{apps} bound {name}, and may use it as before until it ends"
        if count := self._framed_otherwise():
            apps = "1 app keeps" if count == 1 else f"{count} apps keep"
            yield f"{apps} the frames that its windows had, or had not, until it ends"


async def serve_policy(status: Path | None, keeper: PolicyKeeper, log: VmLog) -> None:
    """Answer for a proxy, until cancelled.

    Args:
        status: where the status socket is, beside which this one is; None: there is none.
        keeper: answers.
        log: written to.
    """
    if status is None:
        return
    try:
        await answer_at(policy_path(status), keeper)
    except HostError as exc:
        log.warning("`wlproxy reload` will not work: %s", exc)


async def answer_at(path: Path, keeper: PolicyKeeper) -> None:
    """Answer everyone who connects, one after the other, until cancelled.

    Raises:
        HostError: somebody else answers there, or the socket cannot be made.
    """
    problem = "cannot make the socket for the policy"
    busy = f"somebody answers for {path.stem} already"
    listening = listen_at(path, socket.SOCK_STREAM, problem, busy)
    try:
        with trio.socket.from_stdlib_socket(listening) as listener:
            while True:
                await _answer_one(listener, keeper)
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _answer_one(listener: trio.socket.SocketType, keeper: PolicyKeeper) -> None:
    stream = await next_asker(listener)
    with trio.move_on_after(SECONDS):
        async with stream:
            with suppress(trio.BrokenResourceError):
                question = await _line(stream)
                answer = json.dumps(keeper.answer(question)).encode()
                await stream.send_all(answer + b"\n")


async def _line(stream: trio.SocketStream) -> str:
    said = b""
    while b"\n" not in said and len(said) < MAX_QUESTION:
        piece = await stream.receive_some(MAX_QUESTION)
        if not piece:
            break
        said += piece
    return said.partition(b"\n")[0].decode("utf-8", "replace").strip()


def policy_sockets(environ: Mapping[str, str], name: str) -> dict[str, Path]:
    """Find where the policy of a VM can be asked for: its proxy, and whoever shows its screen.

    Returns:
        Where somebody answers, by what to call him; what the proxy is called is the VM's name.

    Raises:
        HostError: there is no directory for sockets.
    """
    status = status_path(environ, name)
    places = {
        name: policy_path(status),
        f"{name}, screen": screen_policy_path(status),
    }
    return {
        who: path for who, path in places.items() if is_alive(path, socket.SOCK_STREAM)
    }


def ask_policy(path: Path, question: str) -> Mapping[str, Any]:
    """Ask a proxy.  Blocks.

    Raises:
        HostError: there is none, it does not answer, or what it answers is an error.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(READ_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(question.encode() + b"\n")
            with connection.makefile("rb") as answer:
                document = json.loads(answer.read(MAX_ANSWER))
        except (OSError, ValueError) as exc:
            raise HostError(
                f"no proxy answers for {path.stem}",
                tried=f"connect {path}",
                errno=getattr(exc, "errno", None) or 0,
                remedy="Is `wlproxy run` running, or `wlproxy screen`, with this --name, as "
                "this user?",
            ) from exc
    if not isinstance(document, dict):
        raise HostError(f"what answers at {path} is no wlproxy")
    if "error" in document:
        raise HostError(f"nothing is changed: {document['error']}")
    return document
