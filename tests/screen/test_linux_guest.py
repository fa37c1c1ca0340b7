"""A guest with drivers: Linux, of the lab's image, that says what it sees of monitors and input."""

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from lab import cpio, images, initramfs, recipe
from lab.errors import LabError
from tests.peers.compositor import Compositor, configure
from tests.peers.libwayland import Resource, ServerClient
from tests.screen.conftest import Machine, MakeMachine
from wlproxy.host.desktop.address import connect_compositor
from wlproxy.host.report.vm_log import VmLog
from wlproxy.screen.connecting import connect_by_monitor
from wlproxy.screen.devices import has_touchscreen
from wlproxy.screen.door import Door
from wlproxy.screen.heads import Heads, Options
from wlproxy.screen.line import Line

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE = 180
"""Seconds for Linux to do something, without KVM on a busy machine."""
MODULES = "virtio_pci", "virtio_gpu", "evdev", "virtio_input"
INIT = b"""\
#!/bin/busybox sh
b=/bin/busybox
for each in proc:proc sysfs:sys devtmpfs:dev; do $b mount -t ${each%:*} x /${each#*:}; done
exec >/dev/ttyS0 2>&1
for each in /modules/*; do $b insmod $each; done
while [ ! -e /dev/input/event1 ]; do $b sleep 0.1; done
for each in /sys/class/input/event*; do
  read name <$each/device/name
  word=${name##* }
  $b hexdump -v -e "\\"input $word \\" 24/1 \\"%02x\\" \\"\\n\\"" /dev/input/${each##*/} &
done
echo up
while :; do
  for each in /sys/class/drm/card0-*; do
    read status <$each/status; read enabled <$each/enabled; mode=none; read mode <$each/modes
    echo "${each##*-} $status $enabled $mode"
  done
  $b sleep 0.5
done
"""
EVENT = struct.Struct("<16sHHi")
"""`struct input_event` (linux/input.h): type, code, value."""
KEY, REL, ABS = 1, 2, 3
X, Y, WHEEL, SLOT, MT_X, MT_Y, TRACKING = 0, 1, 8, 0x2F, 0x35, 0x36, 0x39
MOST = 32767
"""What an axis of QEMU's devices goes to."""


def on_axis(pixel: int, of: int) -> int:
    return pixel * MOST // of


def linux(machine: MakeMachine, tmp_path: Path, *devices: str) -> Machine:
    """Boot it on two monitors, with a keyboard and this."""
    try:
        image = images.find(recipe.GUEST_IMAGE)
    except LabError as exc:
        pytest.skip(f"needs the lab's guest image: {exc}")
    entries = {
        "bin/busybox": cpio.file(image.busybox.read_bytes(), executable=True),
        "init": cpio.file(INIT, executable=True),
    }
    for number, path in enumerate(initramfs.module_files(image.modules, MODULES)):
        data = initramfs.unpacked(path)
        entries[f"modules/{number:02}"] = cpio.file(data)
    for name in ("dev", "proc", "sys"):
        entries[f"{name}/.keep"] = cpio.file(b"")
    (tmp_path / "initrd").write_bytes(cpio.archive(entries))
    options = [word for each in devices for word in ("-device", each)]
    return machine(
        *("-m", "256", "-cpu", "max", "-kernel", str(image.kernel)),
        *("-initrd", f"{tmp_path}/initrd", "-append", "console=ttyS0 quiet"),
        *("-serial", f"file:{tmp_path}/serial", "-device", "virtio-vga,max_outputs=2"),
        *options,
    )


class Guest(NamedTuple):
    """What the guest has said, and the windows of its screens."""

    serial: Path
    compositor: Compositor
    heads: Heads

    def lines(self) -> list[str]:
        return self.serial.read_text(errors="replace").splitlines()

    def monitor(self, head: int) -> str:
        """What the guest said last of a monitor."""
        start = f"{head + 1} "
        return ([each for each in self.lines() if each.startswith(start)] or [""])[-1]

    def events(self, device: str) -> list[tuple[int, int, int]]:
        start = f"input {device} "
        length = len(start) + 2 * EVENT.size
        return [
            EVENT.unpack(bytes.fromhex(line[len(start) :]))[1:]
            for line in self.lines()
            if line.startswith(start) and len(line) == length
        ]

    def window(self, title: str) -> ServerClient:
        for call in self.compositor.called("xdg_toplevel.set_title"):
            if call.args == (title,):
                return call.resource.client
        raise AssertionError(title)

    def surface(self, title: str) -> Resource:
        return self.window(title).all("wl_surface")[0]

    async def until(self, what: str) -> None:
        await _until(lambda: self.monitor(1) == what)

    async def saw(self, device: str, *events: tuple[int, int, int]) -> None:
        await _until(lambda: set(events) <= set(self.events(device)))


async def _until(condition: Callable[[], object]) -> None:

    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.05)


@asynccontextmanager
async def shown(vm: Machine, directory: Path) -> AsyncIterator[Guest]:
    compositor, path = Compositor(), directory / "wl"
    touches = await trio.to_thread.run_sync(has_touchscreen, vm.monitor)
    qemu = await trio.to_thread.run_sync(connect_by_monitor, vm.monitor)
    async with trio.open_nursery() as nursery:
        await nursery.start(compositor.run, path)
        with Line(qemu) as line:
            connect, log = partial(connect_compositor, path), VmLog("vm")
            heads = Heads(
                "vm", line, connect, Door.start, log, Options(touches=touches)
            )
            async with trio.open_nursery() as inner:
                inner.start_soon(heads.run)
                yield Guest(directory / "serial", compositor, heads)
                inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def test_two_monitors_a_keyboard_and_a_tablet(
    machine: MakeMachine, tmp_path: Path
) -> None:
    vm = linux(machine, tmp_path, "virtio-tablet-pci")
    async with shown(vm, tmp_path) as guest:
        first, second = "[vm] screen", "[vm] screen 2"
        await guest.until("2 connected enabled 1280x800")  # it is there by our window
        await _until(lambda: guest.heads.viewers[0].counts.width == 1280)
        configure(guest.surface(second), (900, 700))
        await guest.until("2 connected enabled 900x700")
        await _until(lambda: guest.heads.viewers[1].counts.width == 900)
        counts = [each.counts for each in guest.heads.viewers.values()]
        assert [(each.mode, each.copied) for each in counts] == [("A", 0)] * 2

        keyboard = guest.window(first).find("wl_keyboard")
        keyboard.send("enter", 1, guest.surface(first), b"")
        keyboard.send("key", 2, 5, 103, 1)
        keyboard.send("key", 2, 5, 103, 0)
        await guest.saw("keyboard", (KEY, 103, 1), (KEY, 103, 0))

        pointer = guest.window(first).find("wl_pointer")
        pointer.send("enter", 3, guest.surface(first), 641, 77)
        pointer.send("button", 4, 5, 0x111, 1)
        pointer.send("button", 4, 5, 0x111, 0)
        pointer.send("axis_value120", 0, 120)
        pointer.send("frame")
        at = (ABS, X, on_axis(641, 1280)), (ABS, Y, on_axis(77, 800))
        await guest.saw(
            "Tablet", *at, (KEY, 0x111, 1), (KEY, 0x111, 0), (REL, WHEEL, -1)
        )

        guest.window(second).find("xdg_toplevel").send("close")
        await _until(lambda: guest.monitor(1).startswith("2 disconnected"))
        assert list(guest.heads.viewers) == [0]


async def test_fingers(machine: MakeMachine, tmp_path: Path) -> None:
    # Alone: QEMU gives a tablet's buttons to the touchscreen, where there is one.
    vm = linux(machine, tmp_path, "virtio-multitouch-pci")
    async with shown(vm, tmp_path) as guest:
        first = "[vm] screen"
        await guest.until("2 connected enabled 1280x800")
        await _until(lambda: guest.heads.viewers[0].counts.width == 1280)
        guest.window(first).find("wl_seat").send("capabilities", 7)
        await _until(lambda: guest.window(first).all("wl_touch"))
        touch = guest.window(first).find("wl_touch")
        touch.send("down", 5, 5, guest.surface(first), 40, 320, 200)
        touch.send("down", 6, 5, guest.surface(first), 41, 12, 13)
        touch.send("motion", 6, 41, 640, 400)
        touch.send("up", 7, 7, 40)
        touch.send("up", 8, 7, 41)
        await guest.saw(
            "MultiTouch",
            (ABS, MT_X, on_axis(320, 1280)),
            (ABS, MT_Y, on_axis(200, 800)),
            (ABS, SLOT, 1),
            (ABS, MT_X, on_axis(640, 1280)),
            (ABS, MT_Y, on_axis(400, 800)),
            (ABS, TRACKING, -1),
        )
