"""A machine beside viewers that are killed, stopped, starved and started again, at random moments.

Thirty of them; `pytest --moments 200` for as many as one likes, `--moments-seed` for the same ones again.
"""

import math
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import trio

from lab.delegation import LOST_MACHINES
from tests.clients.capture import Picture
from tests.peers.compositor import _commit
from tests.peers.libwayland import Resource
from tests.peers.tiny_vm import Waits
from tests.screen.conftest import PATIENCE, Machine, MakeMachine
from tests.screen.test_screen_command import Screen, resident
from tests.screen.test_viewer import Frames, rows_wrong
from wlproxy.host.errors import QmpError
from wlproxy.host.qemu.qmp import QmpClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NEVER_LONGER = 1.0
"""Seconds for which the machine may stand still because of a viewer."""
MAY_GROW = 48
"""MiB that QEMU may be larger in the end."""
MIB = 32
MAY_LOSE = 2
"""Machines that a test may lose where QEMU sends bytes: by a fault of its own (docs/screen.md, the limits)."""
QEMUS_FAULTS = {signal.SIGABRT, signal.SIGFPE, signal.SIGSEGV}
OF_ONE = 20
"""Moments in one machine's life: QEMU 10 never forgets a listener that has gone, and draws for each of
them at every update, so that it would do nothing else in the end, whatever a viewer does."""
TICKS = 0x46C
"""Where the firmware counts the timer's interrupts, 18.2 a second."""

GUEST = bytes.fromhex(
    "31c0 8ed8 fb"  # xor ax, ax; mov ds, ax; sti
    "b80300 cd10"  # mov ax, 3; int 10h: text
    # again:
    "f4"  # hlt, until the next interrupt
    "b800b8 8ec0 26ff060000"  # inc word [b800:0]: some character
    "b800a0 8ec0 26ff060000"  # inc word [a000:0]: some pixels
    "a06c04 a81f 75e4"  # the count of ticks; 31 times in 32: again
    # Text and 320 x 200 pixels in turns, not cleared, as that takes long without interrupts.
    "a820 b88300 7403 b89300 cd10"
    "ebd6"  # again
)


class Watch:
    """Looks at a machine's clock and asks its monitor, all the while.

    Time counts in which QEMU could have run: not what its threads wait for a processor, nor what
    we have waited for one ourselves, or all of this machine for its host.

    Attributes:
        longest: seconds for which the clock stood still, at most.
        wall: the same, and QEMU had no processor.
        slowest: seconds that an answer of the monitor took, at most.
    """

    def __init__(self, ram: Path, monitor: Path, pid: int) -> None:
        self._pid, self._passed = pid, 0.0
        self.longest = self.slowest = self.wall = 0.0
        self._monitor = monitor
        with ram.open("rb") as file:
            self._ram = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=each) for each in (self._look, self._ask)
        ]
        self._may_stop = threading.Lock()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._ram.close()

    @property
    def ticks(self) -> int:
        (ticks,) = struct.unpack_from("<I", self._ram, TICKS)
        return int(ticks)

    def paused(self) -> threading.Lock:
        """Hold this while the machine is stopped on purpose."""
        return self._may_stop

    def _look(self) -> None:
        last, stood = self.ticks, 0.0
        since = looked = time.monotonic()
        waits = Waits(self._pid)
        while not self._over.wait(0.005):
            now, ticks = time.monotonic(), self.ticks
            step = min(now - looked, 0.02) - waits.grown()
            looked = now
            self._passed += max(step, 0)
            still = ticks == last and not self._may_stop.locked()
            stood = stood + max(step, 0) if still else 0
            since = since if still else now
            last = ticks
            self.longest = max(self.longest, stood)
            self.wall = max(self.wall, now - since)

    def _ask(self) -> None:
        try:
            with QmpClient(self._monitor) as monitor:
                while not self._over.wait(0.02):
                    start = self._passed
                    monitor.execute("query-status")
                    self.slowest = max(self.slowest, self._passed - start)
        except QmpError:  # QEMU has ended, or does not answer for ten seconds
            self.slowest = math.inf


class Forgetful(Frames):
    """It keeps no frames: there are too many."""

    def __init__(self) -> None:
        super().__init__()
        self.handlers["wl_surface", "commit"] = self._commit

    def _commit(self, surface: Resource) -> None:
        _commit(surface)
        surface.state.frames.clear()


@contextmanager
def closing_screen(screen: Screen) -> Iterator[Screen]:
    """Have it ended in the end."""
    try:
        yield screen
    finally:
        screen.end_anyhow()


class Harm:
    """What viewers suffer, decided by a seed."""

    def __init__(self, start: Callable[[], Screen], seed: int) -> None:
        self.random = random.Random(seed)
        self.done: list[str] = []
        self._start = start
        self._ready = 1.0

    def measure(self) -> None:
        """See how long it takes to the first picture, around which are the moments."""
        start = time.monotonic()
        with closing_screen(self._start()) as screen:
            screen.wait_ready()
            self._ready = time.monotonic() - start
            screen.end(signal.SIGTERM)

    def moment(self) -> None:
        """Start a viewer, and harm it somewhen."""
        kind = self.random.choice(["kill", "stop", "starve", "restart"])
        late = self.random.random() < 0.3
        self.done.append(kind)
        screen = self._start()
        bounds = (1.0, 3.0) if late else (0.4, 1.15)
        time.sleep(self._ready * self.random.uniform(*bounds))
        with closing_screen(screen):
            getattr(self, "_" + kind)(screen)

    def _kill(self, screen: Screen) -> None:
        screen.process.kill()

    def _stop(self, screen: Screen) -> None:
        screen.process.send_signal(signal.SIGSTOP)
        time.sleep(self.random.uniform(0.5, 2.5))
        if self.random.random() < 0.5:
            screen.process.send_signal(signal.SIGCONT)
            time.sleep(self.random.uniform(0, 0.5))

    def _starve(self, screen: Screen) -> None:
        """Leave it what somebody else leaves of one processor."""
        (cpu, *_) = os.sched_getaffinity(0)
        busy = [sys.executable, "-c", "while True: pass"]
        with subprocess.Popen(busy) as spinner:
            os.sched_setaffinity(spinner.pid, {cpu})
            with suppress(ProcessLookupError):
                os.sched_setaffinity(screen.process.pid, {cpu})
                idle = os.sched_param(0)
                os.sched_setscheduler(screen.process.pid, os.SCHED_IDLE, idle)
            time.sleep(self.random.uniform(0.5, 2.5))
            spinner.kill()

    def _restart(self, screen: Screen) -> None:
        other = self._start()  # takes its place, or is the next
        if self.random.random() < 0.5:
            screen.process.send_signal(signal.SIGTERM)
        time.sleep(self._ready * self.random.uniform(0.4, 1.3))
        other.end(signal.SIGTERM)


@pytest.fixture
def floppy(tmp_path: Path) -> str:
    image = tmp_path / "floppy.img"
    image.write_bytes(GUEST.ljust(510, b"\0") + b"\x55\xaa" + bytes(1474048))
    return f"if=floppy,format=raw,file={image}"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    given: int | None = request.config.getoption("--moments-seed")
    return random.randrange(1 << 32) if given is None else given


async def shows(vm: Machine, compositor: Frames, watch: Watch) -> None:
    """Stop the machine; check that a viewer shows all of it, and let it go on."""

    def expected() -> Picture:
        return vm.still_picture()

    with watch.paused():
        picture = await trio.to_thread.run_sync(expected)
        with trio.fail_after(PATIENCE):
            while rows_wrong(picture, compositor.last()):  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.02)
        await trio.to_thread.run_sync(vm.execute, "cont")


@dataclass
class Longest:
    """What was seen in all of a test.

    Attributes:
        clock: seconds for which the machine's clock stood still, at most.
        wall: the same, and QEMU had no processor.
        monitor: seconds that an answer of QEMU's monitor took, at most.
        grown: MiB by which a QEMU was larger in the end, at most.
    """

    clock: float = 0.0
    wall: float = 0.0
    monitor: float = 0.0
    grown: int = -1000

    def add(self, watch: Watch, grown: int) -> None:
        self.clock = max(self.clock, watch.longest)
        self.wall = max(self.wall, watch.wall)
        self.monitor = max(self.monitor, watch.slowest)
        self.grown = max(self.grown, grown)


class Moments:
    """Some moments in the life of one machine."""

    def __init__(
        self, machine: MakeMachine, directory: Path, seed: int, *options: str
    ) -> None:
        self._ram, self._second = directory / "ram", directory / "second"
        backend = f"memory-backend-file,id=ram,size={MIB}M,mem-path={self._ram}"
        self.vm = machine(
            *options,
            *("-object", f"{backend},share=on", "-machine", "memory-backend=ram"),
            *("-qmp", f"unix:{self._second},server=on,wait=off"),
        )
        self._environ = {"XDG_RUNTIME_DIR": str(directory)}
        self._words = "--qmp", str(self.vm.monitor), "--display", str(directory / "wl")
        self._harm = Harm(self._start, seed)
        self._seed = seed

    def _start(self) -> Screen:
        return Screen(self._environ, *self._words)

    def lost_by_qemu(self, failure: Exception) -> bool:
        """Whether QEMU's surface had become none, so that it crashes, or sends a format of 0."""
        if "pixels of the format 0x0" in str(failure):
            return True
        # It may have just begun to end.
        with suppress(subprocess.TimeoutExpired):
            return -self.vm.process.wait(1) in QEMUS_FAULTS
        return False

    async def pass_by(self, moments: int, compositor: Frames, longest: Longest) -> None:
        vm, run = self.vm, trio.to_thread.run_sync
        with Watch(self._ram, self._second, vm.process.pid) as watch:
            with trio.fail_after(PATIENCE):
                while not watch.ticks:  # noqa: ASYNC110 - nobody tells
                    await trio.sleep(0.02)
            watch.longest = watch.slowest = watch.wall = 0
            for _ in range(2):
                await run(self._harm.measure)
            before = resident(vm)
            for number in range(moments):
                await run(self._harm.moment)
                slowest = max(watch.longest, watch.slowest)
                said = f"seed {self._seed}, moments {self._harm.done}"
                assert slowest <= NEVER_LONGER, said
                if number % 5 == 4 or number == moments - 1:
                    with closing_screen(await run(self._start)) as screen:
                        await run(screen.wait_ready)
                        await shows(vm, compositor, watch)
                        status, viewer_said = await run(screen.end, signal.SIGTERM)
                    assert status == 0, f"{said}: {viewer_said}"
            longest.add(watch, resident(vm) - before)
        await run(vm.stop)


@pytest.mark.parametrize(
    ("device", "share", "may_lose"),
    [(("-vga", "std"), 1.0, 0), (("-device", "ramfb"), 0.25, MAY_LOSE)],
)
async def test_at_random_moments(
    machine: MakeMachine,
    tmp_path: Path,
    floppy: str,
    seed: int,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    device: tuple[str, ...],
    share: float,
    may_lose: int,
) -> None:
    """`share` is how many of all moments there are with this device."""
    left = moments = int(request.config.getoption("--moments") * share)
    compositor, longest = Forgetful(), Longest()
    async with trio.open_nursery() as nursery:
        await nursery.start(compositor.run, tmp_path / "wl")
        while left > 0:
            some = Moments(machine, tmp_path, seed + left, *device, "-drive", floppy)
            try:
                await some.pass_by(min(left, OF_ONE), compositor, longest)
            except Exception as exc:
                if not may_lose or not some.lost_by_qemu(exc):
                    raise
                may_lose -= 1
                record_property(LOST_MACHINES, 1)
                seed += OF_ONE  # other moments
                continue
            left -= OF_ONE
        print(
            f"{moments} moments, seed {seed}: clock {longest.clock:.3f} s "
            f"({longest.wall:.3f} s without a processor, too), monitor "
            f"{longest.monitor:.3f} s at most, QEMU {longest.grown:+} MiB"
        )
        assert longest.grown < MAY_GROW
        nursery.cancel_scope.cancel()
