"""The clipboard with a real QEMU, and the agent of its guest at the other end of its chardev."""

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import trio
import trio.testing

from tests.peers.compositor import Compositor, offer_selection
from tests.peers.libwayland import Resource
from tests.screen.conftest import Machine, MakeMachine
from tests.screen.policies import sharing
from tests.screen.vdagent import GRAB, RELEASE, Agent, agent_of, guest_options
from wlproxy.host.desktop.address import connect_compositor
from wlproxy.host.errors import HostError
from wlproxy.host.report.vm_log import VmLog
from wlproxy.screen.connecting import connect_by_monitor
from wlproxy.screen.door import Door
from wlproxy.screen.heads import Heads, Options
from wlproxy.screen.line import Line
from wlproxy.screen.qemu_clipboard import QemuClipboard
from wlproxy.screen.sharing import Selection, Sharing
from wlproxy.transport.fds import OwnedFd

pytestmark = pytest.mark.slow

PATIENCE = 30
DEVICES = "wl_data_device", "zwp_primary_selection_device_v1"
UTF8 = "text/plain;charset=utf-8"


class Desk(NamedTuple):
    """A window of a machine, and the agent of its guest."""

    compositor: Compositor
    agent: Agent
    clipboard: QemuClipboard[OwnedFd] | None

    def window(self) -> object:
        """The last window that can be given the focus; None: there is none."""
        *_, last = [None, *(c for c in self.compositor.apps if c.all("wl_keyboard"))]
        return last

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.005)

    def find(self, interface: str) -> Resource:
        return self.compositor.apps[-1].find(interface)

    def focus(self) -> None:
        surface = self.compositor.apps[-1].all("wl_surface")[0]
        self.find("wl_keyboard").send("enter", 7, surface, b"")

    def unfocus(self) -> None:
        surface = self.compositor.apps[-1].all("wl_surface")[0]
        self.find("wl_keyboard").send("leave", 8, surface)

    async def copy(self, device: str, text: bytes) -> None:
        """Have an app of the host's copy a text, which the window reads."""
        offer = offer_selection(self.find(device), "image/png", UTF8)
        await self.until(lambda: offer.state)
        ((kind, fd),) = offer.state
        assert kind == UTF8
        offer.state.clear()
        with OwnedFd(fd) as own:
            await trio.to_thread.run_sync(_write_all, own.fileno(), text)

    async def paste(self, source: Resource) -> bytes:
        """Have an app of the host's paste what the window offers."""
        ours, theirs = map(OwnedFd, os.pipe())
        with theirs:
            source.send("send", UTF8, theirs.fileno())
        async with trio.lowlevel.FdStream(ours.detach()) as stream:
            with trio.fail_after(PATIENCE):
                return b"".join([piece async for piece in stream])


def _write_all(fd: int, text: bytes) -> None:
    while text:
        text = text[os.write(fd, text) :]


@asynccontextmanager
async def desk(
    vm: Machine,
    directory: Path,
    rules: Sharing,
    *,
    begins: bool = True,
) -> AsyncIterator[Desk]:
    compositor, path = Compositor(), directory / "wl"
    qemu = await trio.to_thread.run_sync(connect_by_monitor, vm.monitor)
    async with (
        trio.open_nursery() as nursery,
        agent_of(directory, begins=begins) as agent,
    ):
        await nursery.start(compositor.run, path)
        with Line(qemu) as line:
            connect = partial(connect_compositor, path)
            options = Options(sharing=rules)
            heads = Heads("vm", line, connect, Door.start, VmLog("vm"), options)
            async with trio.open_nursery() as inner:
                inner.start_soon(_run, heads)
                made = Desk(compositor, agent, heads.clipboard)
                await made.until(
                    lambda: (
                        any(c.all("wl_keyboard") for c in compositor.clients)
                        and heads.clipboard.registered
                    )
                )
                yield made
                inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def _run(heads: Heads) -> None:
    with suppress(HostError):  # another viewer takes its place, in one of the tests
        await heads.run()


@pytest.mark.parametrize("selection", list(Selection))
async def test_the_guest_pastes_what_the_host_copies(
    machine: MakeMachine, tmp_path: Path, selection: Selection
) -> None:
    vm = machine("-vga", "std", *guest_options(tmp_path))
    async with desk(vm, tmp_path, sharing()) as it:
        it.focus()
        for text in (b"one", "zwei Wörter".encode(), b"x" * 8_000):
            it.agent.said.clear()
            await it.copy(DEVICES[selection], text)
            await it.until(lambda: it.agent.heard(GRAB))
            assert it.agent.heard(GRAB)[-1].selection == selection
            assert await it.agent.paste(selection) == text
        it.unfocus()
        await it.until(lambda: it.agent.heard(RELEASE))
        assert await it.agent.paste(selection) == b""


@pytest.mark.parametrize("selection", list(Selection))
async def test_the_host_pastes_what_the_guest_copies(
    machine: MakeMachine, tmp_path: Path, selection: Selection
) -> None:
    vm = machine("-vga", "std", *guest_options(tmp_path))
    async with desk(vm, tmp_path, sharing()) as it:
        device = DEVICES[selection]
        await it.agent.copy(b"nobody asked", selection)
        clipboard = it.clipboard
        assert clipboard is not None
        await it.until(lambda: clipboard.grabs[selection])
        await trio.testing.wait_all_tasks_blocked()  # the window has seen it, too
        it.focus()
        await it.copy(device, b"of the host")  # so it has the focus
        await it.until(lambda: it.agent.heard(GRAB))
        called = f"{device}.set_selection"
        for text in (b"one", b"\xc3\xa4" * 1_500, b"bad \xff"):
            it.compositor.calls.clear()
            await it.agent.copy(text, selection)
            await it.until(lambda: it.compositor.called(called))
            source, serial = it.compositor.called(called)[-1].args
            assert serial == 7
            expected = text.decode(errors="replace").encode()
            assert await it.paste(source) == expected
        it.unfocus()
        assert await it.paste(source) == expected  # the host's apps have the focus then
        await it.agent.release(selection)
        await it.until(lambda: not source.alive)


async def test_what_is_off_goes_nowhere(machine: MakeMachine, tmp_path: Path) -> None:
    rules = sharing("to-guest", "to-host")
    vm = machine("-vga", "std", *guest_options(tmp_path))
    async with desk(vm, tmp_path, rules) as it:
        it.focus()
        selected = offer_selection(it.find(DEVICES[Selection.PRIMARY]), UTF8)
        await it.copy(DEVICES[Selection.CLIPBOARD], b"to the guest")
        await it.until(lambda: it.agent.heard(GRAB))
        assert await it.agent.paste(Selection.CLIPBOARD) == b"to the guest"
        assert not selected.state
        assert {each.selection for each in it.agent.heard(GRAB)} == {0}
        await it.agent.copy(b"not to the host", Selection.CLIPBOARD)
        await it.agent.copy(b"to the host", Selection.PRIMARY)
        called = f"{DEVICES[Selection.PRIMARY]}.set_selection"
        await it.until(lambda: it.compositor.called(called))
        source, _ = it.compositor.called(called)[-1].args
        assert await it.paste(source) == b"to the host"
        assert not it.compositor.called("wl_data_device.set_selection")


async def test_the_guest_waits_for_a_key_where_it_has_to_ask(
    machine: MakeMachine, tmp_path: Path
) -> None:
    vm = machine("-vga", "std", *guest_options(tmp_path))
    async with desk(vm, tmp_path, sharing("ask")) as it:
        it.focus()
        await it.copy(DEVICES[0], b"text")
        await trio.testing.wait_all_tasks_blocked()
        assert not it.agent.heard(GRAB)
        for _ in range(2):
            it.agent.said.clear()
            it.find("wl_keyboard").send("key", 9, 1, 30, 1)
            await it.until(lambda: it.agent.heard(GRAB))
            assert await it.agent.paste() == b"text"
            await it.until(lambda: it.agent.heard(RELEASE))
        it.find("wl_keyboard").send("key", 9, 1, 30, 1)
        await it.until(lambda: len(it.agent.heard(GRAB)) == 2)
        called = "wl_data_device.set_selection"
        assert not it.compositor.called(called)
        await it.agent.copy(b"of the guest", Selection.CLIPBOARD)
        await it.until(lambda: it.compositor.called(called))


async def test_an_agent_that_comes_later_and_another_viewer(
    machine: MakeMachine, tmp_path: Path
) -> None:
    vm = machine("-vga", "std", *guest_options(tmp_path))
    async with desk(vm, tmp_path, sharing(), begins=False) as it:
        it.focus()
        await it.copy(DEVICES[0], b"there already")
        it.agent.begins.set()
        await it.until(lambda: it.agent.heard(GRAB))
        assert await it.agent.paste() == b"there already"
        # Another viewer, where QEMU does not notice that the last one is gone.
        qemu = await trio.to_thread.run_sync(connect_by_monitor, vm.monitor)
        with Line(qemu) as line:
            clipboard = QemuClipboard[OwnedFd](line.peer, sharing(), "other")
            clipboard.join()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.run)
                clipboard.offer(Selection.CLIPBOARD, b"of the other")
                line.send_out()
                grabs = len(it.agent.heard(GRAB))
                await it.until(lambda: len(it.agent.heard(GRAB)) > grabs)
                assert await it.agent.paste() == b"of the other"
                nursery.cancel_scope.cancel()


async def slowness(vm: Machine) -> float:
    """Ask a machine's monitor something; return how many seconds that took."""
    began = trio.current_time()
    await trio.to_thread.run_sync(vm.execute, "query-status")
    return trio.current_time() - began


async def test_a_viewer_that_is_stopped_stops_no_machine_that_pastes(
    machine: MakeMachine, tmp_path: Path
) -> None:
    """QEMU would wait for 25 s; and the viewer comes back when it goes on."""
    vm = machine("-vga", "std", *guest_options(tmp_path))
    compositor, path = Compositor(), tmp_path / "wl"
    words = ["screen", "--name", "vm", "--qmp", str(vm.monitor), "--display", str(path)]
    async with (
        trio.open_nursery() as nursery,
        agent_of(tmp_path) as agent,
    ):
        await nursery.start(compositor.run, path)
        viewer = await trio.lowlevel.open_process(
            [sys.executable, "-m", "wlproxy", *words],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        )
        try:
            it = Desk(compositor, agent, None)
            await it.until(it.window)
            first = it.window()
            it.focus()
            await it.copy(DEVICES[0], b"a text")
            await it.until(lambda: agent.heard(GRAB))
            viewer.send_signal(signal.SIGSTOP)
            await agent.ask()
            with trio.fail_after(10):  # QEMU waits at some moment, and not for its 25 s
                while await slowness(vm) < 0.2:
                    pass
            viewer.send_signal(signal.SIGCONT)
            await it.until(lambda: it.window() not in (None, first))
            it.focus()
            grabs = len(agent.heard(GRAB))
            await it.copy(DEVICES[0], b"another")
            await it.until(lambda: len(agent.heard(GRAB)) > grabs)
            assert await agent.paste() == b"another"
        finally:
            viewer.kill()
            await viewer.wait()
        nursery.cancel_scope.cancel()
