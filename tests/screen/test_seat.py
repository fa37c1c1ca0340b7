"""Keys and the pointer: from a compositor's events to QEMU's calls."""

import os
from pathlib import Path

import trio
from pywayland.protocol.cursor_shape_v1 import WpCursorShapeManagerV1
from pywayland.protocol.keyboard_shortcuts_inhibit_unstable_v1 import (
    ZwpKeyboardShortcutsInhibitManagerV1,
)
from pywayland.protocol.pointer_constraints_unstable_v1 import (
    ZwpPointerConstraintsV1,
)
from pywayland.protocol.relative_pointer_unstable_v1 import (
    ZwpRelativePointerManagerV1,
)

from tests.peers.compositor import Compositor
from tests.peers.libwayland import Resource
from tests.screen.fake_qemu import call
from tests.screen.viewer_stage import ViewerStage, staged
from wlproxy.protocol.dbus.values import Variant
from wlproxy.screen.console import MOUSE
from wlproxy.screen.doorman import LISTENER

KEYS = "Press", "Release"
LEFT, RIGHT, MIDDLE, SIDE, EXTRA = 0x110, 0x111, 0x112, 0x113, 0x114


def complete() -> Compositor:
    """A compositor that can lock a pointer and inhibit shortcuts."""
    compositor = Compositor()
    compositor.add_global(ZwpPointerConstraintsV1, 1)
    compositor.add_global(ZwpRelativePointerManagerV1, 1)
    compositor.add_global(ZwpKeyboardShortcutsInhibitManagerV1, 1)
    return compositor


async def keyboard_of(stage: ViewerStage) -> Resource:
    return await stage.enter("wl_keyboard", b"\x1e\0\0\0")


async def test_keys_are_told_and_let_go_of_with_the_focus(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        keyboard = await keyboard_of(stage)
        keyboard.send("key", 2, 5, 30, 0)  # pressed elsewhere
        keyboard.send("key", 2, 5, 1, 1)
        keyboard.send("key", 2, 5, 103, 1)  # Up
        keyboard.send("key", 2, 5, 1, 0)
        keyboard.send("key", 2, 5, 0x2FF, 1)  # no key of a PC's
        keyboard.send("key", 2, 5, 29, 1)
        keyboard.send("leave", 3, stage.surface)
        assert await stage.told(*KEYS, count=6) == [
            ("Press", (1,)),
            ("Press", (0xC8,)),
            ("Release", (1,)),
            ("Press", (29,)),
            ("Release", (0xC8,)),
            ("Release", (29,)),
        ]


async def test_what_is_pressed_is_let_go_of_at_the_end(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        keyboard = await keyboard_of(stage)
        keyboard.send("key", 2, 5, 30, 1)
        await stage.told(*KEYS, count=1)
        stage.find("xdg_toplevel").send("close")
        assert (await stage.told(*KEYS, count=2))[-1] == ("Release", (30,))


async def test_a_key_that_is_held_repeats(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        keyboard = await keyboard_of(stage)
        keyboard.send("repeat_info", 100, 1)
        keyboard.send("key", 2, 5, 30, 1)
        told = await stage.told(*KEYS, count=5)
        assert told == [("Press", (30,))] * len(told)
        keyboard.send("key", 2, 5, 48, 1)
        await stage.until(lambda: ("Press", (48,)) in stage.qemu.heard())
        keyboard.send("key", 2, 5, 48, 0)
        keyboard.send("key", 2, 5, 30, 0)
        await stage.until(lambda: ("Release", (30,)) in stage.qemu.heard())
        count = len(stage.qemu.heard())
        await trio.sleep(0.05)
        assert len(stage.qemu.heard()) == count


async def test_no_key_repeats_where_none_is_to(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        keyboard = await keyboard_of(stage)
        keyboard.send("repeat_info", 0, 1)
        keyboard.send("key", 2, 5, 30, 1)
        await stage.told(*KEYS, count=1)
        await trio.sleep(0.03)
        assert len(stage.qemu.heard(*KEYS)) == 1


async def test_a_tablet_is_where_the_pointer_is(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show(width=640, height=480)
        pointer = await stage.enter("wl_pointer", 320, 240)
        assert await stage.told("SetAbsPosition", count=1) == [
            ("SetAbsPosition", (320, 240))
        ]
        pointer.send("motion", 5, 639.9, -3)
        pointer.send("frame")
        told = await stage.told("SetAbsPosition", count=2)
        assert told[-1] == ("SetAbsPosition", (639, 0))


async def test_a_scaled_window_has_the_guests_pixels(tmp_path: Path) -> None:
    async with staged(tmp_path, refuses={"SetUIInfo": "no"}) as stage:
        await stage.show(width=64, height=32)
        stage.configure(128, 64)
        await stage.last("wp_viewport.set_destination", lambda *args: args == (128, 64))
        await stage.enter("wl_pointer", 100, 50)
        told = await stage.told("SetAbsPosition", count=1)
        assert told == [("SetAbsPosition", (50, 25))]


async def test_buttons(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        pointer = await stage.enter("wl_pointer", 1, 1)
        for button in (LEFT, RIGHT, MIDDLE, SIDE, EXTRA, 0x120):
            pointer.send("button", 1, 2, button, 1)
        pointer.send("button", 1, 2, LEFT, 0)
        pointer.send("button", 1, 2, LEFT, 0)
        pointer.send("leave", 2, stage.surface)
        told = await stage.told(*KEYS, count=10)
        assert told == [("Press", (n,)) for n in (0, 2, 1, 5, 6)] + [
            ("Release", (n,)) for n in (0, 2, 1, 5, 6)
        ]


async def test_the_wheel(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        pointer = await stage.enter("wl_pointer", 1, 1)
        pointer.send("axis", 1, 0, 10)  # a wheel says both
        pointer.send("axis_value120", 0, 120)
        pointer.send("frame")
        pointer.send("axis_value120", 0, -60)  # a fine one: half a click
        pointer.send("frame")
        pointer.send("axis_value120", 0, -60)
        pointer.send("frame")
        pointer.send("axis", 1, 1, 6)  # fingers
        pointer.send("frame")
        pointer.send("axis", 1, 1, 6)
        pointer.send("frame")
        pointer.send("axis", 1, 7, 600)  # an axis of nobody's
        pointer.send("frame")
        told = await stage.told(*KEYS, count=6)
        assert told == [(member, (number,)) for number in (4, 3, 8) for member in KEYS]


async def test_a_mouse_is_locked_by_a_click_and_moves(tmp_path: Path) -> None:
    async with staged(tmp_path, complete(), absolute=False) as stage:
        await stage.show(width=64, height=64)
        pointer = await stage.enter("wl_pointer", 10, 10)
        pointer.send("motion", 1, 12.5, 9)
        assert await stage.told("RelMotion", count=1) == [("RelMotion", (2, -1))]
        pointer.send("button", 1, 2, LEFT, 1)
        await _called(stage, "zwp_pointer_constraints_v1.lock_pointer")
        locked = stage.find("zwp_locked_pointer_v1")
        locked.send("locked")
        relative = stage.find("zwp_relative_pointer_v1")
        relative.send("relative_motion", 0, 1, 9, 9, 0.75, -2)
        relative.send("relative_motion", 0, 1, 9, 9, 0.75, 0)
        told = await stage.told("RelMotion", count=3)
        assert told[1:] == [("RelMotion", (1, -2)), ("RelMotion", (1, 0))]
        await stage.last("wl_pointer.set_cursor", lambda *args: args[1] is None)
        await stage.qemu.signal(MOUSE, IsAbsolute=Variant("b", True))
        await _called(stage, "zwp_locked_pointer_v1.destroy")
        pointer.send("motion", 1, 5, 6)  # the guest has a tablet by now
        told = await stage.told("SetAbsPosition", count=1)
        assert told == [("SetAbsPosition", (5, 6))]


async def _called(stage: ViewerStage, request: str) -> None:
    """Wait until the window has made a request."""
    await stage.until(lambda: stage.compositor.called(request))


async def test_ctrl_alt_g_gives_all_keys_and_takes_them_back(tmp_path: Path) -> None:
    async with staged(tmp_path, complete(), absolute=False) as stage:
        await stage.show()
        keyboard = await keyboard_of(stage)
        await stage.enter("wl_pointer", 1, 1)
        for key in (29, 56, 34):
            keyboard.send("key", 2, 5, key, 1)
        keyboard.send("key", 2, 5, 34, 0)
        inhibit = "zwp_keyboard_shortcuts_inhibit_manager_v1.inhibit_shortcuts"
        await _called(stage, inhibit)
        await _called(stage, "zwp_pointer_constraints_v1.lock_pointer")
        stage.find("zwp_locked_pointer_v1").send("locked")
        keyboard.send("key", 2, 5, 34, 1)
        await _called(stage, "zwp_keyboard_shortcuts_inhibitor_v1.destroy")
        await _called(stage, "zwp_locked_pointer_v1.destroy")
        await stage.qemu_answered()
        assert stage.qemu.heard(*KEYS) == [("Press", (29,)), ("Press", (56,))]


async def test_the_focus_takes_all_keys_with_it(tmp_path: Path) -> None:
    async with staged(tmp_path, complete()) as stage:
        await stage.show()
        keyboard = await keyboard_of(stage)
        for key in (97, 100, 34):
            keyboard.send("key", 2, 5, key, 1)
        keyboard.send("leave", 3, stage.surface)
        await _called(stage, "zwp_keyboard_shortcuts_inhibitor_v1.destroy")
        assert not stage.compositor.called("zwp_pointer_constraints_v1.lock_pointer")


async def test_a_lock_that_the_compositor_ends(tmp_path: Path) -> None:
    async with staged(tmp_path, complete(), absolute=False) as stage:
        await stage.show()
        pointer = await stage.enter("wl_pointer", 1, 1)
        pointer.send("button", 1, 2, LEFT, 1)
        await _called(stage, "zwp_pointer_constraints_v1.lock_pointer")
        lock = stage.find("zwp_locked_pointer_v1")
        lock.send("locked")
        lock.send("unlocked")
        await _called(stage, "zwp_locked_pointer_v1.destroy")


async def test_the_guests_cursor_is_the_windows(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        await stage.enter("wl_pointer", 1, 1)
        pixels = os.urandom(16)
        define = call(LISTENER, "CursorDefine", "iiiiay", 2, 2, 1, 0, pixels)
        await stage.qemu.say(define)
        await _called(stage, "wl_pointer.set_cursor")
        (shown,) = stage.compositor.called("wl_pointer.set_cursor")
        _, surface, hot_x, hot_y = shown.args
        assert surface.state.frames[-1] == pixels
        assert (hot_x, hot_y) == (1, 0)
        await stage.qemu.say(call(LISTENER, "MouseSet", "iii", 0, 0, 0))
        await stage.last("wl_pointer.set_cursor", lambda *args: args[1] is None)
        await stage.qemu.say(define, call(LISTENER, "MouseSet", "iii", 0, 0, 1))
        await stage.last("wl_pointer.set_cursor", lambda *args: args[1] is surface)
        assert len(stage.compositor.called("wl_buffer.destroy")) == 1


async def fingers(stage: ViewerStage) -> Resource:
    stage.find("wl_seat").send("capabilities", 7)
    await stage.until(lambda: stage.compositor.apps[-1].all("wl_touch"))
    return stage.find("wl_touch")


async def test_fingers(tmp_path: Path) -> None:
    async with staged(tmp_path, touches=True) as stage:
        await stage.show(width=64, height=64)
        touch = await fingers(stage)
        touch.send("down", 1, 5, stage.surface, 40, 10, 20)
        touch.send("down", 2, 5, stage.surface, 41, 30, 31)
        touch.send("motion", 6, 41, 32, 99)
        touch.send("motion", 6, 7, 1, 1)  # one that is not there
        touch.send("frame")
        touch.send("up", 3, 7, 40)
        touch.send("down", 4, 8, stage.surface, 42, 1, 2)
        touch.send("cancel")
        assert await stage.told("SendEvent", count=7) == [
            ("SendEvent", each)
            for each in (
                (0, 0, 10.0, 20.0),
                (0, 1, 30.0, 31.0),
                (1, 1, 32.0, 63.0),
                (2, 0, 10.0, 20.0),
                (0, 0, 1.0, 2.0),
                (2, 1, 32.0, 63.0),
                (2, 0, 1.0, 2.0),
            )
        ]


async def test_there_are_not_more_fingers_than_qemu_has_slots(tmp_path: Path) -> None:
    async with staged(tmp_path, touches=True) as stage:
        await stage.show(width=64, height=64)
        touch = await fingers(stage)
        for finger in range(12):
            touch.send("down", 1, 5, stage.surface, finger, 10, 20)
        stage.find("wl_seat").send("capabilities", 0)
        told = await stage.told("SendEvent", count=20)
        assert [(body[0], body[1]) for _, body in told] == [
            (kind, slot) for kind in (0, 2) for slot in range(10)
        ]
        await _called(stage, "wl_touch.release")


async def test_a_finger_is_the_pointer_where_nothing_can_be_touched(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path) as stage:
        await stage.show(width=64, height=64)
        touch = await fingers(stage)
        touch.send("down", 1, 5, stage.surface, 1, 10, 20)
        touch.send("down", 1, 5, stage.surface, 2, 30, 30)
        touch.send("motion", 5, 1, 11, 21)
        touch.send("up", 2, 5, 1)
        assert await stage.told(*KEYS, "SetAbsPosition", count=4) == [
            ("SetAbsPosition", (10, 20)),
            ("Press", (0,)),
            ("SetAbsPosition", (11, 21)),
            ("Release", (0,)),
        ]


async def test_no_finger_moves_a_pointer_that_can_only_be_moved(tmp_path: Path) -> None:
    async with staged(tmp_path, absolute=False) as stage:
        await stage.show()
        touch = await fingers(stage)
        touch.send("down", 1, 5, stage.surface, 1, 10, 20)
        touch.send("up", 2, 5, 1)
        keyboard = await keyboard_of(stage)
        keyboard.send("key", 2, 5, 1, 1)
        assert (await stage.told(*KEYS, count=1)) == [("Press", (1,))]


async def test_ctrl_alt_f_fills_the_output_with_all_keys_for_the_guest(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path, complete()) as stage:
        await stage.show()
        keyboard = await keyboard_of(stage)
        for key in (29, 56, 33):
            keyboard.send("key", 2, 5, key, 1)
        await _called(stage, "xdg_toplevel.set_fullscreen")
        inhibit = "zwp_keyboard_shortcuts_inhibit_manager_v1.inhibit_shortcuts"
        await _called(stage, inhibit)
        stage.find("xdg_toplevel").send("configure", 640, 480, b"\2\0\0\0")
        stage.surface.state.xdg_surface.send("configure", 77)
        keyboard.send("leave", 3, stage.surface)
        await _called(stage, "zwp_keyboard_shortcuts_inhibitor_v1.destroy")
        keyboard.send("enter", 4, stage.surface, b"")
        await stage.until(lambda: len(stage.compositor.called(inhibit)) == 2)
        for key in (29, 56, 33):
            keyboard.send("key", 2, 5, key, 1)
        await _called(stage, "xdg_toplevel.unset_fullscreen")
        destroyed = "zwp_keyboard_shortcuts_inhibitor_v1.destroy"
        await stage.until(lambda: len(stage.compositor.called(destroyed)) == 2)
        await stage.qemu_answered()
        assert ("Press", (33,)) not in stage.qemu.heard()


async def test_the_desktops_arrow_where_the_guest_has_no_cursor(tmp_path: Path) -> None:
    compositor = Compositor()
    compositor.add_global(WpCursorShapeManagerV1, 1)
    async with staged(tmp_path, compositor) as stage:
        await stage.show()
        await stage.enter("wl_pointer", 1, 1)
        await _called(stage, "wp_cursor_shape_device_v1.set_shape")
        (shown,) = stage.compositor.called("wp_cursor_shape_device_v1.set_shape")
        assert shown.args == (1, 1)
        stage.find("wl_seat").send("capabilities", 0)
        await _called(stage, "wp_cursor_shape_device_v1.destroy")


async def test_a_seat_loses_what_it_has_and_has_it_again(tmp_path: Path) -> None:
    async with staged(tmp_path, complete(), absolute=False) as stage:
        await stage.show()
        keyboard = await keyboard_of(stage)
        pointer = await stage.enter("wl_pointer", 1, 1)
        keyboard.send("key", 2, 5, 30, 1)
        pointer.send("button", 1, 2, LEFT, 1)
        await stage.told(*KEYS, count=2)
        seat = stage.find("wl_seat")
        seat.send("capabilities", 0)
        told = await stage.told(*KEYS, count=4)
        assert told[2:] == [("Release", (30,)), ("Release", (0,))]
        await _called(stage, "wl_keyboard.release")
        await _called(stage, "wl_pointer.release")
        seat.send("capabilities", 3)
        keyboard = await keyboard_of(stage)
        keyboard.send("key", 2, 5, 31, 1)
        assert (await stage.told(*KEYS, count=5))[-1] == ("Press", (31,))
