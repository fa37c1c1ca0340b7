"""QEMU's clipboard, sans-IO: what the guest has copied, and what it is given to paste.

Who is at its other end is an agent in the guest (spice-vdagent), by QEMU's chardev `qemu-vdagent`.  The
interface is QEMU's: `org.qemu.Display1.Clipboard` (ui/dbus-display1.xml); it has text only.

QEMU waits for the answer when it asks for our text, for 25 s if need be, and its main loop with it.  So a text is
offered only once it is here.  In its turn it may take five seconds to get the guest's.

A grab has a number, by which both ends tell whose was the last: each is one more than the last one of
either, and they begin anew when QEMU says so (`Register`).
"""

from collections.abc import Callable
from typing import Any, Final, Generic

from wlproxy.protocol.dbus.messages import Message, MessageKind
from wlproxy.protocol.dbus.values import Value
from wlproxy.screen.qemu_peer import FdT, QemuPeer, RefusedCallError
from wlproxy.screen.sharing import Selection, Sharing

CLIPBOARD: Final = "org.qemu.Display1.Clipboard"
CLIPBOARD_PATH: Final = "/org/qemu/Display1/Clipboard"
TEXT: Final = "text/plain;charset=utf-8"
"""The only kind of contents that QEMU knows."""

MAX_TO_GUEST: Final = 1_000_000
"""Bytes of a text: QEMU's chardev drops what is more than 1 MiB with its headers."""
MAX_TO_HOST: Final = 1 << 24
"""Bytes of a text of the guest's."""
MAX_WAITING: Final = 32
"""Apps of the host's that wait for the guest's text at once."""
LAST_SERIAL: Final = 0xFFFFFFFF


Done = Callable[[bytes], None]
"""Takes a text; an empty one if there is none."""


class Grab:
    """The guest has copied a text: another one each time."""


class QemuClipboard(Generic[FdT]):
    """Both of QEMU's clipboards.

    Attributes:
        grabs: the guest's last grab, if it has the clipboard.
        sharing: what is allowed.
        registered: whether QEMU tells us what the guest copies.
        mark: what is offered beside a text of the guest's, to know our own by.
    """

    def __init__(self, peer: QemuPeer[FdT], sharing: Sharing, mark: str) -> None:
        """Take no part in it yet.

        Args:
            peer: QEMU.
            sharing: what is allowed.
            mark: something that nobody else says.
        """
        self.sharing = sharing
        self.registered = False
        self.mark = f"application/x-wlproxy-{mark}".encode()
        self.grabs: dict[Selection, Grab | None] = dict.fromkeys(Selection)
        self._peer = peer
        self._texts: dict[Selection, bytes] = {}
        self._serials = dict.fromkeys(Selection, 0)
        self._waiting: dict[Selection, list[Done]] = {each: [] for each in Selection}
        self._joined = False

    def join(self) -> None:
        """Take part in it.  Again: nothing happens."""
        if self._joined:
            return
        self._joined = True
        self._peer.serve(CLIPBOARD, self._called)
        # QEMU does not notice that the last viewer has gone, and would refuse another.
        self._tell("Unregister", "")
        register = f"{CLIPBOARD}.Register"
        self._peer.ask(CLIPBOARD_PATH, register, "", (), self._registered)
        for selection in self._texts:
            self._grab(selection)

    def offer(self, selection: Selection, text: bytes) -> None:
        """Have the guest know of a text, in place of the last."""
        self._texts[selection] = text[:MAX_TO_GUEST]
        self._grab(selection)

    def withdraw(self, selection: Selection) -> None:
        """Have the guest know that there is none any more."""
        if self._texts.pop(selection, None) is not None:
            self._tell("Release", "u", selection)

    def request(self, selection: Selection, done: Done) -> None:
        """Ask for the guest's text; `done` is called once, perhaps at once."""
        waiting = self._waiting[selection]
        if self.grabs[selection] is None or len(waiting) >= MAX_WAITING:
            done(b"")
            return
        waiting.append(done)
        if len(waiting) == 1:  # QEMU takes one request at a time
            method = f"{CLIPBOARD}.Request"
            self._peer.ask(
                CLIPBOARD_PATH,
                method,
                "uas",
                (selection, [TEXT]),
                lambda answer: self._answered(selection, answer),
            )

    def close(self) -> None:
        """Have nobody wait for the guest any more."""
        for selection in Selection:
            waiting, self._waiting[selection] = self._waiting[selection], []
            for done in waiting:
                done(b"")

    def _registered(self, answer: Message[FdT]) -> None:
        self.registered = answer.kind is MessageKind.METHOD_RETURN

    def _answered(self, selection: Selection, answer: Message[FdT]) -> None:
        text = b""
        if answer.fields.signature == "say" and answer.body[0] == TEXT:
            text = answer.body[1]
        if len(text) > self.sharing.most(selection, MAX_TO_HOST):
            text = b""
        waiting, self._waiting[selection] = self._waiting[selection], []
        for done in waiting:
            done(utf8(text))

    def _called(
        self, member: str, signature: str, body: tuple[Value, ...]
    ) -> tuple[str, tuple[Value, ...]]:
        """Do what QEMU calls.

        Raises:
            RefusedCallError: it is not done.
        """
        match member, signature:
            case "Register", "":  # an agent has come
                self._serials = dict.fromkeys(Selection, 0)
                for selection in self._texts:
                    self._grab(selection)
            case "Grab", "uuas":
                self._grabbed(_selection(body[0]), body[1], body[2])
            case "Release", "u":
                self.grabs[_selection(body[0])] = None
            case "Request", "uas":
                return "say", (TEXT, self._text(_selection(body[0]), body[1]))
            case _:
                raise RefusedCallError(f"no method {member[:80]} of {signature!r}")
        return "", ()

    def _grabbed(self, selection: Selection, serial: int, kinds: list[Any]) -> None:
        self._serials[selection] = serial % LAST_SERIAL + 1
        self._texts.pop(selection, None)
        self.grabs[selection] = Grab() if TEXT in kinds else None

    def _text(self, selection: Selection, kinds: list[Any]) -> bytes:
        text = self._texts.get(selection)
        may = self.sharing.may_paste(selection)
        if text is None or TEXT not in kinds or not may:
            raise RefusedCallError("nothing is there to be pasted")
        return text

    def _grab(self, selection: Selection) -> None:
        if not self._joined:
            return
        serial = self._serials[selection]
        self._serials[selection] = serial % LAST_SERIAL + 1
        self.grabs[selection] = None
        self._tell("Grab", "uuas", selection, serial, [TEXT])

    def _tell(self, member: str, signature: str, *body: Value) -> None:
        if self._joined:
            self._peer.tell(CLIPBOARD_PATH, f"{CLIPBOARD}.{member}", signature, body)


def _selection(number: int) -> Selection:
    """Name a clipboard.

    Raises:
        RefusedCallError: it is none of those that there are here.
    """
    try:
        return Selection(number)
    except ValueError as exc:
        raise RefusedCallError(f"no clipboard {number}") from exc


def utf8(text: bytes) -> bytes:
    """Return a text as UTF-8, whatever it was."""
    return text.decode(errors="replace").encode()
