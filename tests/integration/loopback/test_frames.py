"""Frames on real compositors, pixel by pixel: weston, and sway for what wlroots makes of them."""

import os
import shutil
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from pywayland.protocol.pointer_constraints_unstable_v1 import ZwpPointerConstraintsV1
from pywayland.protocol.wayland import WlSeat, WlSubcompositor
from pywayland.protocol.xdg_shell import XdgPositioner, XdgWmBase

from lab.weston import Weston as WestonProgram
from tests.clients import capture
from tests.clients.capture import Picture
from tests.clients.virtual_pointer import VirtualPointer
from tests.host.conftest import Weston, running_sway, running_weston
from tests.peers.app import App, Window
from tests.peers.loopback import Loopback
from tests.peers.native_apps import PassingDevice, serve_native_apps
from wlproxy.relay.look import COLOURS, POPUP_WIDTH, WIDTH, Colour, WindowFrame
from wlproxy.relay.policy_tree import Frame, Fullscreen, Policy, Popups, Windows

COLOUR = 0xD1261B
FRAME = WindowFrame(COLOUR)
RED = bytes((0x1B, 0x26, 0xD1, 0xFF))
"""As in a picture."""

Look = Callable[[], Picture]
Box = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def weston(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weston]:
    # Its panel comes when it likes, and takes from what windows may fill.
    panel = "[shell]\npanel-position=none\n"
    with running_weston(tmp_path_factory, settings=panel) as weston:
        yield weston


@pytest.fixture(scope="module")
def sway() -> Iterator[Path]:
    with running_sway(FLOATING) as sway:
        yield sway


@pytest.fixture(scope="module")
def fine_sway() -> Iterator[Path]:
    with running_sway(f"output * scale 1.5\n{FLOATING}") as sway:
        yield sway


FLOATING = "for_window [app_id=.*] floating enable\nfor_window [app_id=.*] border none\nseat * pointer_constraint enable"


def shot_of(weston: Weston) -> Picture:
    display = str(weston.socket)
    if WestonProgram().has_capture_protocol:
        return capture.weston(display)
    return capture.old_weston(display, *weston.size)


def find_red(picture: Picture, colour: bytes = RED) -> Box:
    """What is around all that has the frame's colour."""
    rows = picture.rows(0, 0, picture.width, picture.height)
    red = [y for y, row in enumerate(rows) if holds_red(row, colour)]
    assert red, "nothing has the frame's colour"
    lefts, rights = [], []
    for y in red:
        pixels = [rows[y][x : x + 4] for x in range(0, len(rows[y]), 4)]
        lefts.append(pixels.index(colour))
        rights.append(len(pixels) - pixels[::-1].index(colour))
    return min(lefts), red[0], max(rights), red[-1] + 1


def is_without(picture: Picture) -> None:
    """Check that no frame is shown."""
    assert not any(map(holds_red, picture.rows(0, 0, picture.width, picture.height)))


def holds_red(row: bytes, colour: bytes = RED) -> bool:
    found = row.find(colour)
    while found % 4 and found >= 0:
        found = row.find(colour, found + 1)
    return found >= 0


def check_ring(
    picture: Picture, box: Box, width: int = WIDTH, colour: bytes = RED
) -> Picture:
    """Check that a box is a frame of this width; return what is in it."""
    left, top, right, bottom = box
    across, down = right - left, bottom - top
    for row in (
        *picture.rows(left, top, across, width),
        *picture.rows(left, bottom - width, across, width),
    ):
        check_same(row, colour * across)
    inner = picture.rows(left, top, across, down)[width:-width]
    for row in inner:
        check_same(row[: 4 * width] + row[-4 * width :], colour * (2 * width))
    data = b"".join(row[4 * width : -4 * width] for row in inner)
    return Picture(across - 2 * width, down - 2 * width, data)


async def shown(app: App, size: tuple[int, int]) -> tuple[Window, bytes]:
    """Show a window with a pattern; return it and the pattern's pixels, as pictures have them."""
    window = await app.window()
    canvas = app.canvas(size)
    pixels = opaque(canvas.draw(1))
    await app.show(window.surface, canvas)
    return window, pixels


def check_same(found: bytes, expected: bytes) -> None:
    """Compare pixels: pytest would take minutes to say how a million of them differ."""
    if found != expected:
        raise AssertionError("these are other pixels")


async def seen(look: Look, check: Callable[[Picture], object]) -> None:
    """Wait until a compositor shows what it should: it draws when it likes."""
    problem = AssertionError("nothing was looked at")
    for _ in range(50):
        picture = await trio.to_thread.run_sync(look)
        try:
            check(picture)
        except AssertionError as error:
            problem = error
            await trio.sleep(0.1)
        else:
            return
    raise problem


async def frame_a_pattern(
    bare: Loopback, display: Path, look: Look
) -> tuple[App, Window]:
    """Show a window, and check each pixel of it and of its frame."""
    await bare.start_agent()
    await bare.start_host(display, frame=FRAME, isolate=False)
    app = await bare.app()
    size = 333, 100
    for _ in range(20):
        window, pixels = await shown(app, size)
        await seen(look, find_red)
        left, top, right, bottom = find_red(await trio.to_thread.run_sync(look))
        if (right - left, bottom - top) == (size[0] + 2 * WIDTH, size[1] + 2 * WIDTH):
            break
        window.surface.attach(None, 0, 0)
        window.surface.commit()
        await app.roundtrip()

    def framed(picture: Picture) -> None:
        inner = check_ring(picture, find_red(picture))
        assert (inner.width, inner.height) == size
        check_same(inner.data, pixels)

    await seen(look, framed)
    return app, window


async def stick_out(app: App, window: Window, look: Look) -> None:
    """A subsurface larger than the window: the outermost is ours all the same."""
    window.xdg_surface.set_window_geometry(0, 0, 333, 100)
    part = app.surface()
    manager = app.bind(WlSubcompositor)
    role = app.keep(manager.get_subsurface(part, window.surface))
    role.set_position(-40, 30)
    await app.show(part, app.canvas((420, 120)))
    window.surface.commit()
    await app.roundtrip()

    def covered(picture: Picture) -> None:
        left, top, right, bottom = find_red(picture)
        assert (right - left, bottom - top) == (420, 155)
        picture = Picture(420, 155, b"".join(picture.rows(left, top, 420, 155)))
        check_same(b"".join(set(picture.rows(0, 0, 420, 5))), RED * 420)
        check_same(b"".join(set(picture.rows(0, 105, 420, 50))), RED * 420)
        check_same(b"".join(set(picture.rows(0, 5, 40, 100))), RED * 40)
        check_same(b"".join(set(picture.rows(373, 5, 47, 100))), RED * 47)

    await seen(look, covered)


async def test_on_weston(bare: Loopback, weston: Weston) -> None:
    """Which places windows at random, and some so that frames are beyond the screen's edge."""
    await frame_a_pattern(bare, weston.socket, lambda: shot_of(weston))


@pytest.mark.slow
async def test_on_sway(bare: Loopback, sway: Path) -> None:
    def look() -> Picture:
        return capture.grim(str(sway), sway.parent)

    app, window = await frame_a_pattern(bare, sway, look)
    await stick_out(app, window, look)


async def test_another_colour_is_shown_at_once(bare: Loopback, sway: Path) -> None:
    """By `wlproxy reload`, around a window whose app shows nothing new."""

    def look() -> Picture:
        return capture.grim(str(sway), sway.parent)

    await seen(look, is_without)  # of a test before
    await frame_a_pattern(bare, sway, look)
    box = find_red(await trio.to_thread.run_sync(look))
    assert bare.host is not None
    green = Colour("green", COLOURS["green"])
    bare.host.obey(Policy(frame=Frame(green)))
    in_picture = struct.pack("<I", COLOURS["green"] | 0xFF000000)

    def repainted(picture: Picture) -> None:
        is_without(picture)
        check_ring(picture, box, colour=in_picture)

    await seen(look, repainted)


@pytest.mark.slow
async def test_at_a_scale_of_one_and_a_half(bare: Loopback, fine_sway: Path) -> None:
    """Edges fall between pixels; what is outermost is the frame's all the same."""
    await bare.start_agent()
    await bare.start_host(fine_sway, frame=FRAME, isolate=False)
    app = await bare.app()
    await shown(app, (333, 101))

    def framed(picture: Picture) -> None:
        box = find_red(picture)
        assert abs(box[2] - box[0] - 343 * 1.5) <= 2
        assert abs(box[3] - box[1] - 111 * 1.5) <= 2
        check_ring(picture, box, 6)

    await seen(lambda: capture.grim(str(fine_sway), fine_sway.parent), framed)


def opaque(pixels: bytes) -> bytes:
    """The pixels of a canvas, as pictures have them."""
    made = bytearray(pixels)
    made[3::4] = b"\xff" * (len(made) // 4)
    return bytes(made)


@pytest.mark.parametrize("popups", Popups)
@pytest.mark.parametrize("compositor", ["sway", "weston"])
async def test_a_popup_is_where_the_app_placed_it(
    bare: Loopback, request: pytest.FixtureRequest, compositor: str, popups: Popups
) -> None:
    """Beside its own thin frame, if that is not off; beyond the window, too."""
    display, look = looking(request, compositor)
    await seen(look, is_without)  # of a test before
    await bare.start_agent()
    policy = Policy(windows=Windows(popups=popups))
    await bare.start_host(display, policy=policy, frame=FRAME, isolate=False)
    app = await bare.app()
    window, _ = await shown(app, (300, 200))
    await seen(look, find_red)
    left, top, right, bottom = find_red(await trio.to_thread.run_sync(look))
    left, top = right - 310, bottom - 210  # weston may put it beyond the screen's edge
    shell = app.bind(XdgWmBase)
    place = app.keep(shell.create_positioner())
    place.set_size(40, 30)
    place.set_anchor_rect(50, 60, 230, 10)
    place.set_anchor(XdgPositioner.anchor.bottom_right.value)
    place.set_gravity(XdgPositioner.gravity.bottom_right.value)
    surface = app.surface()
    xdg_surface = app.keep(shell.get_xdg_surface(surface))
    popup = app.keep(xdg_surface.get_popup(window.xdg_surface, place))
    configured = app.record(popup, "configure")
    serials = app.record(xdg_surface, "configure")
    surface.commit()
    await app.until(lambda: serials)
    xdg_surface.ack_configure(serials[0][0])
    canvas = app.canvas((40, 30))
    pixels = opaque(canvas.draw(9))
    await app.show(surface, canvas)
    width = POPUP_WIDTH if popups is Popups.FRAMED else 0
    x, y = 280 + width, 70 + width
    assert configured == [(x, y, 40, 30)]

    def placed(picture: Picture) -> None:
        x0, y0 = left + WIDTH + x, top + WIDTH + y
        if x0 + 40 + width > picture.width or y0 + 30 + width > picture.height:
            pytest.skip("weston has put the window at the edge of the screen")
        rows = picture.rows(x0, y0, 40, 30)
        check_same(b"".join(rows), pixels)
        if width:
            box = x0 - width, y0 - width, x0 + 40 + width, y0 + 30 + width
            check_ring(picture, box, width)
            assert find_red(picture)[2] == box[2] > right

    await seen(look, placed)


def looking(request: pytest.FixtureRequest, compositor: str) -> tuple[Path, Look]:
    """Return a compositor's socket, and how its screen is looked at."""
    if compositor == "sway":
        display: Path = request.getfixturevalue("sway")
        return display, partial(capture.grim, str(display), display.parent)
    weston: Weston = request.getfixturevalue("weston")
    return weston.socket, partial(shot_of, weston)


async def fill(app: App, window: Window, *, fullscreen: bool) -> bytes:
    """Have a window fill the screen, as far as it is told to; return its pixels."""
    sizes = app.record(window.role, "configure")
    serials = app.record(window.xdg_surface, "configure")
    if fullscreen:
        window.role.set_fullscreen(None)
    else:
        window.role.set_maximized()
    window.surface.commit()
    await app.until(lambda: sizes and sizes[-1][0] > 1000)
    await app.roundtrip()
    window.xdg_surface.ack_configure(serials[-1][0])
    canvas = app.canvas(sizes[-1][:2])
    pixels = opaque(canvas.draw(5))
    await app.show(window.surface, canvas)
    return pixels


async def test_fullscreen_on_sway(bare: Loopback, sway: Path) -> None:
    await bare.start_agent()
    await bare.start_host(sway, frame=FRAME, isolate=False)
    app = await bare.app()
    window, _ = await shown(app, (300, 200))
    pixels = await fill(app, window, fullscreen=True)

    def framed(picture: Picture) -> None:
        box = find_red(picture)
        assert box == (0, 0, picture.width, picture.height)
        check_same(check_ring(picture, box).data, pixels)

    await seen(lambda: capture.grim(str(sway), sway.parent), framed)


@pytest.mark.parametrize("compositor", ["sway", "weston"])
async def test_fullscreen_without_the_frame_and_back(
    bare: Loopback, request: pytest.FixtureRequest, compositor: str
) -> None:
    """Where policy says so; the frame is there again at once, whatever the app does."""
    display, look = looking(request, compositor)
    policy = Policy(windows=Windows(Fullscreen.ON))
    await seen(look, is_without)  # of a test before
    await bare.start_agent()
    await bare.start_host(display, policy=policy, frame=FRAME, isolate=False)
    app = await bare.app()
    window, _ = await shown(app, (300, 200))
    await seen(look, find_red)
    pixels = await fill(app, window, fullscreen=True)

    def whole(picture: Picture) -> None:
        check_same(bytes(picture.data), pixels)

    await seen(look, whole)
    window.role.unset_fullscreen()
    await app.roundtrip()
    await seen(look, find_red)
    canvas = app.canvas((300, 200))
    small = opaque(canvas.draw(3))
    await app.show(window.surface, canvas)

    def framed(picture: Picture) -> None:
        left, top, right, bottom = box = find_red(picture)
        assert right - left <= 300 + 2 * WIDTH
        if compositor == "weston" and (right - left, bottom - top) != (310, 210):
            return  # where it has put the window, a part is beyond the screen's edge
        check_same(check_ring(picture, box).data, small)

    await seen(look, framed)


@pytest.mark.parametrize("fullscreen", [False, True])
async def test_what_fills_the_screen_on_weston(
    bare: Loopback, weston: Weston, *, fullscreen: bool
) -> None:
    """Which ends an app whose maximized window is of another size than it was told."""
    await bare.start_agent()
    await bare.start_host(weston.socket, frame=FRAME, isolate=False)
    app = await bare.app()
    window, _ = await shown(app, (300, 200))
    pixels = await fill(app, window, fullscreen=fullscreen)

    def framed(picture: Picture) -> None:
        left, top, right, bottom = find_red(picture)
        if not fullscreen:
            assert (left, right, bottom) == (0, picture.width, picture.height)
            check_same(check_ring(picture, (left, top, right, bottom)).data, pixels)
            return
        # weston 10 centres it, subsurfaces and all, by half of where these begin.
        off = picture.width - right
        assert off in (0, WIDTH // 2 + 1)
        assert (left, top, bottom) == (0, 0, picture.height - off)
        rows = picture.rows(0, 0, right, bottom)
        assert all(row == RED * right for row in (*rows[: WIDTH - off], *rows[-WIDTH:]))
        for row in rows:
            check_same(row[: 4 * (WIDTH - off)], RED * (WIDTH - off))
            check_same(row[-4 * WIDTH :], RED * WIDTH)

    await seen(lambda: shot_of(weston), framed)


@asynccontextmanager
async def in_hand(
    bare: Loopback, sway: Path
) -> AsyncIterator[tuple[App, Look, VirtualPointer]]:
    """Have an app whose windows are framed, and a pointer that is at none of them."""
    await bare.start_agent()
    await bare.start_host(sway, frame=FRAME, isolate=False)
    app = await bare.app()

    def look() -> Picture:
        return capture.grim(str(sway), sway.parent)

    picture = await trio.to_thread.run_sync(look)
    hand = VirtualPointer(sway, (picture.width, picture.height))
    try:
        hand.go(0, 0)  # not where a test before this had it
        await seen(look, is_without)  # nor is that one's window there
        yield app, look, hand
    finally:
        hand.close()


async def test_a_frame_moves_and_resizes_its_window(bare: Loopback, sway: Path) -> None:
    async with in_hand(bare, sway) as (app, look, hand):
        await app.roundtrip()
        pointer = app.keep(app.bind(WlSeat).get_pointer())
        heard = app.record(pointer, "enter", "button", "motion")
        window, _ = await shown(app, (300, 200))
        sizes = app.record(window.role, "configure")
        await seen(look, find_red)
        left, top, right, bottom = find_red(await trio.to_thread.run_sync(look))

        hand.go(left + 150, top + 2)
        hand.press(down=True)
        await app.roundtrip()
        hand.go(left + 190, top + 32)
        hand.press(down=False)

        def moved(picture: Picture) -> None:
            assert find_red(picture) == (left + 40, top + 30, right + 40, bottom + 30)

        await seen(look, moved)

        hand.go(right + 38, top + 130)
        hand.press(down=True)
        await app.roundtrip()
        hand.go(right + 98, top + 130)
        await app.until(lambda: sizes and sizes[-1][0] > 340)
        hand.press(down=False)
        assert 355 <= sizes[-1][0] <= 365
        assert sizes[-1][1] == 200
        await app.roundtrip()
        assert not heard, "the app hears what is done with its frame"


async def test_a_pointer_is_where_it_is_in_parts_of_parts(
    bare: Loopback, sway: Path
) -> None:
    """The compositor counts from the frame, and each surface from its own corner."""

    async with in_hand(bare, sway) as (app, look, hand):
        window, _ = await shown(app, (300, 200))
        surfaces = [window.surface]
        manager = app.bind(WlSubcompositor)
        for place, size in (((20, 30), (200, 150)), ((10, 15), (100, 100))):
            part = app.surface()
            role = app.keep(manager.get_subsurface(part, surfaces[-1]))
            role.set_position(*place)
            surfaces.append(part)
            await app.show(part, app.canvas(size))
        surfaces[1].commit()
        window.surface.commit()
        await app.roundtrip()
        await seen(look, find_red)
        left, top, _, _ = find_red(await trio.to_thread.run_sync(look))
        left, top = left + WIDTH, top + WIDTH
        pointer = app.keep(app.bind(WlSeat).get_pointer())
        heard = app.record(pointer, "enter", "motion")
        await app.roundtrip()

        for place, surface, where in (
            ((32, 47), surfaces[2], (2, 2)),
            ((22, 32), surfaces[1], (2, 2)),
            ((3, 4), surfaces[0], (3, 4)),
            ((129, 144), surfaces[2], (99, 99)),
        ):
            heard.clear()
            hand.go(left + place[0], top + place[1])
            await app.until(lambda: heard)
            assert heard[-1][1] is surface
            assert tuple(map(int, heard[-1][2:4])) == where

        role.set_position(60, 0)
        surfaces[1].commit()
        window.surface.commit()
        await app.roundtrip()
        heard.clear()
        hand.go(left + 40, top + 50)  # which it has left
        await app.until(lambda: heard)
        assert heard[-1][1] is surfaces[1]
        hand.go(left + 82, top + 33)
        await app.until(lambda: heard[-1][1] is surfaces[2])
        assert tuple(map(int, heard[-1][2:4])) == (2, 3)


async def test_a_confined_pointer_does_not_get_onto_the_frame(
    bare: Loopback, sway: Path
) -> None:
    """It is the app's surface that it is confined to, and the frame is none of that."""
    async with in_hand(bare, sway) as (app, look, hand):
        window, _ = await shown(app, (300, 200))
        await seen(look, find_red)
        left, top, *_ = find_red(await trio.to_thread.run_sync(look))
        pointer = app.keep(app.bind(WlSeat).get_pointer())
        heard = app.record(pointer, "enter", "leave", "motion")
        constraints = app.bind(ZwpPointerConstraintsV1)
        lasting = ZwpPointerConstraintsV1.lifetime.persistent
        confinement = app.keep(
            constraints.confine_pointer(window.surface, pointer, None, lasting)
        )
        states = app.record(confinement, "confined", "unconfined")
        await app.roundtrip()
        hand.go(left + 150, top + 100)
        await app.until(lambda: heard and states)

        heard.clear()
        hand.move(-400, -400)
        await app.until(lambda: heard and [*map(round, heard[-1][1:])] == [0, 0])
        assert all(len(each) == 3 for each in heard), "it has left"

        confinement.destroy()
        await app.roundtrip()
        heard.clear()
        hand.move(-2, 0)
        await app.until(lambda: heard)
        (left_behind,) = heard  # for the frame
        assert left_behind[1] is window.surface


@pytest.fixture
def native(bare: Loopback) -> Iterator[PassingDevice]:
    """Has apps of this machine be apps of the guest."""
    device, files = serve_native_apps(bare)
    yield device
    files.close()


APPS = {
    "foot": ["foot", "--override=tweak.max-shm-pool-size-mb=0", "sleep", "60"],
    "gtk4-demo": ["gtk4-demo"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPS)
async def test_apps_are_framed(
    bare: Loopback, native: PassingDevice, sway: Path, name: str
) -> None:
    """In mode A, uncopied: every edge of all that is shown is the frame's."""
    if not shutil.which(APPS[name][0]):
        pytest.skip(f"needs {APPS[name][0]}")

    def look() -> Picture:
        return capture.grim(str(sway), sway.parent)

    await bare.start_agent()
    await bare.start_host(sway, native, frame=FRAME, isolate=False)
    await seen(look, is_without)  # of a test before
    nothing = await trio.to_thread.run_sync(look)
    environ = {
        **os.environ,
        "WAYLAND_DISPLAY": str(bare.display),
        "XDG_RUNTIME_DIR": str(bare.display.parent),
        "GDK_BACKEND": "wayland",
        "GSK_RENDERER": "cairo",
    }

    def framed(picture: Picture) -> None:
        left, top, right, bottom = box = find_red(picture)
        check_ring(picture, box)
        hidden = bytearray(picture.data)
        for y in range(top, bottom):
            start = 4 * (y * picture.width)
            row = slice(start + 4 * left, start + 4 * right)
            hidden[row] = nothing.data[row]
        check_same(bytes(hidden), nothing.data)  # beside the frame

    async with trio.open_nursery() as nursery:
        run = partial(
            trio.run_process,
            APPS[name],
            env=environ,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        nursery.start_soon(run)
        await bare.until(lambda: bare.status()["surfaces"])
        await seen(look, framed)
        windows = [w for w in bare.status()["surfaces"] if w["kind"] == "window"]
        assert [window["mode"] for window in windows] == ["A"]
        nursery.cancel_scope.cancel()
    await bare.quiet()
