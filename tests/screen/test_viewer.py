"""The whole window: a real QEMU, real firmware, real compositors, and every pixel."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from lab.weston import Weston as WestonProgram
from tests.clients import capture
from tests.clients.capture import Picture
from tests.host.conftest import Weston, running_weston
from tests.peers.compositor import Compositor
from tests.screen.conftest import Machine, MakeMachine, has_text
from tests.screen.viewing import viewing
from wlproxy.screen.viewer import Viewer

pytestmark = pytest.mark.slow

ESC = 1
BOOT_SECTOR = bytes.fromhex(
    "b81300cd10"  # mov ax, 13h; int 10h: a mode of 320 x 200 pixels
    "6800a007"  # push a000h; pop es
    "31ffb900fa"  # xor di, di; mov cx, 64000
    "89f8aae2fb"  # mov ax, di; stosb; loop: every colour
    "31c0cd16"  # xor ax, ax; int 16h: wait for a key
    "b80300cd10"  # mov ax, 3; int 10h: back to text
    "f4ebfd"  # hlt, for ever
)


SIZE = 2000, 1300
"""The output's.  weston places windows at random, and this has room for most of them."""
PLACES = 20
"""Windows that are tried until one is not over the edge."""


@pytest.fixture(scope="module")
def weston(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weston]:
    with running_weston(tmp_path_factory, "desktop", SIZE) as weston:
        yield weston


@pytest.fixture
def floppy(tmp_path: Path) -> str:
    """The option that boots `BOOT_SECTOR`."""
    image = tmp_path / "floppy.img"
    image.write_bytes(BOOT_SECTOR.ljust(510, b"\0") + b"\x55\xaa" + bytes(1474048))
    return f"if=floppy,format=raw,file={image}"


TRIES = 5
"""How often a machine is stopped, for a picture."""


def rows_wrong(expected: Picture, shown: Picture) -> int:
    """How many rows of a picture are not where it is shown."""
    rows = expected.rows(0, 0, expected.width, expected.height)
    background = b"\0\0\0\xff"
    telling = max(
        range(len(rows)),
        key=lambda line: sum(
            rows[line][at : at + 4] != background for at in range(0, len(rows[0]), 4)
        ),
    )
    best = len(rows)
    for x, y in shown.find(rows[telling]):
        top = y - telling
        if top >= 0 and top + len(rows) <= shown.height:
            there = shown.rows(x, top, expected.width, expected.height)
            best = min(best, sum(a != b for a, b in zip(rows, there, strict=True)))
    return best


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not await trio.to_thread.run_sync(condition):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.02)


async def assert_shown(
    vm: Machine, viewer: Viewer, shown: Callable[[], Picture]
) -> Picture:
    """Stop the machine; check that every row of its screen is shown.

    A text cursor blinks: what a stopped machine is asked for may have it where the last that it drew
    had not, and so it goes on and is stopped again.
    """
    wrong = 1
    for _ in range(TRIES):
        expected = await trio.to_thread.run_sync(vm.still_picture)
        with trio.move_on_after(2):  # what is on its way
            wrong = expected.height
            while wrong:
                await trio.sleep(0.05)
                picture = await trio.to_thread.run_sync(shown)
                wrong = rows_wrong(expected, picture)
        if not wrong:
            break
        vm.execute("cont")
        await trio.sleep(0.3)
    assert not wrong, f"{wrong} of {expected.height} rows, {viewer.counts}"
    return expected


def capture_of(
    weston: Weston, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Picture]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(weston.directory))
    name = weston.socket.name
    if WestonProgram().has_capture_protocol:
        return lambda: capture.weston(name)
    return lambda: capture.old_weston(name, *weston.size)


async def first_frame(viewer: Viewer) -> None:
    await until(lambda: viewer.window.frames > 0)


async def assert_weston_shows(
    vm: Machine, weston: Weston, shown: Callable[[], Picture], mode: str
) -> None:
    """Check the screen of a machine that is stopped: every row of it is there."""
    expected = await trio.to_thread.run_sync(vm.picture)
    wrong = []
    for _ in range(PLACES):
        async with viewing(vm.monitor, weston.socket) as viewer:
            await first_frame(viewer)
            wrong.append(rows_wrong(expected, await trio.to_thread.run_sync(shown)))
            assert viewer.counts.mode == mode
            if not wrong[-1]:
                return
    pytest.fail(f"rows that are not right, for each window: {wrong}")


async def test_firmware_on_weston(
    machine: MakeMachine, weston: Weston, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = machine("-vga", "std")
    shown = capture_of(weston, monkeypatch)
    async with viewing(vm.monitor, weston.socket) as viewer:  # from the very beginning
        await until(lambda: has_text(vm.picture()))
        await until(lambda: viewer.counts.mode == "A")
        await trio.to_thread.run_sync(vm.still_picture)
        assert viewer.counts.copied == 0
    await assert_weston_shows(vm, weston, shown, "A")


async def test_firmware_on_sway(machine: MakeMachine, sway: Path) -> None:
    if not shutil.which("grim"):
        pytest.skip("needs grim: apt-get install grim")
    # Tiled, it would be scaled.
    (ipc,) = sway.parent.glob("sway-ipc.*")
    rule = "for_window [app_id=wlproxy.vm.screen] floating enable"
    await trio.run_process(["swaymsg", "-s", str(ipc), rule])
    vm = machine("-vga", "std")
    async with viewing(vm.monitor, sway) as viewer:
        await until(lambda: has_text(vm.picture()))
        await assert_shown(vm, viewer, lambda: capture.grim(sway.name, sway.parent))
        assert (viewer.counts.mode, viewer.counts.copied) == ("A", 0)


async def test_a_device_that_sends_bytes_on_weston(
    machine: MakeMachine, weston: Weston, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = machine("-vga", "none", "-device", "bochs-display,xres=800,yres=600")
    shown = capture_of(weston, monkeypatch)
    async with viewing(vm.monitor, weston.socket) as viewer:
        await until(lambda: viewer.counts.mode == "C")
        await until(lambda: len(set(vm.picture().data)) > 2)
        await trio.to_thread.run_sync(vm.still_picture)
        assert viewer.counts.copied > 0
    await assert_weston_shows(vm, weston, shown, "C")


class Frames(Compositor):
    """What a window has shown last, and its seat."""

    def last(self) -> Picture:
        """The window's picture, as the compositor would read it now."""
        (client,) = self.apps
        state = client.all("wl_surface")[0].state
        buffer = state.shown.state
        pixels = bytearray(buffer.pixels())
        pixels[3::4] = b"\xff" * (len(pixels) // 4)
        assert buffer.stride == buffer.width * 4
        return Picture(buffer.width, buffer.height, bytes(pixels))


def press(compositor: Frames, key: int) -> None:
    """Press a key in the window, and let go of it."""
    (client,) = compositor.apps
    surface = client.all("wl_surface")[0]
    keyboard = client.find("wl_keyboard")
    keyboard.send("enter", 1, surface, b"")
    keyboard.send("key", 2, 5, key, 1)
    keyboard.send("key", 3, 6, key, 0)


async def test_modes_are_switched(
    machine: MakeMachine, tmp_path: Path, floppy: str
) -> None:
    vm = machine("-vga", "std", "-drive", floppy)
    compositor = Frames()
    async with trio.open_nursery() as nursery:
        await nursery.start(compositor.run, tmp_path / "wl")
        async with viewing(vm.monitor, tmp_path / "wl") as viewer:
            await until(lambda: len(set(vm.picture().data)) > 30)
            colours = await assert_shown(vm, viewer, compositor.last)
            await trio.to_thread.run_sync(vm.execute, "cont")
            press(compositor, ESC)
            await until(lambda: vm.picture().width == 720)
            text = await assert_shown(vm, viewer, compositor.last)
            assert (colours.width, text.width) == (640, 720)
            assert (viewer.counts.mode, viewer.counts.copied) == ("A", 0)
        nursery.cancel_scope.cancel()


async def test_a_key_gets_to_the_boot_menu(
    machine: MakeMachine, tmp_path: Path
) -> None:
    vm = machine("-vga", "std", "-boot", "menu=on,splash-time=60000")
    compositor = Frames()
    path = tmp_path / "wl"
    async with trio.open_nursery() as nursery:
        await nursery.start(compositor.run, path)
        async with viewing(vm.monitor, path) as viewer:
            await until(lambda: has_text(vm.picture()))
            await until(lambda: viewer.window.frames > 2)
            before = text_pixels(vm.picture())
            press(compositor, ESC)
            await until(lambda: text_pixels(vm.picture()) > before + 300)
            expected = await assert_shown(vm, viewer, compositor.last)
            assert text_pixels(expected) > before + 300
        nursery.cancel_scope.cancel()


def text_pixels(picture: Picture) -> int:
    return picture.data.count(b"\xa8\xa8\xa8\xff")
