"""Whatever fails on the way from an input to its end: one client pays, and no more."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.host.bench import Bench, running
from tests.host.scripted import see_hang_up
from wlproxy.host.client.client import CANNOT, Client
from wlproxy.host.client.compositor_queue import CompositorQueue
from wlproxy.host.errors import HostError
from wlproxy.host.qemu.ram_pages import RamPages
from wlproxy.host.report.bugs import MISTAKE
from wlproxy.host.report.vm_log import VmLog
from wlproxy.memory.guest_memory import RamItem
from wlproxy.protocol.channel.frames import (
    ClientClosed,
    ClientOpened,
    ClientReleased,
    CloseReason,
    Data,
    Frame,
    Goodbye,
    Ping,
)
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.commands import (
    AdoptStream,
    AskUser,
    CloseClient,
    CloseHandle,
    Command,
    CopyRows,
    CreateCopyBuffer,
    CreateFile,
    CreateStream,
    CreateUdmabuf,
    Direction,
    GrantCredit,
    OpenCompositor,
    ReadFile,
    SendContents,
    SendFile,
    SendFrame,
    SendToCompositor,
    StartTimer,
    StopAsking,
    Trace,
    TraceLevel,
)
from wlproxy.relay.handles import Handle

NEVER = Handle(998)
"""A handle of nothing that was ever made."""

ITEMS = (RamItem(0, 0, 4096),)

ALL = (
    SendFrame(Data(1, b"said")),
    GrantCredit(1, 1),
    OpenCompositor(1, "app(1)"),
    SendToCompositor(1, b"asked"),
    CreateUdmabuf(1, Handle(2), ITEMS),
    CreateCopyBuffer(1, Handle(2), 4096),
    CreateFile(1, Handle(2), b"pixels"),
    CopyRows(1, Handle(2), ITEMS, 0, 4096, 4096, 1),
    CreateStream(1, 2, Handle(2), Direction.TO_GUEST),
    ReadFile(1, 1, Handle(2), 6),
    AdoptStream(1, 3, Handle(1), Direction.TO_GUEST),
    StartTimer(1, 1, 1.0),
    AskUser(1, 1, Direction.TO_GUEST, "clipboard", "app", "text/plain"),
    StopAsking(1, 1),
    SendFile(1, 1, Handle(1), 6),
    SendContents(1, 1, b"table"),
    CloseHandle(1, Handle(2)),
    CloseClient(1, CloseReason.PROTOCOL_ERROR, "it erred"),
    Trace(1, TraceLevel.INFO, "all is well"),
)
"""A command of every kind."""

ERRORS = (
    HostError("no fd is left", tried="pipe2 in /run/user/1000", errno=24),
    LocalProtocolError("handle 998 is not open"),
    KeyError(998),
    OSError(5, "input/output error"),
    MemoryError(),
)


def test_every_kind_of_command_is_tried() -> None:
    kinds: Any = Command
    assert {type(command) for command in ALL} == set(kinds.__args__)


def failing(
    monkeypatch: pytest.MonkeyPatch, kind: type[Command], error: Exception
) -> None:
    """Have all commands of a kind fail, as long as they are for client 1."""
    if kind is Trace:
        say = VmLog.of_client

        def fail_to_say(self: VmLog, level: int, text: str, *args: object) -> None:
            if "all is well" in args:
                raise error
            say(self, level, text, *args)

        monkeypatch.setattr(VmLog, "of_client", fail_to_say)
        return
    carry_out = Client.carry_out

    def fail(self: Client, command: Command) -> object:
        if type(command) is kind and command.client_id == 1:
            raise error
        return carry_out(self, command)

    monkeypatch.setattr(Client, "carry_out", fail)


async def closed(bench: Bench) -> list[Frame]:
    """Have the compositor let go of client 1; return what the guest heard."""
    await bench.compositors[0].aclose()
    return await bench.agent.receive_until(ClientReleased)


async def others_go_on(bench: Bench) -> None:
    """Client 2 was there before, and is still served; so is one that comes now."""
    await bench.agent.send(Data(2, b"request"))
    assert (await bench.compositors[1].receive())[0] == b"request"
    await bench.open(3)
    assert bench.session.cause is None


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "ends"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("command", ALL, ids=lambda command: type(command).__name__)
async def test_a_command_that_fails_ends_its_client_at_once(
    monkeypatch: pytest.MonkeyPatch, command: Command, error: Exception, ends: bool
) -> None:
    async with running() as bench:
        compositor = await bench.open()
        await bench.open(2)
        failing(monkeypatch, type(command), error)
        respond = bench.relay._respond

        def end_in_the_same_batch(what: tuple[object, ...]) -> list[Command]:
            if what == ("frame", Data(1, b"batch")) and ends:
                bench.relay.clients.discard(1)  # it knows no such client any more
            return respond(what)

        bench.relay._respond = end_in_the_same_batch
        last = CloseClient(1, CloseReason.PROTOCOL_ERROR, "it erred")
        await bench.data(
            b"batch",
            command,
            # None of this may be done for a client that has ended.
            SendFrame(Data(1, b"after")),
            SendToCompositor(1, b"after", (NEVER,)),
            CloseHandle(1, NEVER),
            *([last] if ends else []),
        )

        await see_hang_up(compositor)
        expected = isinstance(error, HostError) and type(command) is not Trace
        message = CANNOT if expected else MISTAKE
        assert await closed(bench) == [
            ClientClosed(1, CloseReason.FAILED, message),
            ClientReleased(1),
        ]
        assert (bench.metrics.bugs == 0) == expected
        assert bench.session.open_handles == 0
        await others_go_on(bench)


async def test_what_names_no_handle_ends_its_client_alone() -> None:
    async with running() as bench:
        await bench.open()
        await bench.open(2)
        await bench.data(b"x", SendToCompositor(1, b"receive", (NEVER,)))
        assert (await closed(bench))[0] == ClientClosed(1, CloseReason.FAILED, MISTAKE)
        await others_go_on(bench)


@pytest.mark.parametrize("again", [False, True], ids=["once", "and at the end"])
@pytest.mark.parametrize("where", ["frame", "turn", "event", "event turn", "created"])
async def test_a_bug_in_the_core_ends_the_client_that_it_was_met_for(
    caplog: pytest.LogCaptureFixture, where: str, again: bool
) -> None:
    async with running() as bench:
        compositor = await bench.open()
        await bench.open(2)
        respond = bench.relay._respond

        def err(what: tuple[object, ...]) -> list[Command]:
            mine = 1 in what[1:2] or what == ("frame", Data(1, b"make"))
            if mine and what[0] == where and bench.relay.clients >= {1}:
                raise IndexError
            if what[0] == "client failed" and again:
                raise RecursionError
            return respond(what)

        bench.relay._respond = err
        bench.relay.turns[1] = 1
        bench.relay.event_turns[1] = 1
        await bench.data(b"make", CreateCopyBuffer(1, Handle(2), 4096))
        await compositor.send(b"event")
        await trio.testing.wait_all_tasks_blocked()

        heard = await closed(bench)
        assert ClientClosed(1, CloseReason.FAILED, MISTAKE) in heard
        assert bench.metrics.bugs == 1 + again
        assert "IndexError" in caplog.text
        bench.relay._respond = respond
        await others_go_on(bench)


def fault(*_args: object, **_kwargs: object) -> Any:
    raise ValueError("nobody expected this")


async def afault(*_args: object, **_kwargs: object) -> Any:
    await trio.lowlevel.checkpoint()
    fault()


async def in_the_writer_to_the_compositor(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = CompositorQueue.run

    async def run_badly(self: CompositorQueue) -> None:
        if not bench.compositors[1:]:  # that of the first client
            await afault()
        await run(self)

    monkeypatch.setattr(CompositorQueue, "run", run_badly)
    await bench.open()


async def in_a_pipe(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wlproxy.transport.pumps.pump_to_peer", afault)
    await bench.open()
    (await bench.pipe(2, Direction.TO_GUEST)).close()


async def in_the_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RamPages, "make", fault)
    await bench.open()
    await bench.data(b"make", CreateUdmabuf(1, Handle(2), ITEMS * 300))


async def in_its_credit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.open()
    # More than it ever sent.
    await bench.data(b"x", SendToCompositor(1, b"x"), GrantCredit(1, 1 << 20))


async def as_its_fds_are_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    compositor = await bench.open()
    with monkeypatch.context() as patched:
        patched.setattr(Client, "receive_fds", fault)
        await compositor.send(b"event")
        await trio.testing.wait_all_tasks_blocked()


@pytest.mark.parametrize(
    "happens",
    [
        in_the_writer_to_the_compositor,
        in_a_pipe,
        in_the_thread,
        in_its_credit,
        as_its_fds_are_named,
    ],
    ids=lambda happens: happens.__name__,
)
async def test_a_bug_in_a_task_of_a_client_ends_that_client(
    monkeypatch: pytest.MonkeyPatch, happens: Callable[..., Any]
) -> None:
    async with running() as bench:
        await happens(bench, monkeypatch)
        await bench.open(2)
        heard = [await bench.agent.receive()]
        while not isinstance(heard[-1], ClientClosed):
            heard.append(await bench.agent.receive())
        assert heard[-1] == ClientClosed(1, CloseReason.FAILED, MISTAKE)
        await closed(bench)
        assert bench.metrics.bugs == 1
        await others_go_on(bench)


async def test_a_bug_as_a_client_is_connected_ends_that_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as bench:
        connect, bench.connect = bench.connect, afault
        await bench.agent.send(ClientOpened(1, 7, 0, 0, "app"))
        assert await bench.agent.receive_until(ClientReleased) == [
            ClientClosed(1, CloseReason.FAILED, MISTAKE),
            ClientReleased(1),
        ]
        bench.connect = connect
        await bench.open(2)
        assert bench.session.cause is None


async def test_a_bug_that_is_no_clients_ends_the_session_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as bench:
        compositor = await bench.open()
        with monkeypatch.context() as patched:
            patched.setattr("wlproxy.host.session.Pong", fault)
            await bench.agent.send(Ping(1))
            await trio.testing.wait_all_tasks_blocked()
        assert bench.metrics.bugs == 1
        assert str(bench.session.cause) == MISTAKE
        await see_hang_up(compositor)
        await compositor.aclose()
        assert isinstance((await bench.agent.receive_until(Goodbye))[-1], Goodbye)


async def test_a_client_that_the_core_forgot_is_closed_with_the_session() -> None:
    async with running() as bench:
        compositor = await bench.open()
        bench.relay.clients.clear()
        bench.session.lost(None)
        await see_hang_up(compositor)
        await compositor.aclose()
        assert await bench.agent.receive_until(Goodbye) == [
            ClientClosed(1, CloseReason.NORMAL, "over"),
            ClientReleased(1),
            Goodbye(CloseReason.NORMAL, "over"),
        ]
