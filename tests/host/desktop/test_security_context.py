import errno
import fcntl
import os
import shutil
import struct
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.host.conftest import Weston
from tests.peers.sandbox import SandboxingCompositor
from wlproxy.host.desktop.address import connect_compositor
from wlproxy.host.desktop.security_context import SecurityContext
from wlproxy.host.desktop.wayland_client import WaylandClient
from wlproxy.host.errors import NoCompositorError, SecurityContextError
from wlproxy.transport.fds import OwnedFd


def test_weston_has_none(weston: Weston) -> None:
    before = os.listdir(weston.directory)
    with pytest.raises(SecurityContextError, match="has no wp_security_context"):
        SecurityContext(weston.socket, "org.example", "vm")
    assert os.listdir(weston.directory) == before


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(NoCompositorError):
        SecurityContext(tmp_path / "wl", "org.example", "vm")
    assert not os.listdir(tmp_path)


def test_directory_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(SecurityContextError, match="ENOENT"):
        SecurityContext(tmp_path / "absent" / "wl", "org.example", "vm")


def test_names_have_a_limit(weston: Weston) -> None:
    with pytest.raises(SecurityContextError, match="longer"):
        SecurityContext(weston.socket, "org.example", "v" * 5000)


def test_without_an_fd_to_spare_there_is_none_and_nothing_is_left(
    weston: Weston, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pipe() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "pipe", no_pipe)
    before = os.listdir(weston.directory)
    with pytest.raises(SecurityContextError, match="EMFILE"):
        SecurityContext(weston.socket, "org.example", "vm")
    assert os.listdir(weston.directory) == before


def test_what_killed_proxies_left_is_swept_and_nothing_else(
    weston: Weston, tmp_path: Path
) -> None:
    left, in_use, other, mine = (
        weston.directory / name
        for name in ("wlproxy-context-a", "wlproxy-context-b", "wlproxy-x", "x")
    )
    for directory in (left, in_use, other, mine):
        directory.mkdir()
        (directory / "wayland").touch()
    (mine / "wayland").rename(mine / "photos")
    mine = mine.rename(weston.directory / "wlproxy-context-c")
    with OwnedFd(os.open(in_use, os.O_RDONLY)) as alive:
        fcntl.flock(alive.fileno(), fcntl.LOCK_EX)
        with pytest.raises(SecurityContextError, match="has no wp_security_context"):
            SecurityContext(weston.socket, "org.example", "vm")
    assert not left.exists()
    for directory in (in_use, other, mine):
        assert len(os.listdir(directory)) == 1
        shutil.rmtree(directory)


async def test_a_directory_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another proxy that starts at the same time, between our opening it and our locking it."""
    swept: list[Path] = []
    lock = fcntl.flock

    def sweep_and_lock(fd: int, operation: int) -> None:
        if not swept:
            swept.append(Path(f"/proc/self/fd/{fd}").readlink())
            swept[0].rmdir()
        lock(fd, operation)

    nursery.start_soon(SandboxingCompositor(denied=()).run, tmp_path / "wl")
    await trio.testing.wait_all_tasks_blocked()
    monkeypatch.setattr(fcntl, "flock", sweep_and_lock)
    context = await trio.to_thread.run_sync(
        SecurityContext, tmp_path / "wl", "org.example", "vm"
    )
    with context:
        assert context.path.is_socket()
        assert context.path.parent != swept[0]
    assert not context.path.parent.exists()


@pytest.mark.lab
def test_clients_of_a_context_are_told_apart(sway: Path) -> None:
    """wlroots hides the manager itself from whoever came through a context."""
    manager = "wp_security_context_manager_v1"
    with WaylandClient(sway) as trusted:
        assert manager in trusted.global_versions
    with (
        SecurityContext(sway, "org.example", "vm") as context,
        WaylandClient(context.path) as client,
    ):
        assert "wl_compositor" in client.global_versions
        assert manager not in client.global_versions
        path = context.path
        context.close()
        client.roundtrip()  # connections outlive the context
    assert not path.exists()
    with pytest.raises(NoCompositorError):
        WaylandClient(path)


@pytest.mark.lab
async def test_streams_connect_through_a_context(sway: Path) -> None:
    with SecurityContext(sway, "org.example", "vm") as context:
        async with await connect_compositor(context.path) as stream:
            # wl_display.sync(2): header of 12 bytes, opcode 0
            await stream.send(struct.pack("=IHHI", 1, 0, 12, 2))
            received, fds = await stream.receive()
    assert struct.unpack_from("=I", received)[0] == 2  # its wl_callback.done
    assert fds == []
