"""What is waited for, and when the log says what to look at."""

import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from wlproxy.host.report.progress import HINT_SECONDS, Progress, State
from wlproxy.host.report.vm_log import VmLog


@asynccontextmanager
async def watched() -> AsyncIterator[Progress]:
    progress = Progress(Path("/run/channel"), Path("/run/wayland-0"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress.watch, VmLog("test"))
        await trio.testing.wait_all_tasks_blocked()
        yield progress
        nursery.cancel_scope.cancel()


def hints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """All that was said of our VM; what else is logged meanwhile is another's."""
    return [each for each in caplog.messages if each.startswith("[test] ")]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.WAITING_FOR_QEMU, "wlproxy qemu-args --channel /run/channel"),
        (State.WAITING_FOR_AGENT, "systemctl status wlproxy-guest-agent"),
        (State.WAITING_FOR_COMPOSITOR, "/run/wayland-0"),
    ],
)
async def test_who_waits_long_hears_once_what_to_look_at(
    state: State,
    words: str,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
) -> None:
    caplog.set_level(logging.INFO)
    async with watched() as progress:
        if state is State.WAITING_FOR_COMPOSITOR:
            progress.set_compositor(there=False)
            progress.enter(State.SERVING)
        else:
            progress.enter(state)
        await trio.sleep(HINT_SECONDS - 1)
        assert hints(caplog) == []
        await trio.sleep(1000)
        progress.set_compositor(there=False)  # which changes nothing
        await trio.sleep(1000)
    (hint,) = hints(caplog)
    assert hint.count(words) == 1
    assert words in progress.hint


async def test_what_goes_on_is_nothing_to_look_at(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    caplog.set_level(logging.INFO)
    async with watched() as progress:
        for _ in range(10):
            progress.enter(State.WAITING_FOR_AGENT)
            await trio.sleep(HINT_SECONDS / 2)
            progress.enter(State.PROVING_RAM)
        progress.enter(State.SERVING)
        await trio.sleep(1000)
    assert hints(caplog) == []


def test_without_a_compositor_nobody_is_served() -> None:
    progress = Progress(Path("/c"), Path("/w"))
    states = [progress.state]
    for there in (False, True):
        progress.enter(State.SERVING)
        progress.set_compositor(there=there)
        states.append(progress.state)
    assert states == [State.STARTING, State.WAITING_FOR_COMPOSITOR, State.SERVING]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Systemd's end of sd_notify(3)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def test_systemd_is_told(manager: socket.socket) -> None:
    progress = Progress(Path("/c"), Path("/w"))
    progress.enter(State.WAITING_FOR_AGENT)
    progress.enter(State.STOPPING)
    assert manager.recv(999) == b"STATUS=waiting for the guest agent"
    assert manager.recv(999) == b"STATUS=stopping\nSTOPPING=1"
