"""A desktop that shows notifications, at a real dbus-daemon; jeepney speaks for it.

A test says what its user does, in place of somebody who presses buttons.
"""

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

jeepney: Any = pytest.importorskip("jeepney", reason="needs jeepney: make env")
jeepney_trio: Any = pytest.importorskip("jeepney.io.trio")
if shutil.which("dbus-daemon") is None:
    pytest.skip(
        "needs dbus-daemon: apt-get install dbus-daemon", allow_module_level=True
    )

SERVICE = "org.freedesktop.Notifications"
PATH = "/org/freedesktop/Notifications"


@dataclass
class Shown:
    """A notification, as the desktop was told."""

    number: int
    summary: str
    body: str
    buttons: list[str]
    hints: dict[str, Any]
    milliseconds: int


@dataclass
class NotifyingDesktop:
    """The desktop.

    Attributes:
        environ: where its session bus is.
        user: what the user does with each: "allow", "refuse", "close", "nothing"; or the
            desktop, that shows none ("error"), does not say so ("hang"), or what ("nonsense").
        capabilities: as it says.
        shown: what it showed.
        withdrawn: what was to go; its number.
        lies: sends answers first that are none.
    """

    environ: dict[str, str]
    user: str = "allow"
    capabilities: list[str] = field(default_factory=lambda: ["body", "actions"])
    shown: list[Shown] = field(default_factory=list)
    withdrawn: list[int] = field(default_factory=list)
    lies: bool = False

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Be the desktop, until cancelled."""
        address = self.environ["DBUS_SESSION_BUS_ADDRESS"]
        connection = await jeepney_trio.open_dbus_connection(address)
        async with connection:
            async with connection.router() as router:
                ask = jeepney.message_bus.RequestName(SERVICE)
                await router.send_and_get_reply(ask)
            task_status.started()
            while True:
                call = await connection.receive()
                if call.header.message_type is jeepney.MessageType.method_call:
                    for message in self._answers(call):
                        await connection.send(message)

    def _answers(self, call: Any) -> list[Any]:
        member = call.header.fields[jeepney.HeaderFields.member]
        match member:
            case "GetCapabilities":
                return [jeepney.new_method_return(call, "as", (self.capabilities,))]
            case "CloseNotification":
                self.withdrawn.append(call.body[0])
                return []
            case "Notify" if self.user == "error":
                return [jeepney.new_error(call, "org.freedesktop.DBus.Error.Failed")]
            case "Notify":
                return self._show(call)
            case _:
                raise AssertionError(member)

    def _show(self, call: Any) -> list[Any]:
        _, _, _, summary, body, buttons, hints, milliseconds = call.body
        number = len(self.shown) + 7
        self.shown.append(Shown(number, summary, body, buttons, hints, milliseconds))
        if self.user == "hang":
            return []
        if self.user == "nonsense":
            return [jeepney.new_method_return(call, "s", ("7",))]
        answers = [jeepney.new_method_return(call, "u", (number,))]
        emitter = jeepney.DBusAddress(PATH, interface=SERVICE)

        def signal(member: str, signature: str, *body: object) -> None:
            answers.append(jeepney.new_signal(emitter, member, signature, body))

        if self.lies:
            signal("ActionInvoked", "us", number + 1, "allow")
            signal("ActionInvoked", "uu", number, 1)
            signal("ActivationToken", "us", number, "allow")
            other = jeepney.DBusAddress(PATH, interface="org.other")
            answers.append(
                jeepney.new_signal(other, "ActionInvoked", "us", (number, "allow"))
            )
        if self.user in ("allow", "refuse"):
            signal("ActionInvoked", "us", number, self.user)
        if self.user != "nothing":
            signal("NotificationClosed", "uu", number, 2)
        return answers


@asynccontextmanager
async def session_bus(directory: Path) -> AsyncIterator[dict[str, str]]:
    """Run a dbus-daemon; yields the environment that tells where it is."""
    address = f"unix:path={directory / 'bus'}"
    command = ["dbus-daemon", "--session", "--nofork", "--nosyslog", "--nopidfile"]
    command += [f"--address={address}", "--print-address"]
    daemon = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        assert daemon.stdout is not None
        with trio.fail_after(10):
            assert await daemon.stdout.receive_some()
        yield {"DBUS_SESSION_BUS_ADDRESS": address}
    finally:
        daemon.kill()
        with trio.CancelScope(shield=True):
            await daemon.wait()
        assert daemon.stdout is not None
        await daemon.stdout.aclose()


@asynccontextmanager
async def notifying_desktop(directory: Path) -> AsyncIterator[NotifyingDesktop]:
    """Run a bus, and such a desktop at it."""
    async with session_bus(directory) as environ, trio.open_nursery() as nursery:
        desktop = NotifyingDesktop(environ)
        await nursery.start(desktop.run)
        yield desktop
        nursery.cancel_scope.cancel()
