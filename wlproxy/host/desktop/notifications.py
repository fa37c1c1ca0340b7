"""Asks the user by a notification of the desktop's with two buttons (Desktop Notifications Specification 1.2)."""

from typing import Final

import trio

from wlproxy.host.desktop.session_bus import BUS, BUS_PATH, BusError, SessionBus
from wlproxy.protocol.dbus.messages import Message, MessageKind
from wlproxy.protocol.dbus.values import Variant

SERVICE: Final = "org.freedesktop.Notifications"
PATH: Final = "/org/freedesktop/Notifications"

ALLOW, REFUSE = "allow", "refuse"
"""Keys of the buttons.  There is no `default`: a click beside them is no answer."""

NORMAL: Final = 1
"""`urgency`."""

WITHDRAW_SECONDS: Final = 1.0
"""For a bus to take that a notification is to go."""

_SIGNALS: Final = f"type='signal',sender='{SERVICE}',interface='{SERVICE}'"


async def confirm(bus: SessionBus, summary: str, body: str, seconds: float) -> bool:
    """Show a notification until it is answered; return whether the answer is yes.

    Is this cancelled, the notification goes.

    Args:
        bus: to whom it belongs while this runs.
        summary: its first line.
        body: the rest, in which some desktops read markup.
        seconds: for which it is to be shown.

    Raises:
        BusError: the desktop shows none, or none with buttons; or as `SessionBus.call`.
    """
    known = await bus.call(SERVICE, PATH, f"{SERVICE}.GetCapabilities")
    if known.fields.signature != "as" or "actions" not in known.body[0]:
        raise BusError("the desktop's notifications have no buttons")
    await bus.call(BUS, BUS_PATH, f"{BUS}.AddMatch", "s", (_SIGNALS,))
    buttons = [ALLOW, "Allow", REFUSE, "Refuse"]
    # Transient: it is not kept once it has gone, where the desktop has a list of them.
    hints = {"urgency": Variant("y", NORMAL), "transient": Variant("b", True)}  # noqa: FBT003
    milliseconds = int(seconds * 1000)
    call = await bus.begin(
        SERVICE,
        PATH,
        f"{SERVICE}.Notify",
        "susssasa{sv}i",
        ("wlproxy", 0, "", summary, body, buttons, hints, milliseconds),
    )
    try:
        shown = await bus.answer(call)
    except trio.Cancelled:
        with trio.move_on_after(WITHDRAW_SECONDS, shield=True):
            await _withdraw(bus, _number(await bus.answer(call)))
        raise
    number = _number(shown)
    try:
        while (answer := _answer(await bus.next_message(), shown, number)) is None:
            pass
    finally:
        with trio.move_on_after(WITHDRAW_SECONDS, shield=True):
            await _withdraw(bus, number)
    return answer


async def _withdraw(bus: SessionBus, number: int) -> None:
    """Have a notification go, if it is still shown."""
    await bus.tell(SERVICE, PATH, f"{SERVICE}.CloseNotification", "u", (number,))


def _number(shown: Message[object]) -> int:
    """Return the number of a notification, which the answer to `Notify` says.

    Raises:
        BusError: it does not.
    """
    if shown.fields.signature != "u":
        raise BusError("the desktop does not say which notification it shows")
    number: int = shown.body[0]
    return number


def _answer(
    message: Message[object], shown: Message[object], number: int
) -> bool | None:
    """Read an answer; None: it is none, or to another notification, or of somebody else."""
    fields, body = message.fields, message.body
    if (
        message.kind is not MessageKind.SIGNAL
        or fields.sender != shown.fields.sender
        or fields.interface != SERVICE
        or not body
        or body[0] != number
    ):
        return None
    if fields.member == "NotificationClosed":
        return False
    if fields.member == "ActionInvoked" and fields.signature == "us":
        return bool(body[1] == ALLOW)
    return None
