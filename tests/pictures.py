"""Makes the pictures of frames that the documentation shows: ``make pictures``.

Apps of this machine play the guests' (`tests.peers.native_apps`), on a headless sway; on weston
where a window is maximised, which sway has none of.  Whoever runs it looks at what it made: nothing here says whether that is right, the tests do.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio
from PIL import Image

from tests.clients import capture
from tests.clients.virtual_pointer import VirtualPointer
from tests.host.conftest import Weston, running_sway
from tests.integration.loopback.test_frames import shot_of
from tests.peers.app import App
from tests.peers.loopback import Loopback
from tests.peers.native_apps import serve_native_apps
from wlproxy.host.frame_label import look
from wlproxy.relay.look import read_colour
from wlproxy.relay.policy_tree import Frame

DOCS = Path(__file__).parents[1] / "docs"
SIZE = 1280, 720
"""The size of sway's output, in pixels."""
FLOATING = "for_window [app_id=.*] floating enable, border none"
VMS = {"work": "blue", "web": "orange"}
# A buffer has to be at the start of its pool (`tests.peers.native_apps`).
SHELL = ["foot", "--override=tweak.max-shm-pool-size-mb=0", "sh", "-c"]
RIGHT = 0x111
"""BTN_RIGHT of linux/input-event-codes.h."""
SLEEPING = [*SHELL, "exec sleep 600"]
GAP = 8
"""Pixels between one picture and the next."""
PATIENCE = 20.0
"""Seconds for a window to be there, and for a compositor to draw it."""


class Desk:
    """A sway and its windows.

    Attributes:
        display: sway's socket.
    """

    def __init__(self, display: Path) -> None:
        self.display = display
        self._windows = 0

    def tell(self, command: str) -> None:
        """Have sway do something."""
        (path,) = self.display.parent.glob("sway-ipc.*.sock")
        subprocess.run(["swaymsg", "-q", "-s", str(path), command], check=True)

    def picture(self) -> Image.Image:
        """Return what it shows."""
        shot = capture.grim(str(self.display), self.display.parent)
        size = shot.width, shot.height
        return Image.frombytes("RGB", size, shot.data, "raw", "BGRX")

    async def settled(self) -> Image.Image:
        """Return what it shows once that changes no more."""
        last = None
        with trio.fail_after(PATIENCE):
            while True:
                now = await trio.to_thread.run_sync(self.picture)
                if last is not None and now.tobytes() == last.tobytes():
                    return now
                last = now
                await trio.sleep(0.5)

    async def shows_more_than(self, before: Image.Image) -> None:
        """Wait until a picture is another one."""
        with trio.fail_after(PATIENCE):
            old = before.tobytes()
            while (await trio.to_thread.run_sync(self.picture)).tobytes() == old:  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.1)


@contextmanager
def desk(settings: str) -> Iterator[Desk]:
    """Have a sway for a while."""
    output = f"output * mode {SIZE[0]}x{SIZE[1]} bg #303840 solid_color"
    with running_sway(f"{output}\n{settings}") as display:
        yield Desk(display)


class WestonDesk(Desk):
    """A weston and its windows."""

    def __init__(self, weston: Weston) -> None:
        super().__init__(weston.socket)
        self._weston = weston

    def picture(self) -> Image.Image:
        """Return what it shows."""
        data = shot_of(self._weston).data
        return Image.frombytes("RGB", SIZE, data, "raw", "BGRX")


@contextmanager
def weston_desk() -> Iterator[Desk]:
    """Have a weston for a while."""
    with tempfile.TemporaryDirectory(prefix="weston-") as directory:
        settings = "[shell]\nbackground-color=0xff303840\nclock-format=none\n"
        weston = Weston(Path(directory), size=SIZE, settings=settings)
        try:
            yield WestonDesk(weston)
        finally:
            weston.stop()


@asynccontextmanager
async def vm(desk: Desk, name: str, nursery: trio.Nursery) -> AsyncIterator[Loopback]:
    """Have a proxy, and an agent, for windows of a VM with a frame."""
    with tempfile.TemporaryDirectory(prefix="picture-") as directory:
        loopback = Loopback(Path(directory), nursery)
        device, files = serve_native_apps(loopback)
        await loopback.start_agent()
        frame = look(name, Frame(read_colour(VMS[name])))
        await loopback.start_host(desk.display, device, frame=frame, isolate=False)
        yield loopback
        await loopback.stop_all()
        files.close()


@contextmanager
def program(argv: Sequence[str], display: Path) -> Iterator[None]:
    """Run an app for a while."""
    environ: Mapping[str, str] = {
        **os.environ,
        "WAYLAND_DISPLAY": str(display),
        "XDG_RUNTIME_DIR": str(display.parent),
        "GSK_RENDERER": "cairo",
    }
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        argv, env=environ, stdin=quiet, stdout=quiet, stderr=quiet
    ) as process:
        try:
            yield
        finally:
            process.kill()


async def opened(
    stack: ExitStack, desk: Desk, argv: Sequence[str], display: Path, place: str = ""
) -> None:
    """Open an app's window, and put it somewhere."""
    before = await desk.settled()
    stack.enter_context(program(argv, display))
    await desk.shows_more_than(before)
    await desk.settled()
    if place:
        desk.tell(place)
        await desk.settled()


async def side_by_side(nursery: trio.Nursery) -> Image.Image:
    """The same app of the host and of two VMs; and one that imitates another VM's window."""
    async with AsyncExitStack() as vms:
        stack = vms.enter_context(ExitStack())
        screen = stack.enter_context(desk(FLOATING))
        work = await vms.enter_async_context(vm(screen, "work", nursery))
        web = await vms.enter_async_context(vm(screen, "web", nursery))
        for display, text, x, y in (
            (screen.display, "The host", 30, 20),
            (work.display, "VM work", 660, 20),
            (web.display, "VM web", 30, 370),
        ):
            shell = [*SHELL, f"printf '\\n  {text}\\n'; exec sleep 600"]
            place = f"resize set 580 320, move position {x} {y}"
            await opened(stack, screen, shell, display, place)
        copied = (await screen.settled()).crop((660, 20, 660 + 420, 20 + 250))
        app = await web.app()
        await imitate(app, copied)
        screen.tell("move position 660 400")
        picture = await screen.settled()
        app.close()
        stack.close()
        return picture


async def imitate(app: App, image: Image.Image) -> None:
    """Show a picture as a window."""
    window = await app.window()
    canvas = app.canvas(image.size)
    app.ram.write(canvas.offset, image.convert("RGBX").tobytes("raw", "BGRX"))
    await app.show(window.surface, canvas)


@dataclass
class Scene:
    """Windows of two VMs, being opened."""

    desk: Desk
    apps: ExitStack
    work: Path
    web: Path

    async def tiled(self) -> None:
        """Beside one another; one does not care which size it is told."""
        await opened(self.apps, self.desk, SLEEPING, self.work)
        await opened(self.apps, self.desk, ["weston-flower"], self.web)

    async def menu(self) -> None:
        """A window with a menu: its app draws shadows, which the frame covers."""
        shell = ["weston-terminal", "--shell=/bin/cat"]
        await opened(self.apps, self.desk, shell, self.work)
        hand = VirtualPointer(self.desk.display, SIZE)
        hand.go(SIZE[0] // 2, SIZE[1] // 2)
        before = await self.desk.settled()
        hand.press(down=True, button=RIGHT)
        await self.desk.shows_more_than(before)

    async def maximised(self) -> None:
        """A window that fills what the compositor's own panel leaves."""
        argv = ["weston-terminal", "--maximized", "--shell=/bin/cat"]
        await opened(self.apps, self.desk, argv, self.work)

    async def fullscreen(self) -> None:
        """A window that fills the screen."""
        await opened(self.apps, self.desk, SLEEPING, self.work, "fullscreen enable")

    async def alone(self) -> None:
        """Nothing but a window."""
        await opened(self.apps, self.desk, SLEEPING, self.work)


STATES: Sequence[
    tuple[
        Callable[[], AbstractContextManager[Desk]],
        Callable[[Scene], Awaitable[None]],
    ]
] = (
    (partial(desk, FLOATING), Scene.alone),
    (weston_desk, Scene.maximised),
    (partial(desk, ""), Scene.tiled),
    (partial(desk, FLOATING), Scene.menu),
    (partial(desk, ""), Scene.fullscreen),
    (partial(desk, f"{FLOATING}\noutput * scale 1.5"), Scene.alone),
)


async def states(nursery: trio.Nursery) -> Image.Image:
    """Windows in all these states, two in a row."""
    made = []
    for begin, play in STATES:
        async with AsyncExitStack() as vms:
            stack = vms.enter_context(ExitStack())
            screen = stack.enter_context(begin())
            work = await vms.enter_async_context(vm(screen, "work", nursery))
            web = await vms.enter_async_context(vm(screen, "web", nursery))
            await play(Scene(screen, stack, work.display, web.display))
            made.append(await screen.settled())
            stack.close()
    width, height = SIZE[0] // 2, SIZE[1] // 2
    rows = len(made) // 2
    size = 2 * width + GAP, rows * (height + GAP) - GAP
    whole = Image.new("RGB", size, "white")
    for index, picture in enumerate(made):
        place = index % 2 * (width + GAP), index // 2 * (height + GAP)
        whole.paste(picture.resize((width, height), Image.Resampling.LANCZOS), place)
    return whole


async def main() -> None:
    """Make them, where the documentation has them."""
    async with trio.open_nursery() as nursery:
        for name, make in (("frame", side_by_side), ("frame-states", states)):
            picture = await make(nursery)
            picture.quantize(256).save(DOCS / f"{name}.png", optimize=True)
            print(f"docs/{name}.png")


if __name__ == "__main__":
    trio.run(main)
    sys.exit()
