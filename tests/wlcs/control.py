"""`python -m tests.wlcs.control`: what Mir does, without us, with windows like framed ones.

`expected.toml` lays some of what differs with frames at Mir's door.  Here an app says to Mir's
demo server what the proxy says for a framed window, and is neither agent nor proxy between: its
geometry begins above and left of its surface, and a part of it sticks out.  Where Mir is right,
`expected.toml` is wrong, and this fails.
"""

import argparse
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
from pywayland.protocol.pointer_constraints_unstable_v1 import ZwpPointerConstraintsV1
from pywayland.protocol.wayland import WlSeat, WlSubcompositor

from bench.processes import BenchError, started
from tests.clients.virtual_pointer import VirtualPointer
from tests.compositors import CannotRunError
from tests.peers.app import App, Ram, Window
from tests.wlcs.running import debian

SCREEN: Final = (1280, 1024)
LEFT, TOP = 5, 18
"""How much of the geometry is outside of the window's surface."""
SERVER: Final = (
    "mir_demo_server",
    *("--platform-display-libs", "mir:virtual"),
    *("--virtual-output", f"{SCREEN[0]}x{SCREEN[1]}"),
    *("--platform-rendering-libs", "mir:egl-generic"),
    *("--add-wayland-extensions", "zwlr_virtual_pointer_manager_v1"),
)
PATIENCE: Final = 30
"""Seconds for an app and Mir."""


def main() -> str | None:
    """Do it; returns what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.wlcs.control", description=__doc__
    )
    parser.add_argument("--root", type=Path, help="where that Debian is, or is kept")
    arguments = parser.parse_args()
    try:
        with debian(arguments.root) as root:
            return check(root)
    except (BenchError, CannotRunError) as exc:
        return str(exc)


def check(root: Path) -> str | None:
    """Say what Mir does, and return what is laid at its door and not so.

    Args:
        root: a Debian with Mir's demo server.

    Raises:
        BenchError: it does not come up.
    """
    with _mir(root) as display:
        off = trio.run(nested, display)
        print(f"Mir alone: a pointer in a part of a part is off by {off}", flush=True)
        left = trio.run(confined, display)
        print(f"Mir alone: a confined pointer leaves its surface: {left}", flush=True)
    if off != (LEFT, TOP) or not left:
        return "Mir is right: expected.toml has something that is not its fault"
    return None


@dataclass(frozen=True, slots=True)
class Scene:
    """A maximised window whose geometry begins above and left of it, and a pointer.

    Attributes:
        entered: (serial, surface, x, y) each time that the app's pointer has entered one.
        pointer: the app's.
        hand: what moves it.
    """

    app: App
    window: Window
    entered: list[tuple[Any, ...]]
    pointer: Any
    hand: VirtualPointer

    async def add(
        self, parent: Any, place: tuple[int, int], size: tuple[int, int]
    ) -> Any:
        """Have a subsurface; it is shown with its parents' next commits."""
        surface = self.app.surface()
        manager = self.app.bind(WlSubcompositor)
        role = self.app.keep(manager.get_subsurface(surface, parent))
        role.set_position(*place)
        await self.app.show(surface, self.app.canvas(size))
        return surface

    async def enter(self, surface: Any, x: int, y: int) -> tuple[int, int]:
        """Go to a place of the window's, into a surface; returns where the app is told to be."""
        self.hand.go(LEFT + x, TOP + y)
        await self.app.until(lambda: self.entered and self.entered[-1][1] is surface)
        return int(self.entered[-1][2]), int(self.entered[-1][3])


@asynccontextmanager
async def scene(display: Path) -> AsyncIterator[Scene]:
    """Have one on Mir's screen."""
    with trio.fail_after(PATIENCE):
        app = await App.connect(display, Ram(8 << 20))
        hand = VirtualPointer(display, SCREEN)
        try:
            window = await app.window()
            sizes = app.record(window.role, "configure")
            serials = app.record(window.xdg_surface, "configure")
            window.role.set_maximized()
            await app.until(lambda: serials)
            window.xdg_surface.ack_configure(serials[-1][0])
            width, height = sizes[-1][:2]
            window.xdg_surface.set_window_geometry(-LEFT, -TOP, width, height)
            await app.show(window.surface, app.canvas((width - LEFT, height - TOP)))
            pointer = app.keep(app.bind(WlSeat).get_pointer())
            entered = app.record(pointer, "enter")
            await app.roundtrip()
            yield Scene(app, window, entered, pointer, hand)
        finally:
            hand.close()
            app.close()


async def nested(display: Path) -> tuple[int, int]:
    """Say how far off a pointer is that is in a subsurface of a subsurface."""
    async with scene(display) as it:
        outer = await it.add(it.window.surface, (20, 30), (200, 150))
        inner = await it.add(outer, (10, 15), (100, 100))
        outer.commit()
        it.window.surface.commit()
        await it.app.roundtrip()
        assert await it.enter(outer, 22, 32) == (2, 2), "off in the first, already"
        x, y = await it.enter(inner, 32, 47)
        return x - 2, y - 2


async def confined(display: Path) -> bool:
    """Say whether a pointer leaves the surface that it is confined to, for a part that sticks out."""
    async with scene(display) as it:
        surface = it.window.surface
        part = await it.add(surface, (0, -TOP), (SCREEN[0] - LEFT, TOP))
        surface.commit()
        await it.enter(surface, 100, 100)
        constraints = it.app.bind(ZwpPointerConstraintsV1)
        lasting = ZwpPointerConstraintsV1.lifetime.persistent
        confinement = it.app.keep(
            constraints.confine_pointer(surface, it.pointer, None, lasting)
        )
        begun = it.app.record(confinement, "confined")
        moved = it.app.record(it.pointer, "enter", "motion")
        await it.app.until(lambda: begun)
        it.hand.move(0, -100 - TOP)
        await it.app.until(lambda: moved and moved[-1][-1] != 100)
        return part in moved[-1]


def _listens(display: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(str(display)) == 0


@contextmanager
def _mir(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=root / "run") as directory:
        own = Path(directory)
        environ = {"XDG_RUNTIME_DIR": f"/run/{own.name}", "HOME": f"/run/{own.name}"}
        words = ["chroot", str(root), *SERVER]
        with started(words, own / "mir.log", environ) as server:
            display = own / "wayland-0"
            server.wait_until(partial(_listens, display), "Mir's demo server")
            yield display


if __name__ == "__main__":
    sys.exit(main())
