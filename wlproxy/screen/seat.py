"""Who sits before the window: a keyboard, a pointer, and what the pointer looks like.

Ctrl+Alt+G, or a click where the guest's pointer can only be moved, *grabs*: the pointer is locked in
the window, and (by the keys alone) the desktop's own shortcuts go to the guest.
"""

from collections.abc import Callable
from typing import Final, Generic

from wlproxy.protocol.wayland.message import Message
from wlproxy.screen.commands import Layout
from wlproxy.screen.console import InputCall
from wlproxy.screen.keyboard import Keyboard
from wlproxy.screen.pointer import Pointer
from wlproxy.screen.wayland_connection import FdT, WaylandConnection
from wlproxy.screen.window import Window

POINTER, KEYBOARD = 1, 2
"""`wl_seat.capability`."""
RELEASE_SINCE: Final = 3
"""The version of `wl_seat` whose keyboards and pointers are given back."""
MOST_SEAT: Final = 8
"""The version of `wl_seat` that has `axis_value120`."""
ONESHOT: Final = 1
"""`zwp_pointer_constraints_v1.lifetime`: an unlocked pointer is not locked again."""


class Seat(Generic[FdT]):
    """The first seat, if there is one.

    Attributes:
        keyboard: what is pressed; None if there is no keyboard.
        locked: whether the pointer stays where it is, and only its motion is told.
    """

    def __init__(
        self,
        wayland: WaylandConnection[FdT],
        window: Window[FdT],
        is_absolute: Callable[[], bool],
    ) -> None:
        """Bind it.

        Args:
            wayland: the window's.
            window: a ready one.
            is_absolute: tells whether the guest's pointer can be put somewhere.
        """
        self.keyboard: Keyboard | None = None
        self.locked = False
        self._wayland = wayland
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
        self._seat = 0
        if "wl_seat" in wayland.globals:
            self._seat = wayland.bind("wl_seat", MOST_SEAT, self._on_seat)

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
            keyboard = self.keyboard = Keyboard(self._tell, self._toggle_grab)
            self._keyboard_id = wayland.create(
                self._seat,
                "get_keyboard",
                handler=lambda name, event: self._on_keyboard(keyboard, name, event),
            )
        elif not has & KEYBOARD and self.keyboard is not None:
            self.keyboard.release_all()
            self.keyboard = None
            self._give_back(self._keyboard_id)
        if has & POINTER and self._pointer is None:
            version = wayland.version(self._seat)
            pointer = self._pointer = Pointer(self._tell, self, version)
            self._pointer_id = wayland.create(
                self._seat, "get_pointer", handler=pointer.on_event
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
            self._give_back(self._pointer_id)

    def _on_keyboard(self, keyboard: Keyboard, name: str, event: Message[FdT]) -> None:
        keyboard.on_event(name, event)
        if name == "leave":
            self._let_go()

    def _give_back(self, object_id: int) -> None:
        if self._wayland.version(object_id) >= RELEASE_SINCE:
            self._wayland.destroy(object_id, "release")

    def _toggle_grab(self) -> None:
        if self._inhibitor or self._lock_id:
            self._let_go()
            return
        if self._inhibitors:
            self._inhibitor = self._wayland.create(
                self._inhibitors,
                "inhibit_shortcuts",
                self._window.surface,
                self._seat,
            )
        if not self.absolute:
            self._lock()

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
        else:
            return  # the guest draws its own, or has none: the desktop's is as good
        self._wayland.send(self._pointer_id, "set_cursor", self._serial, *shown)
