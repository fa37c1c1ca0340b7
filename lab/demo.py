"""``make demo``: shows real apps of a real guest on weston, without copying a pixel.

Where this machine has /dev/udmabuf and KVM, the guest runs right here, and its windows
appear on your own compositor if there is one.  Elsewhere the same happens inside the
lab's VM, which has both.  Either way it ends with a table, a picture, and exit status
1 if a single pixel was wrong or copied.  Your own compositor may not let itself be looked
at: then there is no picture, and the exit status is 3 where nothing else was wrong.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lab import (
    guest_agent,
    host_setup,
    images,
    nested,
    paths,
    qemu,
    recipe,
    runner,
    weston,
)
from lab.demo_report import SUCCEEDED, Report, Sample, show
from lab.errors import LabError
from lab.guest import Guest, GuestLostError
from lab.say import say, step
from lab.stage import (
    GUEST_DISPLAY,
    PROGRAMS,
    App,
    NoPictureError,
    Stage,
    shows_pattern,
    wait_for,
)
from lab.weston import Weston
from tests.integration.harness import ClientError, GuestSide
from wlproxy.host.desktop.udmabuf_device import UdmabufDevice
from wlproxy.host.errors import HostError

BUILD = paths.REPOSITORY / "build"
WHEELS_IN_TREE = "demo"
TIMEOUT = 600.0
# That may be used up, where they are emulated (lab/README.md, pitfall 12).
MACHINES = 3
SECONDS = 10.0
"""How long the apps run once all of them are there."""

# Weston places windows at random, but always at the same random places: order and sizes
# are such that all are to be seen.
APPS = (
    App(
        "GTK 4 demo",
        ["gtk4-demo"],
        {"GSK_RENDERER": "cairo", "GTK_A11Y": "none", "GSETTINGS_BACKEND": "memory"},
    ),
    App("weston-simple-shm", ["weston-simple-shm"]),
    App(
        # foot would do as well, where the compositor has a seat: headless weston has none.
        "weston-terminal",
        [
            *("weston-terminal", "--font=DejaVu Sans Mono", "--font-size=11"),
            f"--shell={PROGRAMS}/demo-terminal",
        ],
    ),
    App("weston-flower", ["weston-flower"]),
    App("Qt 6 clock", [f"{PROGRAMS}/demo-clock"], {"QT_QPA_PLATFORM": "wayland"}),
)
PATTERN = (187, 131)
"""An odd width: rows that begin anywhere."""
SECOND_PATTERN = (257, 100)
DMABUF_PATTERN = (256, 126)
"""Rows that any GPU takes, so that none has a reason not to import it; a height that has
weston place it where nothing else is."""
FRAMES = (1, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m lab.demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="N")
    parser.add_argument(
        "--renderer",
        choices=("gl", "pixman"),
        default="gl",
        help="weston's: with pixman, buffers are shown as wl_shm ones (mode A)",
    )
    parser.add_argument(
        "--new-weston",
        action="store_true",
        help="in the lab's VM: show on Debian 13's weston and Mesa, whatever --host is",
    )
    parser.add_argument(
        "--host",
        choices=sorted(recipe.HOSTS),
        help="run in the lab's VM, with this Debian release in it",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--native", action="store_true", help="run here, whatever this machine lacks"
    )
    where.add_argument(
        "--lab", action="store_true", help="run in the lab's VM, whatever is here"
    )
    where.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    try:
        if arguments.inside:
            out = Path(os.environ["WLPROXY_OUT"])
            wheels = sorted(Path(WHEELS_IN_TREE).glob("*.whl"))
            with Guest() as guest:
                return perform(guest, wheels, out, arguments)
        return prepare(arguments)
    except GuestLostError as error:
        print(f"demo: {error}", file=sys.stderr)
        return runner.LOST
    except (LabError, HostError, ClientError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


# ---- on the developer's machine


def prepare(arguments: argparse.Namespace) -> int:
    """Install and build what it takes, and choose where to run."""
    say("setting up: Debian packages")
    host_setup.setup()
    with step("building the guest agent's wheels"):
        wheels = guest_agent.build_wheels(BUILD / WHEELS_IN_TREE)
    why_not = "" if arguments.native else obstacle()
    if arguments.lab or arguments.host or arguments.new_weston or why_not:
        say(f"running in the lab's VM, guest nested in it: {why_not or 'as told'}")
        return run_in_lab(wheels, arguments)
    what = "as told" if arguments.native else "it has /dev/udmabuf and KVM"
    say(f"running on this machine: {what}")
    return run_here(wheels, arguments)


def obstacle() -> str:
    """Say why the demo cannot run on this machine itself; empty if it can."""
    try:
        UdmabufDevice().close()
    except HostError as error:
        return error.problem
    if not qemu.kvm_works():
        return "KVM does not work here"
    version = weston.Weston().version
    if not os.environ.get("WAYLAND_DISPLAY") and version < weston.OLDEST:
        return f"neither a Wayland session nor weston {weston.OLDEST} here"
    return ""


def run_in_lab(wheels: list[Path], arguments: argparse.Namespace) -> int:
    """Run it in the lab's host VM and fetch what it leaves."""
    command = ["python3", "-m", "lab.demo", "--inside"]
    command += ["--seconds", str(arguments.seconds), "--renderer", arguments.renderer]
    command += ["--new-weston"] if arguments.new_weston else []
    job = runner.Job(
        argv=command,
        guest=True,
        host=arguments.host or recipe.HOST_IMAGE.suite,
        timeout=TIMEOUT,
        out=BUILD,
        env={"PYTHONUNBUFFERED": "1", "COLUMNS": "110"},
        files={f"{WHEELS_IN_TREE}/{each.name}": each.read_bytes() for each in wheels},
    )
    for _ in range(MACHINES - 1):
        status = runner.run(job)
        if status not in runner.LOST_STATUSES:
            return status
        say("the emulated machine panicked or stands still: once more, on another")
    return runner.run(job)


def run_here(wheels: list[Path], arguments: argparse.Namespace) -> int:
    """Boot the guest on this machine."""
    with runner.exclusive():
        images.build()
    with tempfile.TemporaryDirectory(prefix="wlproxy-demo-") as name:
        if "XDG_RUNTIME_DIR" not in os.environ:
            runtime = Path(name, "runtime")
            runtime.mkdir(mode=0o700)
            os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        with Guest(nested.native(Path(name, "guest"))) as guest:
            with step("booting the guest"):
                guest.boot()
            try:
                return perform(guest, wheels, BUILD, arguments)
            finally:
                guest.power_off()


# ---- where the guest is


def perform(
    guest: Guest, wheels: list[Path], out: Path, arguments: argparse.Namespace
) -> int:
    """Show everything, look at it, measure it; returns the exit status."""
    seconds = arguments.seconds
    with Stage(guest, out / "demo-logs") as stage:
        raise_curtain(stage, wheels, arguments)
        pixels: list[str] = []
        failures: list[str] = []
        side = GuestSide(stage.guest)
        side.ship()
        pattern = PatternWindow(stage, side)
        windows = [pattern]
        with step("the pattern: every pixel compared, two frames in one buffer"):
            pixels += pattern.check("pattern", PATTERN, "alone", failures)
        apps = {pattern.pid: "pattern", **show_apps(stage, out / "demo.png")}
        if stage.has_module:
            dmabufs = DmabufWindow(stage, side)
            windows.append(dmabufs)
            with step("the pattern in dma-bufs of virtio-gpu, above the others"):
                pixels += dmabufs.check(
                    "dma-bufs", DMABUF_PATTERN, "dma-bufs", failures
                )
            apps[dmabufs.pid] = "pattern, in dma-bufs"
            dmabufs.animate("dma-bufs")
        pattern.animate("pattern")
        with step(f"all windows are there: running for {seconds:.0f} s"):
            before = sample(stage)
            time.sleep(seconds)
            after = sample(stage)
        save_picture(stage, out / "demo.png")
        with step("the pattern again, above the moving windows"):
            pixels += pattern.check("second", SECOND_PATTERN, "on top", failures)
        status, rights = stage.status(), stage.agent_rights()
        report = Report(before, after, status, apps, rights, pixels)
        report.failures = failures
        report.unseen = next((each.unseen for each in windows if each.unseen), "")
        show(report, Console(highlight=False))
        if emulated():
            print("(emulated without KVM: frame rates and CPU times are not real ones)")
        exit_status, lines = report.verdict()
    for line in lines:
        if exit_status == SUCCEEDED:
            say(line)
        else:
            print(f"demo: {line}", file=sys.stderr)
    return exit_status


def emulated() -> bool:
    """Say whether this machine's CPU is QEMU's emulation of one."""
    return "TCG" in Path("/proc/cpuinfo").read_text()


def raise_curtain(
    stage: Stage, wheels: list[Path], arguments: argparse.Namespace
) -> None:
    """Start compositor, agent and proxy."""
    own = os.environ.get("WAYLAND_DISPLAY")
    if own and os.environ.get("WLPROXY_LAB") != "1":
        runtime = Path(os.environ["XDG_RUNTIME_DIR"])
        say(f"showing on your own compositor, {own}")
        stage.use_compositor(runtime / own)
    else:
        compositor = weston.of_guest_image() if arguments.new_weston else Weston()
        renderer = arguments.renderer
        with step(f"starting weston {compositor.version} (headless, {renderer})"):
            stage.start_weston(compositor, renderer)
    with step("installing the agent in the guest"):
        guest_agent.install(stage.guest, wheels)
        stage.ship_programs()
    with step("starting the agent in the guest"):
        stage.start_agent()
    with step("starting wlproxy run: finding guest RAM, proving it, probing weston"):
        stage.start_proxy()


def show_apps(stage: Stage, picture: Path) -> dict[int, str]:
    """Start all of them; returns their names by process id.

    Raises:
        LabError: one did not come; there is a picture without it.
    """
    apps = {}
    try:
        for app in APPS:
            apps[show_app(stage, app)] = app.name
    except GuestLostError:
        raise
    except LabError:
        save_picture(stage, picture)
        raise
    return apps


def show_app(stage: Stage, app: App) -> int:
    """Start an app and wait for its first frame; returns its process id.

    Raises:
        LabError: it did not come.
    """
    with step(f"starting {app.name} in the guest"):
        pid = stage.start_app(app)

        def there() -> bool:
            if not stage.guest.alive(pid):
                raise LabError(f"{app.name} has ended; its log is in {stage.logs}")
            return stage.has_window(pid)

        wait_for(there, f"{app.name} shows its window", app.patience)
        return pid


def sample(stage: Stage) -> Sample:
    """Read everything there is to read."""
    return Sample(time.monotonic(), stage.status(), stage.costs())


def save_picture(stage: Stage, path: Path) -> None:
    """Save what the compositor shows."""
    try:
        picture = stage.capture()
    except NoPictureError as error:
        say(f"no picture: {error}")
        return
    from PIL import Image  # noqa: PLC0415 - only where pictures are made

    size = (picture.width, picture.height)
    image = Image.frombytes("RGB", size, picture.data, "raw", "BGRX")
    image.save(path, optimize=True)
    say(f"saved the picture: {path.name}")


class PatternWindow:
    """A client of windows whose every pixel is known.  Its buffers are in pools.

    Attributes:
        pid: its process id in the guest.
        unseen: why a window of it was not looked at; empty: all of them were.
    """

    def __init__(self, stage: Stage, side: GuestSide) -> None:
        self._stage = stage
        self._client = side.client(GUEST_DISPLAY)
        self.pid = self._client.pid
        self.unseen = ""

    def check(
        self, name: str, size: tuple[int, int], where: str, failures: list[str]
    ) -> list[str]:
        """Show two frames in one buffer of a new window, and check each.

        Returns what was seen; what is wrong with it is appended to `failures`.
        """
        self._client.call("toplevel", surface=name, fullscreen=False, title=name)
        self._make_buffers(name, size)
        try:
            for frame in FRAMES:
                self._client.show(name, f"{name}-0", frame)
                shows_pattern(self._stage.capture(), size, frame)
        except NoPictureError as error:
            self.unseen = str(error)
            return [f"{size[0]}x{size[1]} {where}: NOT looked at"]
        except GuestLostError:
            raise
        except LabError as error:
            failures.append(str(error))
            return []
        width, height = size
        return [f"{width}x{height} {where}: {len(FRAMES)} frames, every pixel right"]

    def animate(self, name: str) -> None:
        """Have a window go on by itself, with two buffers in turn."""
        buffers = [f"{name}-0", f"{name}-1"]
        self._client.call("animate", surface=name, buffers=buffers, first=3)

    def _make_buffers(self, name: str, size: tuple[int, int]) -> None:
        width, height = size
        # Whole pages: a GPU takes no buffer that begins anywhere in one.
        length = -(-width * 4 * height // 4096) * 4096
        # In random order: pages that are not neighbours.
        self._client.call("pool", pool=name, size=2 * length, scatter=1)
        for number in (0, 1):
            self._client.call(
                "buffer",
                buffer=f"{name}-{number}",
                pool=name,
                width=width,
                height=height,
                offset=number * length,
            )


class DmabufWindow(PatternWindow):
    """The same; its buffers are dumb buffers of the guest's virtio-gpu."""

    def _make_buffers(self, name: str, size: tuple[int, int]) -> None:
        geometry = dict(zip(("width", "height"), size, strict=True))
        for buffer in (f"{name}-0", f"{name}-1"):
            self._client.call(
                "allocate", memory=buffer, exporter="virtio_gpu", **geometry
            )
            planes = [{"memory": buffer}]
            made = self._client.call("import", buffer=buffer, planes=planes, **geometry)
            if made != "created":
                raise LabError(f"linux-dmabuf says of a dumb buffer: {made}")


if __name__ == "__main__":
    sys.exit(main())
