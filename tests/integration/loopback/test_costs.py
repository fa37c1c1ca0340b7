"""What a message and a frame cost in our own code, counted: calls, and steps of tasks.

`pytest -s tests/integration/loopback/test_costs.py` prints the figures.  Everything runs in one
thread, so that they are the same each time, on every machine.  A call is one of a Python function; a
step is what a task does between two waits: whoever hands something to another task adds one.
"""

from collections.abc import Awaitable, Callable

import pytest
import trio

from tests.calls import Calls
from tests.peers.app import App
from tests.peers.loopback import Loopback
from wlproxy.relay.look import WindowFrame
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest.unix_socket import AppSocket

TIMES = 50

FRAMED = 20
"""Calls that a frame around the window may cost, per frame of the app's."""

MOST = {"sync": (425, 7), "frame": (590, 7)}
"""Calls and steps: per round trip of `wl_display.sync`, and per frame of 32 x 32 pixels that
are copied.  So many as there are, and a tenth more calls; when they become fewer these do, too."""

TIMERS = 0.5
"""Steps that timers may add on a slow machine, which takes seconds: each is taken once in `TIMES`."""


class Steps(trio.abc.Instrument):
    """Counts the steps of tasks, those of the app and the compositor too."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, _: trio.lowlevel.Task) -> None:
        self.count += 1


async def measure(once: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Do something many times; return the calls and steps of each time."""
    for _ in range(3):
        await once()
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        with Calls() as calls:
            for _ in range(TIMES):
                await once()
    finally:
        trio.lowlevel.remove_instrument(steps)
    return calls.count / TIMES, steps.count / TIMES


async def test_messages_and_frames_cost_no_more_than_they_did(
    loopback: Loopback, app: App
) -> None:
    window, canvases = await app.window(), [app.canvas((32, 32)) for _ in range(2)]

    async def sync() -> None:
        await app.roundtrip()

    async def frame() -> None:
        canvas = canvases[0]
        canvases.reverse()
        done = app.record(app.keep(window.surface.frame()), "done")
        window.surface.attach(canvas.buffer, 0, 0)
        window.surface.damage(0, 0, 32, 32)
        window.surface.commit()
        await app.until(lambda: done)

    for name, once in (("sync", sync), ("frame", frame)):
        calls, steps = await measure(once)
        print(f"{name}: {calls:.1f} calls, {steps:.1f} steps")
        most_calls, most_steps = MOST[name]
        assert 0.5 * most_calls < calls < most_calls
        assert 0.5 * most_steps < steps < most_steps + TIMERS


async def test_a_frame_around_the_window_costs_a_few_calls(bare: Loopback) -> None:
    """And no message more, and no task's step: its layout does not change."""
    await bare.start_compositor()
    await bare.start_agent()
    await bare.start_host(frame=WindowFrame(0xFF0000))
    app = await bare.app()
    window, canvases = await app.window(), [app.canvas((32, 32)) for _ in range(2)]

    async def frame() -> None:
        canvas = canvases[0]
        canvases.reverse()
        done = app.record(app.keep(window.surface.frame()), "done")
        window.surface.attach(canvas.buffer, 0, 0)
        window.surface.damage(0, 0, 32, 32)
        window.surface.commit()
        await app.until(lambda: done)

    await frame()
    bare.compositor.calls.clear()
    calls, steps = await measure(frame)
    print(f"framed: {calls:.1f} calls, {steps:.1f} steps")
    most_calls, most_steps = MOST["frame"]
    assert calls < most_calls + FRAMED
    assert steps < most_steps + TIMERS
    names = {call.name for call in bare.compositor.calls}
    assert not {name for name in names if name.startswith("wl_subsurface")}


async def test_a_task_more_is_noticed(
    monkeypatch: pytest.MonkeyPatch, loopback: Loopback, app: App
) -> None:
    """What the figures are for: somebody hands over what could be done at once."""
    calls, steps = await measure(app.roundtrip)
    receive = AppSocket.receive

    async def hand_over(socket: AppSocket, size: int) -> tuple[bytes, list[OwnedFd]]:
        received = await receive(socket, size)
        await trio.lowlevel.checkpoint()
        return received

    monkeypatch.setattr(AppSocket, "receive", hand_over)
    more_calls, more_steps = await measure(app.roundtrip)
    assert more_steps >= steps + 1 - TIMERS
    assert more_calls >= calls
