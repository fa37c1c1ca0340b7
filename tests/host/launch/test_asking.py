"""`wlproxy exec` and a proxy that does as the test says."""

import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio

from wlproxy.host.errors import HostError
from wlproxy.host.launch import asking
from wlproxy.host.launch.asking import Asked, NotAskedError, ask, explain
from wlproxy.protocol.channel.launch_lines import Outcome, Request
from wlproxy.transport.fd_stream import FdStream
from wlproxy.transport.fds import OwnedFd

Serve = Callable[[FdStream, list[OwnedFd]], Awaitable[None]]
REQUEST = Request(command=("ls",))


class Proxy:
    """Serves one who asks."""

    def __init__(self, path: Path, nursery: trio.Nursery) -> None:
        self.path = path
        self.nursery = nursery
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()

    def serve(self, serve: Serve) -> None:
        async def run() -> None:
            listener = trio.socket.from_stdlib_socket(self._listening.dup())
            with listener:
                connection, _ = await listener.accept()
            stream = FdStream(socket.socket(fileno=connection.detach()))
            async with stream:
                _, fds = await stream.receive()
                try:
                    await serve(stream, fds)
                finally:
                    for fd in fds:
                        fd.close()

        self.nursery.start_soon(run)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
async def proxy(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[Proxy]:
    proxy = Proxy(tmp_path / "vm.exec", nursery)
    yield proxy
    proxy.close()


async def run(proxy: Proxy, serve: Serve) -> Outcome:
    proxy.serve(serve)
    null = os.open("/dev/null", os.O_RDWR)
    with OwnedFd(null), trio.fail_after(20):
        return await ask(Asked(proxy.path, "vm", None, REQUEST, null, null, null))


def says(answer: bytes, fds: Sequence[int] = ()) -> Serve:
    async def serve(stream: FdStream, _: list[OwnedFd]) -> None:
        owned = [OwnedFd(os.dup(fd)) for fd in fds]
        await stream.send(answer, owned)
        for fd in owned:
            fd.close()

    return serve


@pytest.mark.parametrize(
    "answer", [b"nonsense\n", b"{}\n", b'{"user": 5}\n', b'{"error": "x"}\n', b"x"]
)
async def test_a_proxy_that_does_not_answer(proxy: Proxy, answer: bytes) -> None:
    with pytest.raises(NotAskedError, match="the proxy of vm does not answer"):
        await run(proxy, says(answer, [2]))


async def test_a_proxy_that_takes_too_long(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ANSWER_SECONDS", 0.01)

    async def hang(_stream: FdStream, _fds: list[OwnedFd]) -> None:
        await trio.sleep(5)

    with pytest.raises(NotAskedError, match="does not answer"):
        await run(proxy, hang)


async def test_a_proxy_that_says_why_not(proxy: Proxy) -> None:
    with pytest.raises(NotAskedError) as caught:
        await run(proxy, says(b'{"error": "no", "remedy": "do"}\n'))

    assert (caught.value.problem, caught.value.remedy) == ("no", "do")


@pytest.mark.parametrize("answer", [b"nonsense\n", b"{}\n", b"x" * 65536])
async def test_a_launcher_that_answers_nonsense(proxy: Proxy, answer: bytes) -> None:
    async def serve(stream: FdStream, fds: list[OwnedFd]) -> None:
        await stream.send(b'{"user": "ada"}\n')
        os.write(fds[1].fileno(), answer)

    outcome = await run(proxy, serve)

    assert outcome.exit_status == 125
    assert "answers nonsense" in explain(outcome)


async def test_who_sends_signals_wants_an_end(proxy: Proxy) -> None:
    """The command goes on, perhaps; we do not."""

    async def serve(stream: FdStream, fds: list[OwnedFd]) -> None:
        await stream.send(b'{"user": "ada"}\n')
        said = b""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)
            if number is not signal.SIGINT:
                while b'"signal": %d}' % number not in said:
                    await trio.lowlevel.wait_readable(fds[0].fileno())
                    said += os.read(fds[0].fileno(), 999)
        await trio.sleep_forever()

    null = os.open("/dev/null", os.O_RDWR)
    with OwnedFd(null), trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            proxy.nursery = nursery
            proxy.serve(serve)
            outcome = await ask(
                Asked(proxy.path, "vm", None, REQUEST, null, null, null)
            )
            nursery.cancel_scope.cancel()

    assert outcome == Outcome(killed=signal.SIGINT)


async def test_streams_that_are_none(proxy: Proxy, tmp_path: Path) -> None:
    """A directory cannot be read: the command has no input, and that is all."""

    async def serve(stream: FdStream, fds: list[OwnedFd]) -> None:
        await stream.send(b'{"user": "ada"}\n')
        with trio.fail_after(20):
            await trio.lowlevel.wait_readable(fds[2].fileno())
        assert os.read(fds[2].fileno(), 1) == b""
        os.write(fds[1].fileno(), b'{"exited": 0}\n')

    proxy.serve(serve)
    directory = OwnedFd(os.open(tmp_path, os.O_RDONLY))
    with directory, trio.fail_after(20):
        number = directory.fileno()
        asked = Asked(proxy.path, "vm", None, REQUEST, number, number, number)
        assert await ask(asked) == Outcome(exited=0)


async def test_without_fds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*, we_write: bool) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asking, "make_pipe", refuse)
    with pytest.raises(HostError, match="cannot make pipes"):
        await ask(Asked(tmp_path / "none", "vm", None, REQUEST))


def test_what_is_no_text_is_explained_all_the_same() -> None:
    assert explain(Outcome(error="nope\udcff: \ud800")) == "nope?: ?"
    assert explain(Outcome(exited=0)) == ""
