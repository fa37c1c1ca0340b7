"""Several screens of one machine: a window each, and each for itself."""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.peers.compositor import Compositor, configure
from tests.peers.libwayland import Resource, ServerClient
from tests.screen.conftest import MakeMachine
from tests.screen.fake_qemu import FakeQemu
from tests.screen.policies import directions, sharing
from wlproxy.host.desktop.address import connect_compositor
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog
from wlproxy.screen import viewer
from wlproxy.screen.connecting import connect_by_monitor
from wlproxy.screen.door import Door, NoDoormanError
from wlproxy.screen.heads import Heads, Options
from wlproxy.screen.line import Line
from wlproxy.screen.sharing import Sharing

PATIENCE = 30


class Stage:
    """The windows of a machine on a compositor that is the test's.

    Attributes:
        ended: why there are none any more; "" if they were closed.
        over: whether there are none any more.
    """

    def __init__(self, compositor: Compositor, heads: Heads) -> None:
        self.compositor, self.heads = compositor, heads
        self.ended, self.over = "", False

    async def run(self) -> None:
        try:
            await self.heads.run()
        except HostError as exc:
            self.ended = str(exc)
        self.over = True

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.005)

    @property
    def titles(self) -> list[str]:
        called = self.compositor.called("xdg_toplevel.set_title")
        return sorted(call.args[0] for call in called)

    def window(self, title: str) -> ServerClient:
        """The connection whose window has this title."""
        (call,) = (
            call
            for call in self.compositor.called("xdg_toplevel.set_title")
            if call.args == (title,)
        )
        return call.resource.client

    def frames(self, title: str) -> list[bytes]:
        frames: list[bytes] = surface_of(self.window(title)).state.frames
        return frames


def surface_of(client: ServerClient) -> Resource:
    return client.all("wl_surface")[0]


@asynccontextmanager
async def shown(
    qemu: socket.socket,
    directory: Path,
    only: int | None = None,
    rules: Sharing | None = None,
    open_door: Callable[[], Door] = Door.start,
) -> AsyncIterator[Stage]:
    compositor, path = Compositor(), directory / "wl"
    async with trio.open_nursery() as nursery:
        await nursery.start(compositor.run, path)
        with Line(qemu) as line:
            connect = partial(connect_compositor, path)
            log = VmLog("vm")
            options = Options(only, rules or sharing())
            heads = Heads("vm", line, connect, open_door, log, options)
            stage = Stage(compositor, heads)
            async with trio.open_nursery() as inner:
                inner.start_soon(stage.run)
                yield stage
                inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def faked(
    directory: Path,
    only: int | None = None,
    rules: Sharing | None = None,
    open_door: Callable[[], Door] = Door.start,
    **attributes: object,
) -> AsyncIterator[tuple[Stage, FakeQemu]]:
    ours, theirs = socket.socketpair()
    qemu = FakeQemu(theirs)
    for name, value in attributes.items():
        setattr(qemu, name, value)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(qemu.run)
        async with shown(ours, directory, only, rules, open_door) as stage:
            yield stage, qemu
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_two_heads_of_a_real_machine(
    machine: MakeMachine, tmp_path: Path
) -> None:
    vm = machine("-device", "virtio-vga,max_outputs=2")
    qemu = await trio.to_thread.run_sync(connect_by_monitor, vm.monitor)
    async with shown(qemu, tmp_path) as stage:
        await stage.until(lambda: len(stage.titles) == 2)
        assert stage.titles == ["[vm] screen", "[vm] screen 2"]
        await stage.until(lambda: all(map(stage.frames, stage.titles)))
        modes = [each.counts.mode for each in stage.heads.viewers.values()]
        assert modes == ["A", "A"]
        stage.window("[vm] screen 2").find("xdg_toplevel").send("close")
        await stage.until(lambda: len(stage.heads.viewers) == 1)
        frames = len(stage.frames("[vm] screen"))
        configure(surface_of(stage.window("[vm] screen")), (500, 400))
        await stage.until(lambda: len(stage.frames("[vm] screen")) > frames)
        assert not stage.over
        stage.window("[vm] screen").find("xdg_toplevel").send("close")
        await stage.until(lambda: stage.over)
        assert stage.ended == ""


@pytest.mark.slow
async def test_two_devices_of_a_real_machine(
    machine: MakeMachine, tmp_path: Path
) -> None:
    vm = machine("-vga", "std", "-device", "secondary-vga")
    qemu = await trio.to_thread.run_sync(connect_by_monitor, vm.monitor)
    async with shown(qemu, tmp_path, 1) as stage:
        await stage.until(lambda: stage.titles == ["[vm] screen 2"])
        await stage.until(lambda: stage.frames("[vm] screen 2"))


async def test_a_further_head_is_plugged_in_and_unplugged(tmp_path: Path) -> None:
    async with faked(tmp_path, consoles=1, head=1) as (stage, qemu):
        await stage.until(lambda: qemu.heard("SetUIInfo"))
        assert qemu.heard("SetUIInfo")[0][1][4:] == viewer.PLUGGED
        stage.window("[vm] screen").find("xdg_toplevel").send("close")
        await stage.until(lambda: stage.over and len(qemu.heard("SetUIInfo")) == 2)
        assert qemu.heard("SetUIInfo")[1][1][4:] == (0, 0)
        assert stage.ended == ""


async def test_it_is_unplugged_though_qemu_has_not_answered_the_plugging_in(
    tmp_path: Path,
) -> None:
    async with faked(tmp_path, consoles=1, head=1, mute=("SetUIInfo",)) as (
        stage,
        qemu,
    ):
        await stage.until(lambda: qemu.heard("SetUIInfo"))
        stage.window("[vm] screen").find("xdg_toplevel").send("close")
        await stage.until(lambda: len(qemu.heard("SetUIInfo")) == 2)
        assert qemu.heard("SetUIInfo")[1][1][4:] == (0, 0)


async def test_what_ends_one_window_ends_no_other(tmp_path: Path) -> None:
    async with faked(tmp_path, consoles=3) as (stage, qemu):
        await stage.until(lambda: qemu.listeners == 3)
        stage.window("[vm] screen 2").find("xdg_toplevel").post_error(0, "no more")
        await stage.until(lambda: len(stage.heads.viewers) == 2)
        assert sorted(stage.heads.viewers) == [0, 2]
        assert not stage.over
        for title in ("[vm] screen", "[vm] screen 3"):
            stage.window(title).find("xdg_toplevel").send("close")
        await stage.until(lambda: stage.over)
        assert "no more" in stage.ended


async def test_a_bug_ends_one_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with faked(tmp_path, consoles=2) as (stage, qemu):
        await stage.until(lambda: qemu.listeners == 2)
        broken = stage.heads.viewers[1]
        monkeypatch.setattr(broken.window.sizing, "configure", None)
        configure(surface_of(stage.window("[vm] screen 2")))
        await stage.until(lambda: list(stage.heads.viewers) == [0])
        assert "a bug of wlproxy" in caplog.text
        assert not stage.over


async def test_one_of_them_alone(tmp_path: Path) -> None:
    async with faked(tmp_path, 1, consoles=3) as (stage, qemu):
        await stage.until(lambda: qemu.listeners == 1)
        assert stage.titles == ["[vm] screen 2"]


async def test_one_that_is_not_there(tmp_path: Path) -> None:
    async with faked(tmp_path, 7, consoles=2) as (stage, _qemu):
        await stage.until(lambda: stage.over)
        assert "no screen 7" in stage.ended
        assert "0, 1" in stage.ended


async def test_no_screens_with_pictures(tmp_path: Path) -> None:
    async with faked(tmp_path, consoles=2, kind="Text") as (stage, _qemu):
        await stage.until(lambda: stage.over)
        assert "no screen with a picture" in stage.ended


async def test_none_at_all(tmp_path: Path) -> None:
    async with faked(tmp_path, consoles=0) as (stage, _qemu):
        await stage.until(lambda: stage.over)
        assert "it has no screen" in stage.ended


async def test_qemu_ends_before_it_has_answered(tmp_path: Path) -> None:
    async with faked(tmp_path, speaks=trio.Event()) as (stage, qemu):
        qemu.main.socket.shutdown(socket.SHUT_RDWR)
        await stage.until(lambda: stage.over)
        assert "QEMU has ended" in stage.ended


async def test_there_are_not_more_windows_than_one_may_have(tmp_path: Path) -> None:
    async with faked(tmp_path, consoles=1000) as (stage, qemu):
        await stage.until(lambda: qemu.listeners == 16)
        assert len(stage.heads.viewers) == 16


async def test_the_clipboard_is_left_alone_until_the_policy_lets_something_through(
    tmp_path: Path,
) -> None:
    rules = sharing("off", "off")
    async with faked(tmp_path, rules=rules) as (stage, qemu):
        await stage.until(lambda: qemu.listeners == 1)
        rules.obey(directions("off", "off"))
        await trio.testing.wait_all_tasks_blocked()
        assert not qemu.heard("Unregister", "Register")
        rules.obey(directions("off", "ask"))
        await stage.until(lambda: qemu.heard("Register"))
        assert not stage.over


def no_doorman() -> Door:
    raise NoDoormanError("QEMU cannot be let in")


def mortal_doorman() -> Door:
    return Door.with_doorman(lambda _control, _pulse: lambda: None)


@pytest.mark.parametrize(
    ("open_door", "why"),
    [
        (no_doorman, "cannot be let in"),
        (mortal_doorman, "the connection to QEMU has ended"),
    ],
)
async def test_nobody_looks_after_the_connection(
    tmp_path: Path, open_door: Callable[[], Door], why: str
) -> None:
    async with faked(tmp_path, open_door=open_door) as (stage, _qemu):
        await stage.until(lambda: stage.over)
        assert why in stage.ended
