"""QEMU's dma-bufs of a guest's own RAM, shown: modes B and A, every pixel, and copied by nobody.

The lab's host VM has a DRM device without a GPU (vgem), which is all that QEMU's GL needs.  The guest has a
virtio-gpu with `blob=true`, whose pictures lie in the guest's RAM; a text console; and a desktop.
"""

import mmap
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest
import trio

from lab import nested
from lab.guest import Guest
from tests.clients import capture, pattern
from tests.clients.capture import Picture
from tests.clients.keyboard import Keyboard
from tests.integration.harness import OUT, eventually
from tests.screen.viewing import viewing

pytestmark = [pytest.mark.guest, pytest.mark.timeout(480)]

WIDTH, HEIGHT = 1024, 768
"""The compositors' output: windows are shown on all of it, and nothing is scaled."""
STRIDE = WIDTH * 4
"""So a row is a page of the guest's."""
PATIENCE = 120
KEYS_SECONDS = 15
"""For keys to come to where they are echoed."""
LOGIN_SECONDS = 45
RENDER_NODE = Path("/dev/dri/renderD128")
MONITOR = nested.RUN / "screen.qmp"
CONSOLE_GRAPHICS = "import fcntl; fcntl.ioctl(open('/dev/tty1'), 0x4b3a, {})"
"""KDSETMODE: 1 keeps the text console off the screen, 0 lets it."""
MODES = {"B": "wl-gl", "A": "wl-pixman"}
USER, PASSWORD = "lab", "lab-42"
WESTON_INI = b"""\
[core]
renderer=pixman
idle-time=0
[shell]
locking=false
animation=none
startup-animation=none
background-color=0xff26404f
panel-position=top
clock-format=none
[autolaunch]
path=/usr/bin/weston-terminal
"""


def printed_options() -> list[tuple[str, str]]:
    """What a user would paste, for the screen: display, GPU, and what goes with them."""
    words = [sys.executable, "-m", "wlproxy", "qemu-args", "--screen", str(MONITOR)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    options = shlex.split(done.stdout.replace("\\\n", " "))
    found = list(zip(options[::2], options[1::2], strict=True))
    display = "-display", f"dbus,p2p=on,gl=es,rendernode={RENDER_NODE}"
    return found[found.index(display) :]


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    subprocess.run(["modprobe", "vgem"], check=True)
    eventually(RENDER_NODE.exists, "vgem's render node")
    display, gpu, *others = printed_options()
    machine = nested.in_lab().replace(
        init="systemd",
        gpu=gpu[1],
        append=f"wlproxy.fbdev=1 video=Virtual-1:{WIDTH}x{HEIGHT}",
        options=tuple(chain(display, *others)),
    )
    with Guest(machine) as guest:
        guest.boot()
        yield guest
        shutil.copy(machine.log, OUT / "screen-qemu.log")
        guest.power_off()


def succeed(guest: Guest, *argv: str, stdin: bytes = b"") -> bytes:
    done = guest.run(argv, stdin=stdin)
    assert done.ok, (argv, done.stderr)
    return done.stdout


async def until(condition: Callable[[], object]) -> None:
    assert await comes(condition, PATIENCE)


async def comes(condition: Callable[[], object], seconds: float) -> bool:
    """Wait until something is so, which nobody tells; tell whether it is."""
    with trio.move_on_after(seconds):
        while not await trio.to_thread.run_sync(condition):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.1)
        return True
    return False


async def in_thread(function: Callable[..., object], *args: str) -> None:
    """Call what takes its time, while the window goes on answering QEMU."""
    await trio.to_thread.run_sync(lambda: function(*args))


def rows(picture: Picture) -> list[bytes]:
    return picture.rows(0, 0, picture.width, picture.height)


# ---------------------------------------------------------------- pixels


@pytest.fixture
def _pattern(guest: Guest) -> Iterator[None]:
    """The pattern on the guest's screen, in the place of its console."""
    succeed(guest, "systemctl", "stop", "getty@tty1")
    succeed(guest, "python3", "-c", CONSOLE_GRAPHICS.format(1))
    assert int(guest.get("/sys/class/graphics/fb0/stride")) == STRIDE
    guest.put("/run/pattern", pattern.image(WIDTH, HEIGHT, 1))
    succeed(guest, "dd", "if=/run/pattern", "of=/dev/fb0", "bs=1M", "conv=notrunc")
    succeed(guest, "rm", "/run/pattern")
    yield
    succeed(guest, "python3", "-c", CONSOLE_GRAPHICS.format(0))
    succeed(guest, "systemctl", "start", "getty@tty1")


def ram_of(guest: Guest) -> mmap.mmap:
    """Map the guest's RAM: QEMU's memfd."""
    for path in Path(f"/proc/{guest.pid}/fd").iterdir():
        if os.readlink(path).startswith("/memfd:memory-backend-memfd"):
            with path.open("r+b") as file:
                return mmap.mmap(file.fileno(), 0)
    raise AssertionError("QEMU has no memfd for its RAM")


def pages_of(ram: mmap.mmap, contents: bytes) -> list[int]:
    """Find a page in the RAM, wherever it is."""
    found, at = [], -1
    while (at := ram.find(contents, at + 1)) >= 0:
        if at % mmap.PAGESIZE == 0:
            found.append(at)
    return found


def touch_end(guest: Guest, row: int) -> None:
    """Have the guest draw the last pixel of a row and the first of the next, which damages both."""
    where = f"seek={row * WIDTH + WIDTH - 1}"
    device = "if=/dev/zero", "of=/dev/fb0"
    succeed(guest, "dd", *device, "bs=4", "count=2", where, "conv=notrunc")


def our_dmabufs() -> list[str]:
    """Who made the dma-bufs that this process has."""
    found = []
    for path in Path("/proc/self/fdinfo").iterdir():
        try:
            text = path.read_text()
        except OSError:  # the directory's own
            continue
        found += [
            line.split()[1]
            for line in text.splitlines()
            if line.startswith("exp_name:")
        ]
    return found


@pytest.mark.usefixtures("_pattern")
@pytest.mark.parametrize("mode", MODES)
async def test_the_guests_own_memory_is_shown(guest: Guest, mode: str) -> None:
    name = MODES[mode]
    wanted = [pattern.row(y, 1, WIDTH) for y in range(HEIGHT)]
    row = 100

    def is_shown() -> bool:
        return rows(capture.weston(name)) == wanted

    async with viewing(MONITOR, Path(os.environ["XDG_RUNTIME_DIR"], name)) as viewer:
        await until(lambda: viewer.window.frames)
        await until(is_shown)
        assert (viewer.counts.mode, viewer.counts.copied) == (mode, 0)
        assert set(our_dmabufs()) == {"udmabuf"}

        # A byte that is changed in the guest's RAM, by nobody who could draw it.
        ram = ram_of(guest)
        places = await trio.to_thread.run_sync(pages_of, ram, wanted[row])
        assert places
        changed = wanted[row][0] ^ 0xFF
        for at in places:
            ram[at] = changed
        await in_thread(lambda: touch_end(guest, row))
        wanted[row] = bytes([changed]) + wanted[row][1:-4] + b"\0\0\0\xff"
        wanted[row + 1] = b"\0\0\0\xff" + wanted[row + 1][4:]
        await until(is_shown)
        with guest.qmp() as qmp:
            line = f"xp /1xb {places[0]:#x}"
            seen = qmp("human-monitor-command", **{"command-line": line})
        assert int(seen.split(":")[1], 16) == changed
        ram.close()
        assert (viewer.counts.mode, viewer.counts.copied) == (mode, 0)
        print(f"mode {mode}: {viewer.counts}, {len(places)} pages alike")


# ---------------------------------------------------------------- a desktop


class Console:
    """The guest's text console, and whoever types there by keys in the window.

    What is typed before a prompt is thrown away, as getty does; and some keys are lost if the guest is busy, as QEMU's
    PS/2 keyboard keeps 16 bytes, which are five keys.  So it is looked at what has come.
    """

    def __init__(self, guest: Guest, keyboard: Keyboard) -> None:
        self._guest, self._keyboard = guest, keyboard

    async def type(self, text: str) -> None:
        await in_thread(lambda: self._keyboard.type(text, 0.1))

    async def enter(self, prompt: str, text: str) -> None:
        """Type a line at a prompt, and end it once all of it is there."""
        with trio.fail_after(PATIENCE):
            whole = False
            while not whole:
                while not await self._ends(prompt):
                    await self.type("\n")
                await self.type(text)
                whole = await self._ends(f"{prompt} {text}")
                await self.type("\n")

    async def log_in(self) -> bool:
        await self.enter("login:", USER)
        await until(self._asks_for_password)
        await self.type(f"{PASSWORD}\n")
        return await comes(lambda: self.shells() == 1, LOGIN_SECONDS)

    def shells(self) -> int:
        found = self._guest.run(["pgrep", "-u", USER, "-x", "sh"])
        return len(found.stdout.split())

    async def _ends(self, text: str) -> bool:
        """Wait until this is the last that is there."""
        return await comes(lambda: self._text().endswith(text), KEYS_SECONDS)

    def _text(self) -> str:
        """What is there, up to its last letter: vcs(4) has it, a row after the other."""
        return self._guest.get("/dev/vcs1").decode(errors="replace").rstrip()

    def _asks_for_password(self) -> bool:
        return b"-echo " in self._guest.run(["stty", "-a", "-F", "/dev/tty1"]).stdout


def has_terminal(picture: Picture) -> bool:
    """Whether a black window is there, as weston's terminal is, before the desktop's colour."""
    black, colour = b"\0\0\0\xff", bytes.fromhex("4f4026ff")
    return min(map(picture.data.count, (black, colour))) > 100_000


@pytest.fixture
def screen_on_sway(
    sway: Path,
) -> Path:
    """A sway with an output of the guest's size, which a window has for itself."""
    (ipc,) = sway.parent.glob("sway-ipc.*")
    for words in (
        f"output * resolution {WIDTH}x{HEIGHT}",
        "default_border none",
        "for_window [app_id=wlproxy.vm.screen] fullscreen enable",
    ):
        subprocess.run(["swaymsg", "-s", str(ipc), *words.split()], check=True)
    return sway


@pytest.fixture
def keyboard(screen_on_sway: Path) -> Iterator[Keyboard]:
    keyboard = Keyboard(str(screen_on_sway))
    yield keyboard
    keyboard.close()


async def test_a_desktop(
    guest: Guest, screen_on_sway: Path, keyboard: Keyboard
) -> None:
    """Logged in on its console, started, and typed into, all by keys in the window."""
    succeed(guest, "chpasswd", stdin=f"{USER}:{PASSWORD}\n".encode())
    home = f"/home/{USER}"
    succeed(guest, "install", "-d", "-o", USER, f"{home}/.config")
    guest.put(f"{home}/.config/weston.ini", WESTON_INI)
    display, runtime = screen_on_sway.name, screen_on_sway.parent

    def shown() -> Picture:
        return capture.grim(display, runtime)

    def save(name: str) -> None:
        shown().save(OUT / f"screen-{name}.ppm")

    def runs(program: str) -> Callable[[], bool]:
        return lambda: guest.run(["pgrep", "-u", USER, "-x", program]).ok

    def has_typed() -> bool:
        return guest.run(["test", "-s", "/tmp/typed"]).ok

    console = Console(guest, keyboard)
    async with viewing(MONITOR, screen_on_sway) as viewer:
        await until(lambda: viewer.window.frames)
        assert await console.log_in() or await console.log_in()
        await console.enter("$", "weston")
        await in_thread(save, "login")
        await until(runs("weston-terminal"))
        await until(lambda: console.shells() == 2)
        await until(lambda: has_terminal(shown()))
        await in_thread(save, "weston")
        for _ in range(3):
            await console.type("ls / ; id ; echo typed > /tmp/typed\n")
            if await comes(has_typed, LOGIN_SECONDS):
                break
        assert guest.get("/tmp/typed") == b"typed\n"
        await in_thread(save, "desktop")
        assert (viewer.counts.mode, viewer.counts.copied) == ("A", 0)
        print(f"desktop on sway: {viewer.counts}")

    def is_imported() -> bool:
        imported = capture.weston("wl-gl")
        imported.save(OUT / "screen-desktop-imported.ppm")
        # Not compared with the other: this desktop is wider than weston's output, and scaled.
        return has_terminal(imported)

    async with viewing(MONITOR, Path(os.environ["XDG_RUNTIME_DIR"], "wl-gl")) as viewer:
        await until(lambda: viewer.window.frames)
        await until(is_imported)
        assert (viewer.counts.mode, viewer.counts.copied) == ("B", 0)
        print(f"desktop on weston: {viewer.counts}")
