"""Which screens a machine has (`org.qemu.Display1.VM` and `Console`, ui/dbus-display1.xml)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic

from wlproxy.protocol.dbus.connection import PROPERTIES
from wlproxy.protocol.dbus.messages import Message, MessageKind
from wlproxy.protocol.dbus.values import Value, Variant
from wlproxy.screen.console import CONSOLE, console_path
from wlproxy.screen.qemu_peer import FdT, QemuPeer, error_text

VM: Final = "org.qemu.Display1.VM"
VM_PATH: Final = "/org/qemu/Display1/VM"
MAX_SCREENS: Final = 16
"""What virtio-gpu has at most, and windows that one machine may open."""
GRAPHIC: Final = "Graphic"
"""What `Type` says of a screen; "Text" are QEMU's own, such as its monitor."""


@dataclass(frozen=True, slots=True)
class Screen:
    """A screen.

    Attributes:
        number: which of the machine's.
        head: which of its device's.  One but the first is nothing until the guest is told that a monitor
            of some size is plugged in there.
    """

    number: int
    head: int = 0


class Machine(Generic[FdT]):
    """What QEMU says that there is.

    Attributes:
        screens: those with pictures, once all are `known`.
        known: whether QEMU has answered.
        refusal: why there is none.
    """

    def __init__(self, peer: QemuPeer[FdT], known: Callable[[], None]) -> None:
        """Ask for it.

        Args:
            peer: QEMU.
            known: is called once it is known.
        """
        self.screens: list[Screen] = []
        self.known = False
        self.refusal = ""
        self._peer = peer
        self._told = known
        self._unknown = 0
        self._get_all(VM_PATH, VM, self._listed)

    def _get_all(
        self, path: str, interface: str, answered: Callable[[Message[FdT]], None]
    ) -> None:
        self._peer.ask(path, f"{PROPERTIES}.GetAll", "s", (interface,), answered)

    def _listed(self, answer: Message[FdT]) -> None:
        numbers = _get(answer, "ConsoleIDs", "au")
        if not numbers:
            self.refusal = "it has no screen"
            if answer.kind is MessageKind.ERROR:
                self.refusal = error_text(answer)
            self._end()
            return
        numbers = sorted(set(numbers))[:MAX_SCREENS]
        self._unknown = len(numbers)
        for number in numbers:
            described = partial(self._described, number)
            self._get_all(console_path(number), CONSOLE, described)

    def _described(self, number: int, answer: Message[FdT]) -> None:
        if _get(answer, "Type", "s") == GRAPHIC:
            self.screens.append(Screen(number, _get(answer, "Head", "u") or 0))
        self._unknown -= 1
        if not self._unknown:
            if not self.screens:
                self.refusal = "it has no screen with a picture"
            self._end()

    def _end(self) -> None:
        self.known = True
        self._told()


def _get(answer: Message[FdT], name: str, signature: str) -> Value:
    """Return a property if it is there, and of the type that it should have."""
    if answer.fields.signature != "a{sv}":
        return None
    found: Variant | None = answer.body[0].get(name)
    if found is None or found.signature != signature:
        return None
    return found.value
