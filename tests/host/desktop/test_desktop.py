"""The compositor as clients meet it, with a plain socket and a real sway."""

import socket
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from wlproxy.host.desktop.desktop import Desktop, prepare_when_back
from wlproxy.host.errors import NoCompositorError
from wlproxy.host.report.vm_log import VmLog
from wlproxy.relay.capabilities import CompositorCapabilities

LOG = VmLog("test")


def desktop(path: Path) -> Desktop:
    return Desktop("test", str(path), LOG)


async def test_its_end_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "wayland-0"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        there = desktop(path)
        ended = trio.Event()

        async def watch() -> None:
            await there.wait_gone()
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            connection, _ = listener.accept()
            with connection:
                connection.send(b"events that nobody asked for")
                await trio.testing.wait_all_tasks_blocked()
                assert not ended.is_set()
        assert ended.is_set()
    await there.wait_gone()  # nobody listens any more: at once
    there.close()


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


async def test_nobody_is_connected_to_one_that_was_not_looked_at(
    tmp_path: Path,
) -> None:
    """Although the one before has gone, and nobody has noticed yet."""
    path, looked = tmp_path / "wayland-0", 0

    def look(*_: object) -> CompositorCapabilities:
        nonlocal looked
        looked += 1
        return CompositorCapabilities(shm_udmabuf=False)

    there = Desktop("test", str(path), LOG, look, isolate=False)
    with listening(path) as first:
        await there.prepare()
        watched, _ = first.accept()
        watched.close()
    path.unlink()
    with listening(path):
        assert not there.there
        connected: list[int] = []

        async def connect() -> None:
            async with await there.connect():
                connected.append(looked)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect)
            await trio.testing.wait_all_tasks_blocked()
            await there.wait_gone()
            await there.prepare()
        assert connected == [2]
        there.close()


async def test_one_that_goes_while_it_is_looked_at_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "wayland-0"

    def look(*_: object) -> CompositorCapabilities:
        first.accept()[0].close()
        return CompositorCapabilities(shm_udmabuf=False)

    there = Desktop("test", str(path), LOG, look, isolate=False)
    with listening(path) as first:
        await there.prepare()
        assert not there.there
        await there.wait_gone()
    there.close()


async def test_looking_is_given_up_at_once(tmp_path: Path) -> None:
    """A compositor may keep us waiting for longer than somebody who wants us to stop."""
    path, go_on = tmp_path / "wayland-0", threading.Event()

    def look(*_: object) -> CompositorCapabilities:
        go_on.wait()
        return CompositorCapabilities(shm_udmabuf=False)

    there = Desktop("test", str(path), LOG, look, isolate=False)
    with listening(path), trio.move_on_after(0.01) as scope:
        await there.prepare()
    assert scope.cancelled_caught
    go_on.set()
    there.close()


async def test_one_that_is_not_there_is_an_error(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    there = desktop(tmp_path / "wayland-0")
    with pytest.raises(NoCompositorError):
        await there.prepare()
    with pytest.raises(NoCompositorError):
        await there.connect()
    there.close()


@pytest.mark.lab
async def test_clients_are_isolated_where_the_compositor_can(sway: Path) -> None:
    there = desktop(sway)
    await there.prepare()
    assert there.isolated
    assert "wl_compositor" in there.capabilities.global_versions
    assert "wp_security_context_manager_v1" not in there.capabilities.global_versions
    async with await there.connect():
        pass
    there.close()


@pytest.mark.slow
async def test_back_again_it_is_prepared_again(
    weston: object, autojump_clock: trio.testing.MockClock
) -> None:
    there = desktop(weston.socket)  # type: ignore[attr-defined]
    await prepare_when_back(there, LOG)
    assert not there.isolated
    assert there.capabilities.global_versions
    there.close()
