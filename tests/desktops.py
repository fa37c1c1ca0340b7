"""Frames on the desktops of Debian 13, KWin and GNOME Shell, checked and shown: ``make desktops``.

As root: it makes a Debian (`tests.debian_desks`), of a gigabyte and a half, in a directory that is
removed again, or in the one that ``--keep`` names, where the next run finds it.  Apps of this machine
play the guests' there, as in `tests.pictures`: each is opened, put somewhere, tiled, maximised, has
all of the screen, and all four sides of its frame are looked at, pixel by pixel.  A menu is as well.
Then a picture is made of each desktop, for the documentation.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

import trio
from PIL import Image, ImageChops

from tests import compositors
from tests.clients.capture import Picture
from tests.debian_desks import DESKS, DebianDesk, make, running
from tests.integration.loopback.test_frames import Box, check_ring, check_same, find_red
from tests.pictures import DOCS, GAP, SHELL, SIZE, VMS, vm
from wlproxy.relay.look import COLOURS, POPUP_WIDTH, WIDTH

PLACE: Final = 120, 90, 820, 610
"""Where windows are put."""

MARGIN: Final = 40
"""How much wider a frame may be than asked for, in pixels: GTK 4's margin is 20."""

BESIDE: Final = 12
"""Pixels from the right side, where it is looked at how wide the upper side is."""

PATIENCE: Final = 60.0
"""Seconds for something to be seen."""


@dataclass(frozen=True)
class Program:
    """An app.

    Attributes:
        command: that runs it.
        obeys: it is as large as it is told to be.
    """

    command: Sequence[str]
    obeys: bool = True


class State(Enum):
    """What a desktop was told to do with a window."""

    PLACED = "as placed"
    TILED = "tiled"
    MAXIMISED = "maximised"
    FULLSCREEN = "fullscreen"


FOOT: Final = Program([*SHELL, "exec sleep 600"])
DEMO: Final = Program(["gtk4-demo"])
FLOWER: Final = Program(["weston-flower"], obeys=False)
TERMINAL: Final = Program(["weston-terminal", "--shell=/bin/cat"])
PROGRAMS: Final[Mapping[str, Program]] = {
    "foot": FOOT,
    "gtk4-demo": DEMO,
    "weston-flower": FLOWER,
    "weston-terminal": TERMINAL,
}


class WrongError(Exception):
    """Something is not as it should be; the argument says what."""


def shot(image: Image.Image) -> Picture:
    """Return a picture as the tests on other compositors have them."""
    return Picture(*image.size, image.convert("RGBA").tobytes("raw", "BGRA"))


def bytes_of(colour: str) -> bytes:
    """A colour as in such a picture."""
    return COLOURS[colour].to_bytes(3, "little") + b"\xff"


def check_frame(image: Image.Image, colour: str) -> tuple[Box, tuple[int, ...]]:
    """Check that a frame is around the only window of its colour, on all sides without a gap.

    Returns:
        Where it is, and how wide: left, top, right and bottom.

    Raises:
        AssertionError: it is not.
    """
    picture, wanted = shot(image), bytes_of(colour)
    left, top, right, bottom = box = find_red(picture, wanted)
    check_ring(picture, box, POPUP_WIDTH, wanted)  # the upper side may have a label
    for row in picture.rows(left, top, right - left, bottom - top):
        check_same(row[: 4 * WIDTH] + row[-4 * WIDTH :], wanted * (2 * WIDTH))
    for row in picture.rows(left, bottom - WIDTH, right - left, WIDTH):
        check_same(row, wanted * (right - left))
    across = picture.rows(left, (top + bottom) // 2, right - left, 1)[0]
    # Where the label is not, nor, with what apps draw there, the window's title.
    at = right - run_of(backwards(across), wanted) - BESIDE
    down = b"".join(picture.rows(at, top, 1, bottom - top))
    widths = (
        *(run_of(across, wanted), run_of(down, wanted)),
        *(run_of(backwards(across), wanted), run_of(backwards(down), wanted)),
    )
    if min(widths) < WIDTH:
        raise AssertionError(f"a frame with sides of {widths} pixels")
    return box, widths


def run_of(row: bytes, pixel: bytes) -> int:
    """How many pixels of a row are this one, from the first on."""
    count = 0
    while row[4 * count : 4 * count + 4] == pixel:
        count += 1
    return count


def backwards(row: bytes) -> bytes:
    """A row from its other end."""
    return b"".join(row[at : at + 4] for at in range(len(row) - 4, -4, -4))


def check_place(box: Box, program: Program, state: State) -> None:
    """Check that a frame is where the desktop was told to have the window.

    Raises:
        AssertionError: it is not.
    """
    width, height = SIZE
    match state:
        case State.FULLSCREEN:
            right = box == (0, 0, width, height)
        case State.MAXIMISED:
            right = box[0] == 0 and box[2:] == SIZE
        case State.TILED:
            # What an app draws outside of its geometry is covered.
            wider = abs(box[2] - width // 2)
            right = box[0] == 0 and wider <= MARGIN and box[3] == height
        case State.PLACED if program.obeys:
            off = [abs(is_ - told) for is_, told in zip(box, PLACE, strict=True)]
            # A title bar of the desktop's is above it, and in what was asked for.
            right = max(off[0], off[2], off[3]) <= MARGIN and off[1] <= MARGIN
        case _:
            right = True
    if not right:
        raise AssertionError(f"a frame at {box}")


@contextmanager
def app(
    program: Program, display: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an app for a while.

    Raises:
        WrongError: it ended by itself.
    """
    environ = {
        **os.environ,
        "WAYLAND_DISPLAY": str(display),
        "XDG_RUNTIME_DIR": str(display.parent),
        "GDK_BACKEND": "wayland",
        "GSK_RENDERER": "cairo",
    }
    with (
        log.open("wb") as output,
        subprocess.Popen(
            program.command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            yield process
            if process.poll() is not None:
                said = log.read_text(errors="replace")[-500:]
                raise WrongError(f"{program.command[0]} has ended: {said}")
        finally:
            process.kill()


@dataclass
class Visit:
    """One desktop, two VMs with windows on it.

    Attributes:
        desk: the desktop.
        displays: of the VMs, by name.
        logs: where apps' are to be.
    """

    desk: DebianDesk
    displays: Mapping[str, Path]
    logs: Path

    async def framed(self, colour: str, program: Program, state: State) -> Image.Image:
        """Have a window be placed, or maximised, until it is as it should be; say how it is."""
        problem: Exception = AssertionError("nothing was looked at")
        if state is State.TILED:  # which ends if it is asked for again
            self.desk.tile()
        with trio.move_on_after(PATIENCE):
            while True:
                # KWin within sway shows some new sizes only when something else happens.
                self.desk.point(401, 320)
                self.desk.point(400, 320)
                if state is State.PLACED:
                    self.desk.place(PLACE)
                elif state is State.MAXIMISED:
                    self.desk.maximise()
                elif state is State.FULLSCREEN:
                    self.desk.fill()
                image = await self.desk.settled()
                try:
                    box, widths = check_frame(image, colour)
                    check_place(box, program, state)
                except AssertionError as error:
                    problem = error
                else:
                    print(f"    {state.value}: frame at {box}, sides {widths}")
                    return image
        raise problem

    async def shows(self, colour: str, *, there: bool) -> None:
        """Wait until a window of a colour is there, or none is."""
        wanted = bytes_of(colour)
        with trio.fail_after(PATIENCE):
            while (wanted in shot(await self.desk.settled()).data) is not there:
                pass

    async def check(self, name: str, program: Program) -> None:
        """Open an app in the first VM; have it be framed, whatever the desktop does with it."""
        print(f"  {name}")
        colour = VMS["work"]
        with app(program, self.displays["work"], self.logs / f"{name}.log"):
            await self.shows(colour, there=True)
            await self.framed(colour, program, State.PLACED)
            if name == "weston-terminal":
                await self.menu(colour)
            elif program.obeys:
                for state in (State.TILED, State.MAXIMISED, State.FULLSCREEN):
                    await self.framed(colour, program, state)
        await self.shows(colour, there=False)

    async def menu(self, colour: str) -> None:
        """Open the menu of the window; it has a line around it."""
        before = await self.open_menu()
        image = await self.desk.settled()
        changed = ImageChops.difference(before, image)
        changed.paste(0, (0, 0, SIZE[0], PLACE[1]))  # GNOME's panel has a clock
        box = changed.getbbox()
        assert box is not None
        check_ring(shot(image), box, POPUP_WIDTH, bytes_of(colour))
        print(f"    menu: line around {box}")
        self.desk.press(down=False)

    async def open_menu(self) -> Image.Image:
        """Press the right button in the middle of where windows are put."""
        x, y = (PLACE[0] + PLACE[2]) // 2, (PLACE[1] + PLACE[3]) // 2
        self.desk.point(x + 1, y)  # KWin tells nobody that a window has moved below it
        self.desk.point(x, y)
        before = await self.desk.settled()
        self.desk.press(down=True)
        await self.desk.shows_more_than(before)
        return before

    async def open(
        self, apps: ExitStack, program: Program, display: Path, box: Box
    ) -> None:
        """Open an app somewhere, and leave it open."""
        before = await self.desk.settled()
        log = self.logs / "shown.log"
        apps.enter_context(app(program, display, log))
        await self.desk.shows_more_than(before)
        await self.desk.settled()
        self.desk.place(box)
        await self.desk.settled()

    async def show(self) -> Image.Image:
        """Make a picture of windows of the host's and of both VMs, and of one that is maximised."""
        pictures = []
        work, web = self.displays["work"], self.displays["web"]
        with ExitStack() as apps:
            await self.open(apps, TERMINAL, self.desk.display, (30, 60, 430, 340))
            await self.open(apps, DEMO, web, (660, 60, 1240, 480))
            await self.open(apps, FLOWER, work, (30, 400, 230, 600))
            await self.open(apps, TERMINAL, work, (380, 250, 960, 660))
            await self.open_menu()
            pictures.append(await self.desk.settled())
            self.desk.press(down=False)
        for colour in VMS.values():
            await self.shows(colour, there=False)
        with app(DEMO, web, self.logs / "shown.log"):
            await self.shows(VMS["web"], there=True)
            pictures.append(await self.framed(VMS["web"], DEMO, State.MAXIMISED))
        return side_by_side(pictures)


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Make one picture of several, half as large."""
    width, height = SIZE[0] // 2, SIZE[1] // 2
    across = len(pictures) * (width + GAP) - GAP
    whole = Image.new("RGB", (across, height), "white")
    for index, picture in enumerate(pictures):
        small = picture.resize((width, height), Image.Resampling.LANCZOS)
        whole.paste(small, (index * (width + GAP), 0))
    return whole


async def visit(desk: DebianDesk, logs: Path) -> Image.Image:
    """Check a desktop; return a picture of it."""
    async with trio.open_nursery() as nursery, AsyncExitStack() as vms:
        displays = {}
        for name in VMS:
            loopback = await vms.enter_async_context(vm(desk, name, nursery))
            displays[name] = loopback.display
        here = Visit(desk, displays, logs)
        try:
            for name, program in PROGRAMS.items():
                if name not in desk.ends:
                    await here.check(name, program)
            return await here.show()
        except BaseException:
            desk.picture().save(logs / "failed.png")
            raise


def visit_all(directory: Path, only: Sequence[str]) -> None:
    """Check all desktops in a Debian, which is made if it is not there, and picture them.

    Raises:
        CannotRunError: they cannot be run here.
        WrongError: an app has ended.
        AssertionError: a frame is not as it should be.
    """
    root = directory / "root"
    make(root)
    for kind in DESKS:
        if only and kind.name not in only:
            continue
        print(f"{kind.name} {compositors.version(root, kind.package)}")
        with running(root, kind) as desk:
            picture = trio.run(visit, desk, directory)
        path = DOCS / f"frame-{kind.name}.png"
        picture.quantize(256).save(path, optimize=True)
        print(f"  docs/{path.name}")


def main() -> str | None:
    """Do it; returns what cannot be done."""
    names = [kind.name for kind in DESKS]
    parser = argparse.ArgumentParser(prog="python -m tests.desktops")
    parser.add_argument("--keep", type=Path, help="where the Debian is to stay")
    parser.add_argument("desktops", nargs="*", help=f"{' or '.join(names)}: only that")
    options = parser.parse_args()
    try:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            visit_all(options.keep.resolve(), options.desktops)
        else:
            with tempfile.TemporaryDirectory(prefix="desktops-") as directory:
                visit_all(Path(directory), options.desktops)
    except compositors.CannotRunError as exc:
        return f"the desktops cannot be run: {exc}"
    return None


if __name__ == "__main__":
    sys.exit(main())
