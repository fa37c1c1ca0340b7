"""A window of dma-bufs, between a compositor and a QEMU that are the test's.

Natively there are none: memfds stand for them, and who says what to whom is tested.  The pixels of real ones are
in `test_dmabuf_lab`.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.peers.compositor import Compositor, _commit, _import
from tests.peers.libwayland import Resource
from tests.screen.fake_qemu import (
    SERIAL,
    XR24,
    memory,
    scanout,
    scanout_dmabuf,
    scanout_dmabuf2,
    scanout_map,
    update_dmabuf,
)
from tests.screen.viewer_stage import ViewerStage, staged
from wlproxy.screen import qemu_files, viewer
from wlproxy.screen.commands import FileKind
from wlproxy.screen.window import FLIPPED_180, MAX_BUFFERS, NORMAL
from wlproxy.transport.fds import OwnedFd

SIZE = 16, 8
STRIDE = 64
LENGTH = STRIDE * SIZE[1]
TILED = 1 << 32 | 2
"""What the tests' compositor says that it imports, beside LINEAR."""
CREATE = "zwp_linux_buffer_params_v1.create"
POOL = "wl_shm.create_pool"


@pytest.fixture(autouse=True)
def _every_memfd_is_a_dma_buf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_files, "_kind", lambda _fd: FileKind.DMABUF)


class Refusing(Compositor):
    """Says what it imports, and then does not."""

    def __init__(self) -> None:
        super().__init__(dmabuf=True)
        self.imports = False


class Slow(Compositor):
    """Answers what it is to import when it is told to."""

    def __init__(self) -> None:
        super().__init__(dmabuf=True)
        self.handlers["zwp_linux_buffer_params_v1", "create"] = self._wait
        self.waiting: list[tuple[Resource, tuple[int, ...]]] = []
        self.patient = True

    def _wait(self, params: Resource, *args: int) -> None:
        self.waiting.append((params, args))
        if not self.patient:
            self.answer()

    def answer(self, *, imports: bool = True) -> None:
        params, args = self.waiting.pop(0)
        self.imports = imports
        _import(params, *args)


async def show(stage: ViewerStage, file: OwnedFd, **changed: int) -> None:
    """Have QEMU show a dma-buf; whoever has made it closes it."""
    await stage.until(lambda: stage.qemu.listener)
    shape: dict[str, Any] = {"width": SIZE[0], "height": SIZE[1], "stride": STRIDE}
    sent = scanout_dmabuf(file.duplicate(), **{**shape, **changed})
    await stage.qemu.say(sent)


async def mode_is(stage: ViewerStage, mode: str) -> None:
    await stage.until(lambda: stage.viewer.counts.mode == mode)
    assert stage.viewer.counts.copied == 0


async def test_a_dma_buf_is_imported(tmp_path: Path) -> None:
    async with staged(tmp_path, Compositor(dmabuf=True)) as stage:
        contents = os.urandom(LENGTH)
        with memory(contents) as file:
            await show(stage, file)
            await stage.until(lambda: stage.frames)
            assert stage.frames == [contents]
            os.pwrite(file.fileno(), b"\1\2\3\4" * 16, STRIDE)
            await stage.qemu.say(update_dmabuf(0, 1, 16, 1))
            await stage.frame_after(1)
        changed = contents[:STRIDE] + b"\1\2\3\4" * 16 + contents[2 * STRIDE :]
        assert stage.frames[1] == changed
        assert stage.surface.state.damage[-1] == (0, 1, 16, 1)
        await mode_is(stage, "B")
        (created,) = stage.compositor.called(CREATE)
        assert created.args == (*SIZE, XR24, 0)
        assert not stage.compositor.called(POOL)


async def test_page_flips_are_imported_once(tmp_path: Path) -> None:
    async with staged(tmp_path, Compositor(dmabuf=True)) as stage:
        with memory(b"\1" * LENGTH) as one, memory(b"\2" * LENGTH) as two:
            for turn in range(6):
                await show(stage, (one, two)[turn % 2])
                await stage.frame_after(turn)
        assert [frame[0] for frame in stage.frames] == [1, 2] * 3
        assert len(stage.compositor.called(CREATE)) == 2


async def test_what_is_not_imported_is_a_pool(tmp_path: Path) -> None:
    async with staged(tmp_path, Refusing()) as stage:
        with memory(b"\1" * LENGTH) as file:
            await show(stage, file)
            await stage.until(lambda: stage.frames)
        assert stage.frames == [b"\1" * LENGTH]
        await mode_is(stage, "A")
        assert len(stage.compositor.called(CREATE)) == 1


async def test_without_linux_dmabuf_it_is_a_pool(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        with memory(b"\1" * LENGTH) as file:
            await show(stage, file)
            await stage.until(lambda: stage.frames)
        await mode_is(stage, "A")
        assert not stage.compositor.called(CREATE)


async def test_what_can_not_be_shown_leaves_what_there_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with staged(tmp_path, Refusing()) as stage:
        await stage.until(lambda: stage.qemu.listener)
        with memory(b"\1" * LENGTH) as file:
            path = f"/proc/self/fd/{file.fileno()}"
            unmappable = OwnedFd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            with unmappable:
                await show(stage, unmappable)
                await stage.until(lambda: "neither imports" in caplog.text)
                assert not stage.frames
                await show(stage, file, width=8)
                await stage.until(lambda: stage.frames)
                await show(stage, unmappable)
                await stage.until(lambda: len(stage.compositor.called(CREATE)) == 3)
                await stage.ponged()  # the window knows that it is refused
                await stage.qemu.say(update_dmabuf(0, 0, 2, 2))
                await stage.frame_after(1)
        size = stage.viewer.window.sizing.shown()
        assert size == (8, 8)
        assert not stage.ended


async def test_tiled_ones_are_imported_or_not_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compositor = Slow()
    async with staged(tmp_path, compositor) as stage:
        compositor.handlers["zwp_linux_buffer_params_v1", "add"] = _add_tiled
        with memory(b"\1" * LENGTH) as file:
            await show(stage, file, modifier=TILED)
            await stage.until(lambda: compositor.waiting)
            compositor.answer(imports=False)
            await stage.until(lambda: "neither imports" in caplog.text)
            compositor.patient, compositor.imports = False, True
            await show(stage, file, modifier=TILED)
            await mode_is(stage, "B")


def _add_tiled(params: Resource, fd: int, *rest: int) -> None:
    assert rest == (0, 0, STRIDE, 1, 2)
    os.close(fd)


async def test_planes_in_several_files(tmp_path: Path) -> None:
    compositor = Slow()
    async with staged(tmp_path, compositor) as stage:
        added: list[tuple[int, ...]] = []

        def add(_params: Resource, fd: int, *rest: int) -> None:
            added.append((os.pread(fd, 1, 0)[0], *rest))
            os.close(fd)

        compositor.handlers["zwp_linux_buffer_params_v1", "add"] = add
        await stage.until(lambda: stage.qemu.listener)
        files = [memory(b"\1" * LENGTH), memory(b"\2" * LENGTH)]
        places = [0, 64], [STRIDE, 4]
        whole = (0, 0, *SIZE), SIZE
        await stage.qemu.say(scanout_dmabuf2(files, *whole, *places, modifier=TILED))
        await stage.until(lambda: compositor.waiting)
        assert added == [(1, 0, 0, STRIDE, 1, 2), (2, 1, 64, 4, 1, 2)]


async def test_the_first_row_may_be_the_lowest(tmp_path: Path) -> None:
    async with staged(tmp_path, Compositor(dmabuf=True)) as stage:
        with memory(b"\1" * LENGTH) as file:
            for turn, y0_top in enumerate((False, True, True, False)):
                await show(stage, file, y0_top=y0_top)
                await stage.frame_after(turn)
        turned = stage.compositor.called("wl_surface.set_buffer_transform")
        assert [each.args[0] for each in turned] == [FLIPPED_180, NORMAL]


async def test_one_is_imported_at_a_time(tmp_path: Path) -> None:
    compositor = Slow()
    async with staged(tmp_path, compositor) as stage:
        with memory(b"\1" * LENGTH) as first, memory(b"\3" * LENGTH) as last:
            await show(stage, first)
            await stage.until(lambda: compositor.waiting)
            for _ in range(50):
                with memory(b"\2" * LENGTH) as other:
                    await show(stage, other)
            await show(stage, last)
            await stage.until(lambda: len(stage.qemu.answers) >= 52)
            compositor.answer()
            await stage.until(lambda: compositor.waiting)
            compositor.answer()
            await stage.until(lambda: stage.frames)
            assert stage.frames == [b"\3" * LENGTH]
            await show(stage, first)  # which nobody has seen, but it is imported
            await stage.frame_after(1)
        assert len(stage.compositor.called(CREATE)) == 2


async def test_what_is_asked_for_may_come_again(tmp_path: Path) -> None:
    compositor = Slow()
    async with staged(tmp_path, compositor) as stage:
        with memory(b"\1" * LENGTH) as one, memory(b"\2" * LENGTH) as two:
            for file in (one, two, one):
                await show(stage, file)
            await stage.until(lambda: len(stage.qemu.answers) >= 3)
            await stage.until(lambda: compositor.waiting)
            compositor.answer()
            await stage.until(lambda: stage.frames)
        assert stage.frames == [b"\1" * LENGTH]
        assert len(stage.compositor.called(CREATE)) == 1


async def test_a_refusal_of_what_nobody_wants_any_more(tmp_path: Path) -> None:
    compositor = Slow()
    async with staged(tmp_path, compositor) as stage:
        with memory(b"\1" * LENGTH) as one, memory(b"\2" * LENGTH) as two:
            await show(stage, one)
            await stage.until(lambda: compositor.waiting)
            await show(stage, two)
            await stage.until(lambda: len(stage.qemu.answers) == 2)
            compositor.patient = False
            compositor.answer(imports=False)
            await stage.until(lambda: stage.frames)
        assert stage.frames == [b"\2" * LENGTH]
        await mode_is(stage, "B")


class Held(Compositor):
    """Wants no frame until it is told to."""

    def __init__(self) -> None:
        super().__init__(dmabuf=True)
        self.handlers["wl_surface", "commit"] = self._keep_callbacks
        self.held: list[Resource] = []

    def _keep_callbacks(self, surface: Resource) -> None:
        self.held += surface.state.callbacks
        surface.state.callbacks = []
        _commit(surface)

    def done(self) -> None:
        callbacks, self.held = self.held, []
        for callback in callbacks:
            callback.send("done", 1)
            callback.destroy()


def answered(stage: ViewerStage) -> int:
    """How often QEMU was answered, the picture and `ViewerStage.listened` not counted."""
    answers = [each.fields.reply_to for each in stage.qemu.answers]
    return answers.count(SERIAL) - 1


async def test_the_guest_draws_on_when_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "SEEN_WITHIN", 1000)
    compositor = Held()
    async with staged(tmp_path, compositor) as stage:
        with memory(b"\1" * LENGTH) as file:
            await show(stage, file)
            await stage.until(lambda: compositor.held)
        await stage.qemu.say(update_dmabuf(0, 0, 2, 2), update_dmabuf(4, 4, 2, 2))
        await stage.until(lambda: stage.viewer.counts.updates == 2)
        compositor.done()  # of the frame before those
        await stage.until(lambda: compositor.held)
        await stage.listened()
        assert answered(stage) == 0
        compositor.done()
        await stage.until(lambda: answered(stage) == 2)
        # What changes nothing is not waited for.
        await stage.qemu.say(update_dmabuf(100, 100, 2, 2))
        await stage.until(lambda: answered(stage) == 3)


async def test_the_guest_draws_on_if_it_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "SEEN_WITHIN", 0.005)
    compositor = Held()
    async with staged(tmp_path, compositor) as stage:
        with memory(b"\1" * LENGTH) as file:
            await show(stage, file)
            await stage.until(lambda: compositor.held)
        for turn in range(5):
            await stage.qemu.say(update_dmabuf(0, 0, 2, 2))
            await stage.until(lambda: answered(stage) == turn + 1)  # noqa: B023 - awaited here


async def test_a_hidden_one_goes_on_being_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "HIDDEN_AFTER", 0.02)
    monkeypatch.setattr(viewer, "SEEN_WITHIN", 0.001)
    compositor = Compositor(dmabuf=True)
    async with staged(tmp_path, compositor) as stage:
        with memory(b"\1" * LENGTH) as file:
            await show(stage, file)
            await mode_is(stage, "B")
        compositor.handlers["wl_surface", "commit"] = lambda _surface: None
        for turn in range(20):  # over several of those times
            await stage.qemu.say(update_dmabuf(0, 0, 1, 1))
            await stage.until(lambda: len(stage.qemu.answers) >= turn + 2)  # noqa: B023 - awaited here
            await trio.sleep(0.005)
        await stage.listened()
        await stage.qemu_answered()
        assert not stage.qemu.listener_gone
        assert stage.qemu.listeners == 1


async def test_few_are_kept(tmp_path: Path) -> None:
    async with staged(tmp_path, Compositor(dmabuf=True)) as stage:
        for turn in range(MAX_BUFFERS + 3):
            with memory(bytes([turn]) * LENGTH) as file:
                await show(stage, file)
                await stage.frame_after(turn)
        await stage.until(lambda: stage.compositor.called("wl_buffer.destroy"))
        await stage.ponged()
        assert len(stage.compositor.called("wl_buffer.destroy")) == 3


async def test_other_ways_take_its_place(tmp_path: Path) -> None:
    async with staged(tmp_path, Compositor(dmabuf=True)) as stage:
        with memory(b"\1" * LENGTH) as file:
            await show(stage, file)
            await mode_is(stage, "B")
            await stage.qemu.say(scanout(*SIZE, STRIDE, b"\2" * LENGTH))
            await stage.until(lambda: stage.viewer.counts.mode == "C")
            await stage.until(lambda: stage.frames[-1:] == [b"\2" * LENGTH])
            await show(stage, file)
            await stage.until(lambda: stage.viewer.counts.mode == "B")
            # As a QEMU may that shares what it has in a dma-buf without GL.
            await stage.qemu.say(scanout_map(file.duplicate(), *SIZE, STRIDE))
            await stage.until(lambda: len(stage.qemu.answers) >= 4)
        assert stage.viewer.counts.mode == "B"
