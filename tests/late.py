"""Has everybody in a test hear late, at random: `pytest --late SEED tests/screen`.

Tests run peers, relay and viewer in one thread, where each hears at once; on a slow machine, and where they are
processes, one of them may lag behind.  A test that waits for what one peer has heard and then looks at what
another has passes here and fails there.  With this it fails here as well: each task has its own random
lag whenever it waits for a socket, the same for the same seed.

What counts the steps of tasks fails with it: `test_costs`, and one test of `tests/host/test_session.py`.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

import pytest
import trio
import trio.testing

from wlproxy.transport.fd_stream import FdStream

LAGS: Final = 0.0, 0.003, 0.01, 0.03
"""Seconds that a task lags at most."""
OFTEN: Final = 0.2, 0.5, 1.0
"""How often it does, of each time."""
ENOUGH: Final = 1.0
"""Seconds that one task lags in all, so that much data does not take minutes."""

Wait = Callable[..., Awaitable[Any]]


class Late:
    """The lags of one run of pytest."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._random = random.Random()
        self._pace: WeakKeyDictionary[trio.lowlevel.Task, tuple[float, float]] = (
            WeakKeyDictionary()
        )
        self._lagged: WeakKeyDictionary[trio.lowlevel.Task, float] = WeakKeyDictionary()
        self._pausing = 0
        self._patch = pytest.MonkeyPatch()
        self._all_blocked = trio.testing.wait_all_tasks_blocked

    def pytest_configure(self) -> None:
        """Wrap what all that hears waits with."""
        wait_readable = trio.lowlevel.wait_readable

        async def late(socket: Any) -> None:
            await wait_readable(socket)
            await self._pause()

        replace = self._patch.setattr
        replace(trio.lowlevel, "wait_readable", late)
        replace(FdStream, "receive", self._after_a_pause(FdStream.receive))
        receive = trio.SocketStream.receive_some
        replace(trio.SocketStream, "receive_some", self._after_a_pause(receive))
        replace(trio.testing, "wait_all_tasks_blocked", self._wait_all_tasks_blocked)

    def pytest_unconfigure(self) -> None:
        self._patch.undo()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._random.seed(f"{self._seed} {item.nodeid}")
        self._pausing = 0

    def _after_a_pause(self, wait: Wait) -> Wait:
        async def late(*args: Any, **options: Any) -> Any:
            await self._pause()
            return await wait(*args, **options)

        return late

    async def _wait_all_tasks_blocked(self, cushion: float = 0.0) -> None:
        await self._all_blocked(cushion)
        while self._pausing:
            await trio.sleep(0.001)
            await self._all_blocked(cushion)

    async def _pause(self) -> None:
        if isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock):
            return  # time is the test's
        task = trio.lowlevel.current_task()
        if task not in self._pace:
            self._pace[task] = self._random.choice(OFTEN), self._random.choice(LAGS)
        often, most = self._pace[task]
        lagged = self._lagged.get(task, 0)
        if lagged > ENOUGH or self._random.random() >= often:
            return
        pause = self._random.random() * most
        self._lagged[task] = lagged + pause
        self._pausing += 1
        try:
            await trio.sleep(pause)
        finally:
            self._pausing -= 1
