"""Threads that hang, are given up, and come back; real ones, whose calls the test holds."""

import errno
import threading
from collections.abc import Callable

import pytest
import trio
import trio.testing

from wlproxy_guest import workers
from wlproxy_guest.workers import Workers

LONG = 30.0
SOON = 0.05


class Call:
    """A call that takes until it is let go."""

    def __init__(self, result: str = "") -> None:
        self.result = result
        self.go = threading.Event()
        self.begun = threading.Event()
        self.discarded: list[str | None] = []

    def __call__(self) -> str:
        self.begun.set()
        assert self.go.wait(10)
        return self.result

    async def ask(self, threads: Workers, seconds: float) -> str:
        deadline = trio.current_time() + seconds
        return await threads.run(self, self.discarded.append, deadline)


async def until(done: Callable[[], object]) -> None:
    with trio.fail_after(10):
        while not done():  # noqa: ASYNC110 - threads tell nobody
            await trio.sleep(0.001)


async def test_result() -> None:
    call = Call("found")
    call.go.set()
    assert await call.ask(Workers(1), LONG) == "found"
    assert call.discarded == []


async def test_error() -> None:
    discarded: list[None] = []

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Workers(1).run(fail, discarded.append, trio.current_time() + LONG)
    assert discarded == [None]


async def test_so_many_at_once(nursery: trio.Nursery) -> None:
    threads = Workers(2)
    calls = [Call() for _ in range(3)]
    for call in calls:
        nursery.start_soon(call.ask, threads, LONG)
        await trio.testing.wait_all_tasks_blocked()
    await until(calls[1].begun.is_set)
    assert not calls[2].begun.is_set()
    calls[0].go.set()
    await until(calls[2].begun.is_set)
    for call in calls:
        call.go.set()


async def test_one_that_hangs_is_given_up_and_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "LAST_MOMENT", 0)
    threads = Workers(1)
    hanging, other = Call("late"), Call("found")
    other.go.set()
    with pytest.raises(trio.TooSlowError):
        await hanging.ask(threads, SOON)
    assert hanging.discarded == []

    assert await other.ask(threads, LONG) == "found"

    hanging.go.set()
    await until(lambda: hanging.discarded)
    assert hanging.discarded == ["late"]
    # It is one thread again, as it was.
    hanging, waiting = Call(), Call()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hanging.ask, threads, LONG)
        await until(hanging.begun.is_set)
        with pytest.raises(trio.TooSlowError):
            await waiting.ask(threads, SOON)
        assert not waiting.begun.is_set()
        assert waiting.discarded == [None]
        hanging.go.set()


async def test_no_more_are_replaced_than_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "MAX_STUCK", 1)
    monkeypatch.setattr(workers, "LAST_MOMENT", 0)
    threads = Workers(1)
    calls = [Call() for _ in range(3)]
    for call in calls:
        with pytest.raises(trio.TooSlowError):
            await call.ask(threads, SOON)
    assert [call.begun.is_set() for call in calls] == [True, True, False]
    for call in calls:
        call.go.set()
    await until(lambda: all(call.discarded for call in calls))
    again = Call("found")
    again.go.set()
    assert await again.ask(threads, LONG) == "found"


async def test_nobody_wants_the_result_any_more(nursery: trio.Nursery) -> None:
    call = Call("unwanted")
    with trio.CancelScope() as scope:
        nursery.start_soon(cancel_when_begun, scope, call)
        await call.ask(Workers(1), LONG)
    assert scope.cancelled_caught
    assert call.discarded == ["unwanted"]


async def cancel_when_begun(scope: trio.CancelScope, call: Call) -> None:
    await until(call.begun.is_set)
    scope.cancel()
    call.go.set()


async def test_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    threads = Workers(1)
    call = Call("found")
    call.go.set()
    with monkeypatch.context() as patch:
        patch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
        with pytest.raises(OSError, match="no thread") as raised:
            await call.ask(threads, LONG)
    assert raised.value.errno == errno.EAGAIN
    assert call.discarded == [None]
    assert await call.ask(threads, LONG) == "found"


async def hang_on(call: Call) -> None:
    with trio.move_on_after(SOON):
        await call.ask(Workers(1), LONG)


async def test_the_loop_ends_before_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LAST_MOMENT", 0)
    call = Call("late")
    await trio.to_thread.run_sync(trio.run, hang_on, call)
    call.go.set()
    await until(lambda: call.discarded)
    assert call.discarded == ["late"]
