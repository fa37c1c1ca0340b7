"""The clipboard as a window has it, sans-IO: what other apps have copied, and what the guest has.

Two rules are those of `wl_data_device`, for the guest as for any app: it knows what the host has copied only
while the window has the keyboard, and what it copies counts only then.  What else may not be, the VM's
policy says (`sharing`): it is asked before a text is read, when the guest copies, and when an app of the host's pastes.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from wlproxy.protocol.wayland.message import Message
from wlproxy.screen.commands import Fd
from wlproxy.screen.qemu_clipboard import (
    MAX_TO_GUEST,
    TEXT,
    Done,
    Grab,
    QemuClipboard,
    utf8,
)
from wlproxy.screen.sharing import Selection
from wlproxy.screen.wayland_connection import FdT, WaylandConnection

MANAGERS: Final = {
    Selection.CLIPBOARD: ("wl_data_device_manager", 3),
    Selection.PRIMARY: ("zwp_primary_selection_device_manager_v1", 1),
}
"""The global of each, and its version."""
OFFERED: Final = (TEXT.encode(), b"UTF8_STRING", b"text/plain")
"""What a text of the guest's is offered as; X11's name is for what Xwayland makes of it."""
TAKEN: Final = (
    TEXT.encode(),
    b"text/plain;charset=UTF-8",
    b"UTF8_STRING",
    b"text/plain",
)
"""What is taken of what the host offers, the first that is there."""


PipeT_co = TypeVar("PipeT_co", bound=Fd, covariant=True)
"""An end of a pipe."""


class Transfers(Protocol[PipeT_co]):
    """Moves texts, and takes the time that it needs."""

    def read(self, most: int, done: Done) -> PipeT_co | None:
        """Make a pipe, and read it to its end.

        Args:
            most: bytes; of more, nothing is told.
            done: takes them, or nothing if there are none in time.

        Returns:
            The end for whoever writes, which is the caller's to close; None: there is none.
        """

    def write(self, file: Fd, text: bytes) -> None:
        """Write a text; the file is held for that, and released thereafter."""


class _Offer:
    """What the host has copied."""

    def __init__(self, object_id: int) -> None:
        self.object_id = object_id
        self.kinds: set[bytes] = set()
        self.asked = False


class _Device(Generic[FdT]):
    """One of the clipboards, of one window."""

    def __init__(
        self,
        wayland: WaylandConnection[FdT],
        manager: int,
        seat: int,
        selection: Selection,
        clipboard: QemuClipboard[Any],
        transfers: Transfers[FdT],
    ) -> None:
        self._wayland, self._manager = wayland, manager
        self._selection, self._clipboard = selection, clipboard
        self._transfers = transfers
        self._sharing = clipboard.sharing
        self._rules = self._sharing.rules(selection)
        self._seen: Grab | None = clipboard.grabs[selection]
        self._source = 0
        self._offers: dict[int, _Offer] = {}
        self._offer: _Offer | None = None
        self._drag = 0
        self._text: bytes | None = None
        self._given: bytes | None = None
        create = "get_data_device" if self._dragging else "get_device"
        self._device = wayland.create(manager, create, seat, handler=self._on_device)

    @property
    def _dragging(self) -> bool:
        return self._selection is Selection.CLIPBOARD

    def settle(self, *, focused: bool, serial: int) -> None:
        """Do what follows of what was told, here or to QEMU."""
        grab = self._clipboard.grabs[self._selection]
        if grab is not self._seen:
            self._seen = grab
            if grab is None:
                self._drop_source()
            else:  # what the host has copied before is not pasted any more
                self._text = self._given = None
            if grab and focused and self._sharing.may_copy(self._selection):
                self._offer_guests(serial)
        offer = self._offer
        rules = self._sharing.rules(self._selection)
        if rules != self._rules:  # another policy is in force
            self._rules = rules
            self._text = None
            if offer is not None:
                offer.asked = False
        if focused and offer is not None and not offer.asked:
            offer.asked = True
            self._take(offer)
        self._give()

    def left(self) -> None:
        """Forget what the host has copied, and have the guest forget it."""
        offer, self._offer = self._offer, None
        if offer is not None:
            self._drop(offer.object_id)
        self._text = None
        self._give()

    def _give(self) -> None:
        """Have the guest know of the host's text while it may have it, and only then.

        QEMU keeps a text that the guest has asked for once, so that it has to be taken back.
        """
        may = self._sharing.may_paste(self._selection)
        text = self._text if may else None
        if text is self._given:
            return
        self._given = text
        if text is None:
            self._clipboard.withdraw(self._selection)
        else:
            self._clipboard.offer(self._selection, text)
            self._seen = None

    def _on_device(self, name: str, event: Message[FdT]) -> None:
        match name:
            case "data_offer":
                offer = _Offer(event.integer(0))
                self._offers[offer.object_id] = offer
                self._wayland.handle(
                    offer.object_id,
                    lambda name, event: self._on_offer(offer, name, event),
                )
            case "selection":
                self._selected(event.integer(0))
            case "enter":
                self._drag = event.integer(4)
            case "leave" | "drop":  # nothing is taken that is dragged here
                self._drop(self._drag)
                self._drag = 0
            case _:
                return  # motion of what is dragged

    def _on_offer(self, offer: _Offer, name: str, event: Message[FdT]) -> None:
        if name == "offer":
            kind = event.array(0)
            if kind in TAKEN or kind == self._clipboard.mark:
                offer.kinds.add(kind)

    def _selected(self, object_id: int) -> None:
        last, self._offer = self._offer, self._offers.get(object_id)
        if last is not None and last is not self._offer:
            self._drop(last.object_id)
        if self._offer is None:
            self._text = None

    def _take(self, offer: _Offer) -> None:
        """Read what the host has copied, if the guest may have it, and offer it to the guest then."""
        kind = self._taken(offer)
        if kind is None:
            self._text = None
            return
        most = self._sharing.most(self._selection, MAX_TO_GUEST)
        pipe = self._transfers.read(most, lambda text: self._read(offer, text))
        if pipe is not None:
            receive = self._wayland.send
            receive(offer.object_id, "receive", kind, None, fds=(pipe,))
            pipe.close()

    def _taken(self, offer: _Offer) -> bytes | None:
        """Say as what it is read; None: it is not."""
        if not self._rules.direction.to_guest or self._clipboard.mark in offer.kinds:
            return None  # the mark: what the guest has copied itself
        for kind in TAKEN:
            if kind in offer.kinds and self._rules.has_type(kind):
                return kind
        return None

    def _read(self, offer: _Offer, text: bytes) -> None:
        if offer is not self._offer:
            return  # another one has come, or the keyboard is elsewhere
        self._text = utf8(text) if text else None

    def _offer_guests(self, serial: int) -> None:
        """Have the host know that the guest has copied a text."""
        rules = self._rules
        kinds = [each for each in OFFERED if rules.has_type(each)][: rules.max_types]
        if not kinds:
            return
        wayland = self._wayland
        last = self._source
        create = "create_data_source" if self._dragging else "create_source"
        source = self._source = wayland.create(self._manager, create)
        wayland.handle(source, lambda name, event: self._on_source(source, name, event))
        for kind in (*kinds, self._clipboard.mark):
            wayland.send(source, "offer", kind)
        wayland.send(self._device, "set_selection", source, serial)
        if last:
            wayland.destroy(last)

    def _on_source(self, source: int, name: str, event: Message[FdT]) -> None:
        match name:
            case "send" if self._may_give(event.array(0)):
                (file,) = event.fds
                file.hold()
                self._clipboard.request(
                    self._selection, lambda text: self._transfers.write(file, text)
                )
            case "cancelled" if source == self._source:
                self._drop_source()

    def _may_give(self, kind: bytes) -> bool:
        """Whether an app of the host's may have the guest's text as this."""
        rules = self._sharing.rules(self._selection)
        return kind in OFFERED and rules.direction.to_host and rules.has_type(kind)

    def _drop_source(self) -> None:
        if self._source:
            self._wayland.destroy(self._source)
            self._source = 0

    def _drop(self, offer: int) -> None:
        if self._offers.pop(offer, None) is not None:
            self._wayland.destroy(offer)


class Selections(Generic[FdT]):
    """All clipboards, of one window.  It is told of the keyboard, as its seat has it.

    Attributes:
        sharing: what is allowed.
    """

    def __init__(
        self,
        wayland: WaylandConnection[FdT],
        bind: Callable[[str, int], int],
        seat: int,
        clipboard: QemuClipboard[Any],
        transfers: Transfers[FdT],
    ) -> None:
        """Have those that the compositor has.

        Args:
            wayland: the window's.
            bind: binds a global that need not be there, up to a version.
            seat: whose clipboards they are.
            clipboard: QEMU's.
            transfers: moves texts.
        """
        self._focused = False
        self._serial: int | None = None
        self._devices = [
            _Device(wayland, manager, seat, each, clipboard, transfers)
            for each in Selection
            if (manager := bind(*MANAGERS[each]))
        ]
        self.sharing = clipboard.sharing

    def entered(self, serial: int) -> None:
        """The window has the keyboard."""
        self._focused = True
        self._serial = serial

    def used(self, serial: int, *, pressed: bool) -> None:
        """A key or a button was pressed in it, or let go of: who copies says by what."""
        self._serial = serial
        if pressed:
            self.sharing.begin_gesture()

    def left(self) -> None:
        """It has the keyboard no more."""
        self._focused = False
        self.sharing.end_gesture()
        for device in self._devices:
            device.left()

    def settle(self) -> None:
        """Do what follows of what was told, here or to QEMU."""
        for device in self._devices:
            device.settle(focused=self._focused, serial=self._serial or 0)
