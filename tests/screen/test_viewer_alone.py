"""The window with a compositor and a QEMU that do what the test says."""

import os
from pathlib import Path

import pytest
import trio

from tests.peers.compositor import Compositor, _commit
from tests.peers.libwayland import Resource
from tests.screen.fake_qemu import (
    call,
    memory,
    scanout,
    scanout_map,
    update,
    update_map,
)
from tests.screen.viewer_stage import ViewerStage, staged
from wlproxy.protocol.dbus.messages import MessageKind
from wlproxy.screen import viewer
from wlproxy.screen.doorman import LISTENER
from wlproxy.transport.fds import OwnedFd


async def test_a_map_is_shown_in_place(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.until(lambda: stage.qemu.listener)
        contents = os.urandom(16 * 8 * 4)
        file = memory(contents)
        kept = file.duplicate()
        await stage.qemu.say(scanout_map(file, 16, 8, 64))
        await stage.until(lambda: stage.frames)
        assert stage.frames == [contents]
        os.pwrite(kept.fileno(), b"\1\2\3\4" * 16, 64)
        kept.close()
        await stage.qemu.say(update_map(0, 1, 16, 1))
        await stage.until(lambda: len(stage.frames) == 2)
        assert stage.frames[1] == contents[:64] + b"\1\2\3\4" * 16 + contents[128:]
        assert stage.surface.state.damage[-1] == (0, 1, 16, 1)
        assert (stage.viewer.counts.mode, stage.viewer.counts.copied) == ("A", 0)
        assert len(stage.compositor.called("wl_shm.create_pool")) == 1


async def test_the_window_is_labelled(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        (title,) = stage.compositor.called("xdg_toplevel.set_title")
        (app_id,) = stage.compositor.called("xdg_toplevel.set_app_id")
        assert (title.args, app_id.args) == (("[vm] screen",), ("wlproxy.vm.screen",))


async def test_bytes_are_copied(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.until(lambda: stage.qemu.listener)
        await stage.qemu.say(scanout(4, 2, 16, bytes(32)))
        await stage.until(lambda: stage.frames)
        await stage.qemu.say(update((1, 1, 2, 1), 8, b"\xff" * 8))
        await stage.until(lambda: len(stage.frames) == 2)
        assert stage.frames[1] == bytes(20) + b"\xff" * 8 + bytes(4)
        await stage.qemu.say(scanout(4, 2, 16, b"\7" * 32), scanout(2, 1, 8, b"\5" * 8))
        await stage.until(lambda: stage.frames[-1] == b"\5" * 8)
        assert (stage.viewer.counts.mode, stage.viewer.counts.copied) == ("C", 80)


class Slow(Compositor):
    """Answers no frame callback until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers["wl_surface", "commit"] = self._commit
        self.commits = 0

    def _commit(self, surface: Resource) -> None:
        self.commits += 1
        callbacks, surface.state.callbacks = surface.state.callbacks, []
        _commit(surface)
        surface.state.callbacks = callbacks

    def done(self, surface: Resource) -> None:
        for callback in surface.state.callbacks:
            callback.send("done", 1)
            callback.destroy()
        surface.state.callbacks = []


async def test_damage_is_merged_until_the_compositor_wants_a_frame(
    tmp_path: Path,
) -> None:
    compositor = Slow()
    async with staged(tmp_path, compositor) as stage:
        await stage.show()
        commits = compositor.commits
        stage.surface.state.damage.clear()
        for line in range(8):
            await stage.qemu.say(update_map(2, line, 4, 1))
        await stage.until(lambda: stage.viewer.counts.updates == 8)
        await stage.ponged()
        assert compositor.commits == commits
        compositor.done(stage.surface)
        await stage.until(lambda: compositor.commits == commits + 1)
        assert stage.surface.state.damage == [(2, line, 4, 1) for line in range(8)]
        for _ in range(200):
            await stage.qemu.say(update_map(1, 1, 2, 2), update_map(5, 5, 2, 2))
        await stage.until(lambda: stage.viewer.counts.updates == 408)
        stage.surface.state.damage.clear()
        compositor.done(stage.surface)
        await stage.until(lambda: compositor.commits == commits + 2)
        assert len(stage.surface.state.damage) <= 64
        assert (1, 1, 6, 6) in stage.surface.state.damage


async def test_pictures_that_nobody_saw_cost_no_buffer(tmp_path: Path) -> None:
    compositor = Slow()
    async with staged(tmp_path, compositor) as stage:
        await stage.show()
        last = b"\3" * 64
        for _ in range(50):
            await stage.qemu.say(scanout_map(memory(bytes(64)), 4, 4, 16))
        await stage.qemu.say(scanout_map(memory(last), 4, 4, 16))
        await stage.until(lambda: stage.viewer.counts.pictures == 52)
        compositor.done(stage.surface)
        await stage.until(lambda: stage.frames[-1] == last)
        assert len(stage.compositor.called("wl_shm.create_pool")) == 2


async def test_a_hidden_window_is_not_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "HIDDEN_AFTER", 0.02)
    compositor = Slow()
    async with staged(tmp_path, compositor) as stage:
        await stage.until(lambda: stage.qemu.listener)
        await stage.qemu.say(scanout(4, 2, 16, bytes(32)))
        await stage.until(lambda: stage.frames)
        await stage.qemu.say(update((1, 1, 2, 1), 8, bytes(8)))
        await stage.until(lambda: stage.qemu.listener_gone)
        stage.qemu.hang_up()
        await stage.qemu_answered()
        assert stage.qemu.listeners == 1
        compositor.done(stage.surface)
        await stage.until(lambda: stage.qemu.listeners == 2)
        assert not stage.ended


async def test_a_hidden_window_of_a_map_goes_on_listening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another listener would cost more than its damage: QEMU never forgets one."""
    monkeypatch.setattr(viewer, "HIDDEN_AFTER", 0.02)
    compositor = Slow()
    async with staged(tmp_path, compositor) as stage:
        await stage.show()
        commits = compositor.commits
        for _ in range(10):
            await stage.qemu.say(update_map(0, 0, 1, 1))
            await trio.sleep(0.01)
        await stage.until(lambda: stage.viewer.counts.updates == 10)
        await stage.listened()
        await stage.ponged()
        assert not stage.qemu.listener_gone
        assert compositor.commits == commits
        compositor.done(stage.surface)
        await stage.until(lambda: compositor.commits == commits + 1)
        assert stage.viewer.counts.listened == 1


async def test_page_flips_use_buffers_again(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.until(lambda: stage.qemu.listener)
        files = [memory(bytes([each]) * 64) for each in range(2)]
        for flip in range(10):
            frames = len(stage.frames)
            flipped = files[flip % 2].duplicate()
            await stage.qemu.say(scanout_map(flipped, 4, 4, 16))
            await stage.frame_after(frames)
        for file in files:
            file.close()
        assert [frame[0] for frame in stage.frames] == [0, 1] * 5
        assert len(stage.compositor.called("wl_shm.create_pool")) == 2


async def test_so_many_files_are_kept(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        for _ in range(10):
            await stage.show()
        await stage.until(
            lambda: len(stage.compositor.called("wl_buffer.destroy")) == 6
        )
        assert stage.frames


async def scaled_to(stage: ViewerStage, width: int, height: int) -> None:
    """Wait until the window's picture is shown at such a size."""
    scaled = "wp_viewport.set_destination"
    await stage.last(scaled, lambda *size: size == (width, height))


async def test_a_resized_window_asks_the_guest(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show(width=64, height=32)
        stage.configure(64, 32)  # says what there is
        stage.configure(100, 50)
        await stage.until(lambda: stage.qemu.heard("SetUIInfo"))
        assert stage.qemu.heard("SetUIInfo") == [("SetUIInfo", (0, 0, 0, 0, 100, 50))]
        await scaled_to(stage, 100, 50)
        await stage.show(width=100, height=50)
        acked = len(stage.compositor.called("xdg_surface.ack_configure"))
        stage.configure(100, 50)
        await stage.until(
            lambda: len(stage.compositor.called("xdg_surface.ack_configure")) > acked
        )
        await stage.show(width=10, height=10)  # a mode of the guest's own
        await scaled_to(stage, 10, 10)
        await stage.qemu_answered()
        assert len(stage.qemu.heard("SetUIInfo")) == 1


async def test_a_guest_that_cannot_resize_is_asked_once(tmp_path: Path) -> None:
    async with staged(tmp_path, refuses={"SetUIInfo": "not supported"}) as stage:
        await stage.show(width=64, height=32)
        stage.configure(100, 80)
        await stage.until(lambda: stage.qemu.heard("SetUIInfo"))
        await scaled_to(stage, 100, 50)
        stage.configure(200, 90)
        await scaled_to(stage, 180, 90)
        await stage.qemu_answered()
        assert len(stage.qemu.heard("SetUIInfo")) == 1


async def test_the_window_is_closed(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        stage.find("xdg_toplevel").send("close")
        await stage.until(lambda: stage.ended)
        assert stage.ended == "the window was closed"
        await stage.until(lambda: stage.qemu.listener_gone)


async def test_qemu_ends(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        stage.qemu.close()
        await stage.until(lambda: stage.ended)
        assert "QEMU has ended" in stage.ended


async def test_another_viewer_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "FAREWELL", 0.02)
    async with staged(tmp_path) as stage:
        await stage.show()
        stage.qemu.main.close()
        await stage.until(lambda: stage.ended)
        assert "another viewer" in stage.ended


async def test_the_compositor_ends(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        stage.surface.post_error(7, "go away")
        await stage.until(lambda: stage.ended)
        assert "go away" in stage.ended


async def test_qemu_does_not_show_its_screen(tmp_path: Path) -> None:
    async with staged(tmp_path, refuses={"RegisterListener": "never"}) as stage:
        await stage.until(lambda: stage.ended)
        assert "never" in stage.ended


async def test_the_last_viewers_listener_takes_a_moment_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "REGISTER_AGAIN", 0.001)
    refusal = {"RegisterListener": "`p2p` is already registered!"}
    async with staged(tmp_path, refuses=refusal) as stage:
        await stage.until(lambda: len(stage.qemu.heard("RegisterListener")) > 2)
        stage.qemu.refuses = {}
        await stage.show()
        assert stage.qemu.listeners == 1


async def test_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "REGISTER_AGAIN", 0)
    refusal = {"RegisterListener": "`p2p` is already registered!"}
    async with staged(tmp_path, refuses=refusal) as stage:
        await stage.until(lambda: stage.ended)
        assert "already registered" in stage.ended


async def test_it_ends_before_qemu_has_let_it_in(tmp_path: Path) -> None:
    async with staged(tmp_path, speaks=trio.Event()) as stage:
        await stage.until(lambda: stage.compositor.called("xdg_surface.get_toplevel"))


async def test_many_cursors_at_once_are_one(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        await stage.enter("wl_pointer", 1, 1)
        await stage.told("SetAbsPosition", count=1)
        pools = len(stage.compositor.called("wl_shm.create_pool"))
        defined = [
            call(LISTENER, "CursorDefine", "iiiiay", 2, 2, 1, 0, bytes([each] * 16))[0]
            for each in range(200)
        ]
        await stage.qemu.say((b"".join(defined), []))
        await stage.until(lambda: len(stage.qemu.answers) == 201)
        await stage.until(lambda: stage.compositor.called("wl_pointer.set_cursor"))
        shown = stage.compositor.called("wl_pointer.set_cursor")[-1].args[1]
        await stage.until(lambda: shown.state.frames[-1] == bytes([199] * 16))
        assert len(stage.compositor.called("wl_shm.create_pool")) < pools + 20


async def test_many_pictures_at_once(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.until(lambda: stage.qemu.listener)
        data, fds = b"", []
        for size in range(1, 13):
            one, (file,) = scanout_map(memory(bytes(64)), size, 1, 48)
            data += one
            fds.append(file)
        await stage.qemu.say((data, fds))
        await stage.until(lambda: stage.viewer.counts.pictures == 12)
        await stage.frame_after(1)
        assert len(stage.compositor.called("wl_shm.create_pool")) < 12


# ---------------------------------------------------------------- a hostile QEMU


async def test_a_qemu_that_says_nothing(tmp_path: Path) -> None:
    async with staged(tmp_path, speaks=trio.Event()) as stage:
        await stage.until(lambda: stage.compositor.called("xdg_surface.get_toplevel"))
        stage.find("xdg_toplevel").send("close")
        await stage.until(lambda: stage.ended)


async def test_garbage_where_it_calls(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        await stage.qemu.say((b"garbage, of which there is enough", []))
        await stage.until(lambda: stage.ended)
        assert "not understood" in stage.ended


async def test_garbage_where_it_is_called(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        await stage.qemu.main.send(b"garbage, of which there is enough")
        await stage.until(lambda: stage.ended)
        assert "not understood" in stage.ended


async def test_fds_that_are_no_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        for path in ("/dev/null", "/dev/zero", "/", __file__):
            other = OwnedFd(os.open(path, os.O_RDONLY))
            await stage.qemu.say(scanout_map(other, 4, 4, 16))
        short = memory(bytes(63))
        await stage.qemu.say(scanout_map(short, 4, 4, 16))
        await stage.until(lambda: len(stage.qemu.answers) == 6)
        kinds = [answer.kind for answer in stage.qemu.answers]
        assert kinds == [MessageKind.METHOD_RETURN] + [MessageKind.ERROR] * 5
        assert caplog.text.count("neither a memfd nor a dma-buf") == 1  # said once
        await stage.show()  # and it goes on
        assert not stage.ended


async def test_a_qemu_that_does_not_read_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "MAX_ANSWERS", 1000)
    async with staged(tmp_path) as stage:
        await stage.show()
        assert stage.qemu.listener is not None
        listener = stage.qemu.listener
        stage.qemu.stop_reading.cancel()
        many = update_map(0, 0, 1, 1)[0] * 2000
        with trio.move_on_after(20):
            while not stage.ended:
                try:
                    await listener.send(many)
                except trio.BrokenResourceError:
                    break
        await stage.until(lambda: stage.ended)
        assert "does not read" in stage.ended
