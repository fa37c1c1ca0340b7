"""Who sits before the window: a keyboard, a pointer, fingers, and what the pointer looks like.

Ctrl+Alt+G, or a click where the guest's pointer can only be moved, *grabs*: the pointer is locked in
the window, and (by the keys alone) the desktop's own shortcuts go to the guest.  Ctrl+Alt+F does so with
the window as large as the output.
"""

from collections.abc import Callable
from typing import Final, Generic, Protocol

from wlproxy.protocol.wayland.message import Message
from wlproxy.screen.commands import Layout
from wlproxy.screen.console import InputCall
from wlproxy.screen.keyboard import Keyboard
from wlproxy.screen.pointer import Pointer
from wlproxy.screen.touch import Touch
from wlproxy.screen.wayland_connection import FdT, WaylandConnection
from wlproxy.screen.window import Window

POINTER, KEYBOARD, TOUCH = 1, 2, 4
"""`wl_seat.capability`."""
RELEASE_SINCE: Final = 3
"""The version of `wl_seat` whose keyboards and pointers are given back."""
MOST_SEAT: Final = 8
"""The version of `wl_seat` that has `axis_value120`."""
ONESHOT: Final = 1
"""`zwp_pointer_constraints_v1.lifetime`: an unlocked pointer is not locked again."""
DEFAULT_SHAPE: Final = 1
"""`wp_cursor_shape_device_v1.shape`: the desktop's own arrow."""


class Watcher(Protocol):
    """Is told of the keyboard's focus, and of the serials by which one may say that something was meant."""

    def entered(self, serial: int) -> None:
        """The window has the keyboard."""

    def used(self, serial: int, *, pressed: bool) -> None:
        """Something was pressed in it, or let go of."""

    def left(self) -> None:
        """It has the keyboard no more."""


class Seat(Generic[FdT]):
    """The first seat, if there is one.

    Attributes:
        object_id: of the seat; 0 if there is none.
        keyboard: what is pressed; None if there is no keyboard.
        watcher: is told of the keyboard's focus.
        locked: whether the pointer stays where it is, and only its motion is told.
    """

    def __init__(
        self,
        wayland: WaylandConnection[FdT],
        window: Window[FdT],
        is_absolute: Callable[[], bool],
        *,
        touches: bool = False,
    ) -> None:
        """Bind it.

        Args:
            wayland: the window's.
            window: a ready one.
            is_absolute: tells whether the guest's pointer can be put somewhere.
            touches: whether the guest can be touched; else a finger is its pointer.
        """
        self.keyboard: Keyboard | None = None
        self.locked = False
        self.watcher: Watcher | None = None
        self._wayland = wayland
        self._touches = touches
        self._touch: Touch | None = None
        self._touch_id = 0
        self._window = window
        self._is_absolute = is_absolute
        self._calls: list[InputCall] = []
        self._pointer: Pointer | None = None
        self._keyboard_id = self._pointer_id = 0
        self._lock_id = self._inhibitor = 0
        self._serial: int | None = None
        self._cursor = self._cursor_buffer = 0
        self._cursor_file: FdT | None = None
        self._hot = (0, 0)
        self._visible = True
        self._compositor = window.optional("wl_compositor", 4)
        self._constraints = window.optional("zwp_pointer_constraints_v1", 1)
        self._relatives = window.optional("zwp_relative_pointer_manager_v1", 1)
        self._inhibitors = window.optional(
            "zwp_keyboard_shortcuts_inhibit_manager_v1", 1
        )
        self._shapes = window.optional("wp_cursor_shape_manager_v1", 1)
        self._shape = 0
        self.object_id = 0
        if "wl_seat" in wayland.globals:
            self.object_id = wayland.bind("wl_seat", MOST_SEAT, self._on_seat)

    @property
    def absolute(self) -> bool:
        """Whether the guest's pointer can be put somewhere."""
        return self._is_absolute()

    def take_calls(self) -> list[InputCall]:
        """Take what QEMU is to be told."""
        if self.absolute and self._lock_id:
            self._unlock()
        taken, self._calls = self._calls, []
        return taken

    def release_all(self) -> None:
        """Let go of every key and button."""
        if self.keyboard is not None:
            self.keyboard.release_all()
        if self._pointer is not None:
            self._pointer.release_all()
        if self._touch is not None:
            self._touch.release_all()

    def set_cursor(self, file: FdT, layout: Layout, hot: tuple[int, int]) -> None:
        """Have the pointer look like that over the window.

        Args:
            file: has the picture; it is closed when it is needed no more.
            layout: how that lies in it.
            hot: where its tip is.
        """
        wayland = self._wayland
        if not self._cursor:
            self._cursor = wayland.create(self._compositor, "create_surface")
        old, old_file = self._cursor_buffer, self._cursor_file
        self._cursor_buffer = self._window.pool_buffer(file, layout)
        self._cursor_file, self._hot = file, hot
        wayland.send(self._cursor, "attach", self._cursor_buffer, 0, 0)
        size = layout.width, layout.height
        wayland.send(self._cursor, "damage_buffer", 0, 0, *size)
        wayland.send(self._cursor, "commit")
        if old_file is not None:
            wayland.destroy(old)
            old_file.close()
        self._show_cursor()

    def set_cursor_visible(self, *, visible: bool) -> None:
        """Show or hide the pointer over the window, as the guest does."""
        if visible != self._visible:
            self._visible = visible
            self._show_cursor()

    def close(self) -> None:
        """Close the cursor's file."""
        if self._cursor_file is not None:
            self._cursor_file.close()
            self._cursor_file = None

    # What a pointer has to know.

    def to_guest(self, x: float, y: float) -> tuple[int, int]:
        """Return the guest's pixel at a place of the surface."""
        return self._window.sizing.to_picture(x, y)

    def entered(self, serial: int) -> None:
        """Show the guest's cursor."""
        self._serial = serial
        self._show_cursor()

    def pressed(self) -> None:
        """Lock the pointer, if that has to be."""
        if not self.absolute:
            self._lock()

    def _tell(self, call: InputCall) -> None:
        # Places replace each other, so that a quick hand does not fill QEMU's queue.
        if self._calls and call.replaces(self._calls[-1]):
            self._calls.pop()
        self._calls.append(call)

    def _on_seat(self, name: str, event: Message[FdT]) -> None:
        if name != "capabilities":
            return
        has = event.integer(0)
        wayland = self._wayland
        if has & KEYBOARD and self.keyboard is None:
            keyboard = self.keyboard = Keyboard(
                self._tell, self._toggle_grab, self._toggle_fullscreen
            )
            self._keyboard_id = wayland.create(
                self.object_id,
                "get_keyboard",
                handler=lambda name, event: self._on_keyboard(keyboard, name, event),
            )
        elif not has & KEYBOARD and self.keyboard is not None:
            self.keyboard.release_all()
            self.keyboard = None
            self._give_back(self._keyboard_id)
            self._left()
        if has & POINTER and self._pointer is None:
            version = wayland.version(self.object_id)
            pointer = self._pointer = Pointer(self._tell, self, version)
            self._pointer_id = wayland.create(
                self.object_id,
                "get_pointer",
                handler=lambda name, event: self._on_pointer(pointer, name, event),
            )
            if self._shapes:
                self._shape = wayland.create(
                    self._shapes, "get_pointer", self._pointer_id
                )
            if self._relatives:
                wayland.create(
                    self._relatives,
                    "get_relative_pointer",
                    self._pointer_id,
                    handler=pointer.on_relative,
                )
        elif not has & POINTER and self._pointer is not None:
            self._unlock()
            self._pointer.release_all()
            self._pointer = self._serial = None
            if self._shape:
                wayland.destroy(self._shape)
                self._shape = 0
            self._give_back(self._pointer_id)
        self._touch_is_there(there=bool(has & TOUCH))

    def _touch_is_there(self, *, there: bool) -> None:
        if there and self._touch is None:
            touch = self._touch = Touch(
                self._tell, self.to_guest, self._is_absolute, touches=self._touches
            )
            self._touch_id = self._wayland.create(
                self.object_id,
                "get_touch",
                handler=lambda name, event: self._on_touch(touch, name, event),
            )
        elif not there and self._touch is not None:
            self._touch.release_all()
            self._touch = None
            self._give_back(self._touch_id)

    def _on_keyboard(self, keyboard: Keyboard, name: str, event: Message[FdT]) -> None:
        keyboard.on_event(name, event)
        watcher = self.watcher
        match name:
            case "enter":
                if watcher is not None:
                    watcher.entered(event.integer(0))
                if self._window.fullscreen:
                    self._inhibit()
            case "key" if watcher is not None:
                watcher.used(event.integer(0), pressed=bool(event.integer(3)))
            case "leave":
                self._left()
            case _:
                return

    def _left(self) -> None:
        self._let_go()
        if self.watcher is not None:
            self.watcher.left()

    def _on_pointer(self, pointer: Pointer, name: str, event: Message[FdT]) -> None:
        if name == "button" and self.watcher is not None:
            self.watcher.used(event.integer(0), pressed=bool(event.integer(3)))
        pointer.on_event(name, event)

    def _on_touch(self, touch: Touch, name: str, event: Message[FdT]) -> None:
        if name == "down" and self.watcher is not None:
            self.watcher.used(event.integer(0), pressed=True)
        touch.on_event(name, event)

    def _give_back(self, object_id: int) -> None:
        if self._wayland.version(object_id) >= RELEASE_SINCE:
            self._wayland.destroy(object_id, "release")

    def _toggle_grab(self) -> None:
        if self._inhibitor or self._lock_id:
            self._let_go()
            return
        self._inhibit()
        if not self.absolute:
            self._lock()

    def _toggle_fullscreen(self) -> None:
        if self._window.fullscreen:
            self._window.set_fullscreen(on=False)
            self._let_go()
            return
        self._window.set_fullscreen(on=True)
        self._inhibit()

    def _inhibit(self) -> None:
        """Have the desktop's own shortcuts go to the guest."""
        if self._inhibitors and not self._inhibitor:
            self._inhibitor = self._wayland.create(
                self._inhibitors,
                "inhibit_shortcuts",
                self._window.surface,
                self.object_id,
            )

    def _let_go(self) -> None:
        if self._inhibitor:
            self._wayland.destroy(self._inhibitor)
            self._inhibitor = 0
        self._unlock()

    def _lock(self) -> None:
        if self._lock_id or not (self._constraints and self._relatives):
            return
        self._lock_id = self._wayland.create(
            self._constraints,
            "lock_pointer",
            *(self._window.surface, self._pointer_id, 0, ONESHOT),
            handler=self._on_lock,
        )

    def _on_lock(self, name: str, _event: Message[FdT]) -> None:
        if name == "locked":
            self.locked = True
            self._show_cursor()
        else:
            self._unlock()

    def _unlock(self) -> None:
        if self._lock_id:
            self._wayland.destroy(self._lock_id)
            self._lock_id, self.locked = 0, False
            self._show_cursor()

    def _show_cursor(self) -> None:
        if self._serial is None or self._pointer is None:
            return
        if self.locked or (self._cursor and not self._visible):
            shown = 0, 0, 0
        elif self._cursor:
            shown = self._cursor, *self._hot
        else:  # the guest draws its own, or has none: the desktop's is as good
            if self._shape:
                set_shape = self._serial, DEFAULT_SHAPE
                self._wayland.send(self._shape, "set_shape", *set_shape)
            return
        self._wayland.send(self._pointer_id, "set_cursor", self._serial, *shown)
