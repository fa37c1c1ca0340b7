"""A real sway's key bindings: an app of the guest has them until the user takes them back."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pywayland.protocol.keyboard_shortcuts_inhibit_unstable_v1 import (
    ZwpKeyboardShortcutsInhibitManagerV1,
)
from pywayland.protocol.wayland import WlSeat

from tests.clients.keyboard import CODES, Keyboard
from tests.host.conftest import running_sway
from tests.peers.loopback import Loopback

CTRL, ALT = 29, 56
BOUND, FREE = CODES["b"], CODES["f"]


@pytest.fixture(scope="module")
def sway() -> Iterator[Path]:
    with running_sway("bindsym b nop") as sway:
        yield sway


@pytest.mark.lab
async def test_the_user_takes_the_bindings_of_sway_back(
    bare: Loopback, sway: Path
) -> None:
    manager = ZwpKeyboardShortcutsInhibitManagerV1
    await bare.start_agent()
    # Newer sways do not offer it to whom they know to be another sandbox's.
    await bare.start_host(sway, allow=[manager.name], isolate=False)
    with closing(Keyboard(str(sway))) as hands:
        app = await bare.app()
        seat = app.bind(WlSeat)
        capabilities = app.record(seat, "capabilities")
        await app.until(lambda: capabilities)
        keyboard = app.keep(seat.get_keyboard())
        keyboard.dispatcher["keymap"] = lambda _keyboard, _format, fd, _size: os.close(
            fd
        )
        focus = app.record(keyboard, "enter")
        keys = app.record(keyboard, "key")

        async def reaches(code: int) -> bool:
            """Whether a key reaches the app: the one after it does in any case."""
            keys.clear()
            hands.press(code)
            hands.press(FREE)
            await app.until(lambda: [each[2:] for each in keys].count((FREE, 0)))
            return (code, 1) in [each[2:] for each in keys]

        window = await app.window()
        await app.show(window.surface, app.canvas((64, 64)))
        await app.until(lambda: focus)
        assert not await reaches(BOUND)

        inhibit = app.bind(manager).inhibit_shortcuts
        inhibitor = app.keep(inhibit(window.surface, seat))
        active = app.record(inhibitor, "active")
        inactive = app.record(inhibitor, "inactive")
        await app.until(lambda: active)
        assert await reaches(BOUND)

        hands.press(CTRL, ALT, CODES["g"])
        await app.until(lambda: inactive)
        assert not await reaches(BOUND)

        inhibitor.destroy()
        app.keep(inhibit(window.surface, seat))  # in vain
        await app.roundtrip()
        assert not await reaches(BOUND)
