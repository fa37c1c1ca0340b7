"""Questions to the user, at a real session bus: by a desktop that helps, and by some that do not."""

import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.host.conftest import running_sway
from tests.peers.notifying import NotifyingDesktop, notifying_desktop, session_bus
from wlproxy.host.desktop.prompter import (
    ANSWER_SECONDS,
    FIRST_PAUSE,
    LAST_PAUSE,
    Prompter,
    harmless,
    words,
)
from wlproxy.host.desktop.session_bus import BusError, bus_socket
from wlproxy.host.report.vm_log import VmLog
from wlproxy.relay.commands import AskUser, Direction

PASTE = AskUser(1, 1, Direction.TO_GUEST, "clipboard", "foot(12)", "text/plain")
COPY = AskUser(1, 2, Direction.TO_COMPOSITOR, "primary", "foot", "image/png", 3)


def prompter(environ: dict[str, str]) -> Prompter:
    return Prompter("work", VmLog("work"), environ)


@pytest.fixture
async def desktop(tmp_path: Path) -> AsyncIterator[NotifyingDesktop]:
    async with notifying_desktop(tmp_path) as desktop:
        yield desktop


@pytest.mark.parametrize("lies", [False, True])
@pytest.mark.parametrize("user", ["allow", "refuse", "close"])
async def test_the_user_is_asked(
    desktop: NotifyingDesktop, user: str, *, lies: bool
) -> None:
    desktop.user, desktop.lies = user, lies
    with trio.fail_after(10):
        assert await prompter(desktop.environ).ask(PASTE) is (user == "allow")
    [shown] = desktop.shown
    assert shown.summary == "work: paste from the host?"
    assert shown.body == (
        'The app "foot(12)" in VM work asks for what was copied on the host, as "text/plain".'
    )
    assert shown.buttons == ["allow", "Allow", "refuse", "Refuse"]
    assert shown.hints["transient"] == ("b", True)
    assert shown.milliseconds == ANSWER_SECONDS * 1000


def test_what_is_copied_is_put_into_words() -> None:
    assert words("work", COPY) == (
        "work: copy to the host?",
        (
            'The app "foot" in VM work offers "image/png" and 3 other types'
            " for the host's selection."
        ),
    )


async def seen(desktop: NotifyingDesktop, count: int) -> None:
    """Wait for what crosses other processes, of which nobody tells us."""
    with trio.fail_after(10):
        while len(desktop.shown) < count:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)


async def test_a_question_that_is_cancelled_goes(desktop: NotifyingDesktop) -> None:
    """The app has ended, or wants it no more."""
    desktop.user = "nothing"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prompter(desktop.environ).ask, PASTE)
        await seen(desktop, 1)
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        while not desktop.withdrawn:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.001)
    assert desktop.withdrawn == [desktop.shown[0].number]


async def test_a_desktop_that_hangs_is_not_waited_for(
    desktop: NotifyingDesktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor for the number of what it is to take away."""
    monkeypatch.setattr("wlproxy.host.desktop.notifications.WITHDRAW_SECONDS", 0.01)
    desktop.user = "hang"
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(prompter(desktop.environ).ask, PASTE)
            await seen(desktop, 1)
            nursery.cancel_scope.cancel()
    assert desktop.withdrawn == []


async def test_one_question_at_a_time(desktop: NotifyingDesktop) -> None:
    desktop.user = "nothing"
    asking = prompter(desktop.environ)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asking.ask, PASTE)
        await seen(desktop, 1)
        assert await asking.ask(COPY) is False
        nursery.cancel_scope.cancel()
    assert len(desktop.shown) == 1


async def test_after_a_no_nobody_is_asked_for_a_while(
    desktop: NotifyingDesktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A while that grows, until something is allowed."""
    now = 1000.0
    monkeypatch.setattr("wlproxy.host.desktop.prompter.trio.current_time", lambda: now)
    asking = prompter(desktop.environ)
    pause, asked = FIRST_PAUSE, 0
    for _ in range(8):
        desktop.user, asked = "refuse", asked + 1
        assert await asking.ask(PASTE) is False
        now += pause - 1
        desktop.user = "allow"
        assert await asking.ask(PASTE) is False
        now += 1
        assert len(desktop.shown) == asked
        pause = min(2 * pause, LAST_PAUSE)
    assert pause == LAST_PAUSE
    assert await asking.ask(PASTE) is True
    assert await asking.ask(PASTE) is True
    desktop.user = "refuse"
    assert await asking.ask(PASTE) is False
    now += FIRST_PAUSE
    desktop.user = "allow"
    assert await asking.ask(PASTE) is True


async def test_a_desktop_that_comes_late_is_asked(
    desktop: NotifyingDesktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often nobody was there."""
    now = 1000.0
    monkeypatch.setattr("wlproxy.host.desktop.prompter.trio.current_time", lambda: now)
    environ: dict[str, str] = {}
    asking = prompter(environ)
    for _ in range(8):
        assert await asking.ask(PASTE) is False
        now += FIRST_PAUSE
    environ.update(desktop.environ)
    assert await asking.ask(PASTE) is True


@pytest.mark.parametrize("what", ["error", "no buttons", "nonsense"])
async def test_a_desktop_that_cannot_ask(
    desktop: NotifyingDesktop, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "wlproxy")
    desktop.user = what
    if what == "no buttons":
        desktop.capabilities = ["body"]
    with trio.fail_after(10):
        assert await prompter(desktop.environ).ask(PASTE) is False
    assert "the user cannot be asked" in caplog.text


async def test_no_desktop_shows_notifications(tmp_path: Path) -> None:
    async with session_bus(tmp_path) as environ:
        with trio.fail_after(10):
            assert await prompter(environ).ask(PASTE) is False


async def test_there_is_no_bus(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That is said once, however often an app asks."""
    caplog.set_level("INFO", "wlproxy")
    asking = prompter({"DBUS_SESSION_BUS_ADDRESS": f"unix:path={tmp_path / 'none'}"})
    for _ in range(3):
        assert await asking.ask(PASTE) is False
    assert caplog.text.count("cannot be asked") == 1


@pytest.mark.skipif(
    shutil.which("makoctl") is None,
    reason="needs mako: apt-get install mako-notifier",
)
@pytest.mark.parametrize(
    ("press", "allowed"),
    [("invoke allow", True), ("invoke refuse", False), ("dismiss", False)],
)
async def test_a_desktop_of_somebody_elses(
    tmp_path: Path, press: str, *, allowed: bool
) -> None:
    """mako's, on a sway: what its own command presses is what is answered."""
    with running_sway() as sway:
        async with session_bus(tmp_path) as bus:
            environ = {**os.environ, **bus, "WAYLAND_DISPLAY": str(sway)}

            async def makoctl(*words: str) -> bytes:
                done = await trio.run_process(
                    ["makoctl", *words], env=environ, capture_stdout=True, check=False
                )
                return done.stdout

            answers = []

            async def ask() -> None:
                answers.append(await prompter(bus).ask(PASTE))

            mako = await trio.lowlevel.open_process(["mako"], env=environ)
            try:
                with trio.fail_after(30):
                    while b"aa{sv}" not in await makoctl("list"):
                        await trio.lowlevel.checkpoint()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(ask)
                        while b"text/plain" not in await makoctl("list"):
                            await trio.lowlevel.checkpoint()
                        await makoctl(*press.split())
            finally:
                mako.kill()
                with trio.CancelScope(shield=True):
                    await mako.wait()
    assert answers == [allowed]


# ---------------------------------------------------------------- a bus that is none


async def asked_of(answers: bytes, tmp_path: Path, *, hangs: bool) -> bool:
    """Ask where somebody answers with these bytes, and hangs up unless it hangs."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "bus"))
        listening.listen()
        listener = trio.socket.from_stdlib_socket(listening)

        async def serve() -> None:
            connection, _ = await listener.accept()
            with connection:
                try:
                    await connection.send(answers)
                    await trio.sleep(ANSWER_SECONDS + 10 if hangs else 0)
                except OSError:
                    pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
            answer = await prompter(environ).ask(PASTE)
            nursery.cancel_scope.cancel()
    return answer


OK = b"OK 0123456789abcdef\r\nAGREE_UNIX_FD\r\n"


@pytest.mark.parametrize(
    "answers",
    [b"", b"REJECTED EXTERNAL\r\n", b"x" * 5000, OK, OK + b"\0" * 99, OK + b"l" * 99],
    ids=["nothing", "rejected", "no line", "no message", "zeroes", "noise"],
)
async def test_what_is_no_bus_is_a_no(answers: bytes, tmp_path: Path) -> None:
    with trio.fail_after(10):
        assert await asked_of(answers, tmp_path, hangs=False) is False


@pytest.mark.parametrize("answers", [b"", OK], ids=["nothing", "no message"])
async def test_a_bus_that_hangs_is_not_waited_for(
    answers: bytes, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()
    assert await asked_of(answers, tmp_path, hangs=True) is False
    assert trio.current_time() - began == pytest.approx(ANSWER_SECONDS)


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("unix:path=/run/user/1/bus", "/run/user/1/bus"),
        ("unix:path=/a%20b,guid=00", "/a b"),
        ("tcp:host=x,port=1;unix:abstract=/tmp/x", "\0/tmp/x"),
        ("", f"{os.sep}run/bus"),
        ("tcp:host=x", None),
        ("unix:tmpdir=/tmp", None),
    ],
)
def test_where_the_bus_is(address: str, where: str | None) -> None:
    environ = {"DBUS_SESSION_BUS_ADDRESS": address, "XDG_RUNTIME_DIR": "/run"}
    if where is None:
        with pytest.raises(BusError, match="no session bus"):
            bus_socket(environ)
    else:
        assert bus_socket(environ) == where
    with pytest.raises(BusError):
        bus_socket({"XDG_RUNTIME_DIR": "relative"})


async def test_a_bus_that_cannot_be_named_is_said_and_nobody_is_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "wlproxy"):
        environ = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/%00"}
        assert not await prompter(environ).ask(PASTE)
    assert "'/run/\\x00' (DBUS_SESSION_BUS_ADDRESS)" in caplog.text


@pytest.mark.parametrize(
    "address",
    [
        "unix:path=/run/\udfff\ud800",  # no path that can be written
        "unix:abstract=\ud800",
        "unix:path=",
        "unix:path=%",
        "unix:path=/" + "x" * 200,
        "unix:abstract=" + "x" * 200,
        "unix:abstract=%00%00",
        "tcp:host=localhost",
        ";;,=:",
        "unix:path",
    ],
)
async def test_no_address_of_a_bus_ends_the_app_that_is_asked_about(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "wlproxy"):
        assert not await prompter({"DBUS_SESSION_BUS_ADDRESS": address}).ask(PASTE)
    assert "the user cannot be asked (policy: ask): " in caplog.text


@given(st.text(), st.text())
def test_what_a_guest_says_is_harmless(app: str, name: str) -> None:
    """No markup, no sentence, no line of its own, and not much of it."""
    for text in (harmless(app), harmless(name)):
        assert len(text) <= 64
        assert text.isascii()
        assert not set(text) & set("<>&\"' \n\t")
    question = AskUser(1, 1, Direction.TO_GUEST, "primary", app, name)
    summary, body = words("work", question)
    assert summary == "work: paste from the host?"
    assert len(body) < 250
