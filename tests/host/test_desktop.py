"""The compositor as clients meet it, with a plain socket and a real sway."""

import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from wlproxy.host.desktop import Desktop, prepare_when_back
from wlproxy.host.errors import NoCompositorError
from wlproxy.host.vm_log import VmLog

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


async def test_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
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
    await prepare_when_back(there, 5)
    assert not there.isolated
    assert there.capabilities.global_versions
    there.close()
