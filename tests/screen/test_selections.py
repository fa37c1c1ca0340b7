"""The clipboard of a window, between a compositor and a QEMU that do what the test says."""

import os
import select
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from pywayland.protocol.wayland import WlDataOffer

from tests.peers.compositor import offer_selection
from tests.peers.libwayland import Resource
from tests.screen.policies import directions, sharing
from tests.screen.viewer_stage import ViewerStage, staged
from wlproxy.protocol.dbus.messages import Fields, Message, MessageKind
from wlproxy.relay.policy_tree import Clipboard, Policy
from wlproxy.screen import transfers
from wlproxy.screen.qemu_clipboard import (
    CLIPBOARD,
    CLIPBOARD_PATH,
    MAX_TO_GUEST,
    TEXT,
)
from wlproxy.screen.sharing import Selection, Sharing
from wlproxy.transport.fds import OwnedFd

DEVICE = "wl_data_device"
SET = f"{DEVICE}.set_selection"


async def focus(stage: ViewerStage) -> Resource:
    await stage.show()
    keyboard = await stage.enter("wl_keyboard", b"")
    await stage.until(
        lambda: stage.compositor.called(f"{DEVICE}_manager.get_data_device")
    )
    await stage.ponged()  # the window knows that it has the focus
    return keyboard


async def asked(stage: ViewerStage, offer: Resource) -> tuple[str, OwnedFd]:
    """Wait until the window asks for what is offered: kind, and where to write it."""
    await stage.until(lambda: offer.state)
    kind, fd = offer.state.pop()
    return kind, OwnedFd(fd)


async def copy(stage: ViewerStage, text: bytes, *kinds: str) -> str:
    """Have an app of the host's copy a text; return which kind the window takes."""
    offer = offer_selection(stage.find(DEVICE), *(kinds or (TEXT,)))
    kind, fd = await asked(stage, offer)
    with fd:
        os.write(fd.fileno(), text)
    return kind


async def grab(stage: ViewerStage, serial: int, selection: int = 0) -> None:
    """Have the guest copy something."""
    fields = Fields(CLIPBOARD_PATH, CLIPBOARD, "Grab", signature="uuas")
    body = selection, serial, [TEXT]
    await stage.qemu.send(Message(MessageKind.METHOD_CALL, fields, body, (), 9))


async def paste(stage: ViewerStage, source: Resource, kind: str = TEXT) -> bytes:
    ours, theirs = map(OwnedFd, os.pipe())
    with theirs:
        source.send("send", kind, theirs.fileno())
    async with trio.lowlevel.FdStream(ours.detach()) as stream:
        with trio.fail_after(20):
            return b"".join([piece async for piece in stream])


async def test_it_begins_with_the_keyboard(tmp_path: Path) -> None:
    async with staged(tmp_path, sharing=sharing()) as stage:
        await stage.show()
        await stage.until(
            lambda: stage.compositor.called(f"{DEVICE}_manager.get_data_device")
        )
        offer = offer_selection(stage.find(DEVICE), "text/html", "UTF8_STRING", TEXT)
        await trio.testing.wait_all_tasks_blocked()
        assert not offer.state
        keyboard = await stage.enter("wl_keyboard", b"")
        kind, fd = await asked(stage, offer)
        assert kind == TEXT
        with fd:
            os.write(fd.fileno(), b"text")
        assert await stage.told("Grab", count=1) == [("Grab", (0, 0, [TEXT]))]
        keyboard.send("leave", 2, stage.surface)
        assert await stage.told("Release", count=1) == [("Release", (0,))]


async def test_nothing_that_is_no_text_is_taken(tmp_path: Path) -> None:
    async with staged(tmp_path, sharing=sharing()) as stage:
        await focus(stage)
        assert await copy(stage, b"one", "UTF8_STRING", "text/plain") == "UTF8_STRING"
        await stage.told("Grab", count=1)
        offer = offer_selection(stage.find(DEVICE), "image/png", "text/html")
        await stage.told("Release", count=1)
        assert not offer.state
        assert await copy(stage, b"two", "text/plain") == "text/plain"
        await stage.told("Grab", count=2)
        stage.find(DEVICE).send("selection", None)
        await stage.told("Release", count=2)
        destroyed = "wl_data_offer.destroy"
        await stage.until(lambda: len(stage.compositor.called(destroyed)) == 3)


async def test_too_much_or_nothing_is_not_offered(tmp_path: Path) -> None:
    async with staged(tmp_path, sharing=sharing()) as stage:
        await focus(stage)
        await copy(stage, b"first")
        await stage.told("Grab", count=1)
        await copy(stage, b"")
        await stage.told("Release", count=1)
        offer = offer_selection(stage.find(DEVICE), TEXT)
        _, fd = await asked(stage, offer)
        with fd:
            written = await trio.to_thread.run_sync(_write_all, fd.fileno())
        assert MAX_TO_GUEST <= written < 2 * MAX_TO_GUEST
        assert len(stage.qemu.heard("Grab")) == 1


def _write_all(fd: int) -> int:
    """Write until nobody reads any more; return how much went."""
    written = 0
    try:
        while written < 100 * MAX_TO_GUEST:
            written += os.write(fd, bytes(4096))
    except BrokenPipeError:
        pass
    return written


async def test_who_never_writes_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with staged(tmp_path, sharing=sharing()) as stage:
        await focus(stage)
        with monkeypatch.context() as patch:
            patch.setattr(transfers, "READ_SECONDS", 0.02)
            offer = offer_selection(stage.find(DEVICE), TEXT)
            _, fd = await asked(stage, offer)
            with fd:
                await trio.to_thread.run_sync(_wait_broken, fd.fileno())
        await copy(stage, b"next")
        await stage.told("Grab", count=1)


def _wait_broken(fd: int) -> None:
    poll = select.poll()
    poll.register(fd, 0)
    assert poll.poll(20_000)


async def test_of_two_the_last_counts(tmp_path: Path) -> None:
    async with staged(tmp_path, sharing=sharing()) as stage:
        await focus(stage)
        _, slow = await asked(stage, offer_selection(stage.find(DEVICE), TEXT))
        await copy(stage, b"last")
        await stage.told("Grab", count=1)
        with slow, suppress(BrokenPipeError):  # most likely nobody reads it any more
            os.write(slow.fileno(), b"first")
        await trio.testing.wait_all_tasks_blocked()
        assert len(stage.qemu.heard("Grab")) == 1


async def test_the_guests_text_is_the_hosts(tmp_path: Path) -> None:
    async with staged(tmp_path, sharing=sharing(), pasted=b"of the guest") as stage:
        keyboard = await focus(stage)
        keyboard.send("key", 41, 5, 30, 1)
        await stage.told("Press", count=1)
        await grab(stage, 0)
        await stage.until(lambda: stage.compositor.called(SET))
        source, serial = stage.compositor.called(SET)[0].args
        assert serial == 41
        kinds = source.state
        assert kinds[:3] == [TEXT, "UTF8_STRING", "text/plain"]
        assert await paste(stage, source) == b"of the guest"
        assert await paste(stage, source, kinds[3]) == b""
        # The compositor tells of it as of any other's.
        own = offer_selection(stage.find(DEVICE), *kinds)
        keyboard.send("leave", 2, stage.surface)
        assert await paste(stage, source, "text/plain") == b"of the guest"
        assert not own.state
        assert not stage.qemu.heard("Grab")
        source.send("cancelled")
        await stage.until(lambda: stage.compositor.called("wl_data_source.destroy"))


async def test_what_the_guest_copies_without_the_keyboard_does_not_count(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path, sharing=sharing()) as stage:
        keyboard = await focus(stage)
        keyboard.send("leave", 2, stage.surface)
        await stage.ponged()
        await copying(stage)
        keyboard.send("enter", 3, stage.surface, b"")
        await copy(stage, b"of the host")
        await stage.told("Grab", count=1)
        assert not stage.compositor.called(SET)


async def copying(stage: ViewerStage) -> None:
    """Have the guest copy something, and the window know of it."""
    await grab(stage, 3)
    clipboard = stage.clipboard
    assert clipboard
    await stage.until(lambda: clipboard.grabs[Selection.CLIPBOARD])
    await stage.qemu_answered()
    await stage.ponged()


async def test_each_copy_is_another_source(tmp_path: Path) -> None:
    async with staged(tmp_path, sharing=sharing()) as stage:
        await focus(stage)
        for number in range(3):
            await grab(stage, number)
            await stage.until(lambda: len(stage.compositor.called(SET)) == number + 1)  # noqa: B023 - awaited here
        destroyed = "wl_data_source.destroy"
        await stage.until(lambda: len(stage.compositor.called(destroyed)) == 2)


@pytest.mark.parametrize("way", ["to-guest", "off"])
async def test_a_way_that_is_shut_to_the_host(tmp_path: Path, way: str) -> None:
    async with staged(tmp_path, sharing=sharing(way)) as stage:
        await stage.show()
        await stage.enter("wl_keyboard", b"")
        await stage.ponged()
        await copying(stage)
        await grab(stage, 4, 1)
        primary = "zwp_primary_selection_device_v1.set_selection"
        await stage.until(lambda: stage.compositor.called(primary))
        assert not stage.compositor.called(SET)


async def test_a_way_that_is_shut_to_the_guest(tmp_path: Path) -> None:
    async with staged(tmp_path, sharing=sharing("to-host", "off")) as stage:
        await focus(stage)
        offer = offer_selection(stage.find(DEVICE), TEXT)
        await copying(stage)
        await stage.until(lambda: stage.compositor.called(SET))
        assert not offer.state


async def test_what_is_dragged_over_the_window_is_let_go_of(tmp_path: Path) -> None:
    async with staged(tmp_path, sharing=sharing()) as stage:
        await focus(stage)
        device = stage.find(DEVICE)
        offer = offer_selection(device, TEXT)
        (await asked(stage, offer))[1].close()
        dragged = offer_selection_of(device)
        device.send("enter", 3, stage.surface, 1, 1, dragged)
        device.send("motion", 3, 2, 2)
        device.send("leave")
        await stage.until(lambda: not dragged.alive)
        assert offer.alive


def offer_selection_of(device: Resource) -> Resource:
    """Offer something that is no selection."""
    kind: Any = WlDataOffer
    offer = Resource(device.client, kind, device.version)
    offer.state = []
    device.send("data_offer", offer)
    offer.send("offer", TEXT)
    return offer


async def test_who_pastes_when_all_ends_has_nothing(tmp_path: Path) -> None:
    async with staged(tmp_path, sharing=sharing()) as stage:
        await focus(stage)
        stage.qemu.pasted = None  # it never answers
        await copying(stage)
        await stage.until(lambda: stage.compositor.called(SET))
        source, _ = stage.compositor.called(SET)[0].args
        ours, theirs = map(OwnedFd, os.pipe())
        with theirs:
            source.send("send", TEXT, theirs.fileno())
        await stage.told("Request", count=1)
        stage.find("xdg_toplevel").send("close")
        await stage.until(lambda: stage.ended)
        async with trio.lowlevel.FdStream(ours.detach()) as stream:
            assert await stream.receive_some() == b""


async def test_who_asks_has_pressed_a_key_just_before(tmp_path: Path) -> None:
    times = [100.0]
    rules = sharing("ask", now=lambda: times[-1])
    async with staged(tmp_path, sharing=rules, pasted=b"text") as stage:
        keyboard = await focus(stage)
        keyboard.send("key", 40, 5, 30, 0)  # let go of, which means nothing
        await stage.ponged()
        await copying(stage)
        assert not stage.compositor.called(SET)
        keyboard.send("key", 41, 5, 30, 1)
        await stage.told("Press", count=1)
        await grab(stage, 4)
        await stage.until(lambda: stage.compositor.called(SET))
        times.append(101.5)
        stage.compositor.calls.clear()
        await copying(stage)
        assert not stage.compositor.called(SET)
        stage.find("wl_pointer").send("button", 42, 5, 0x110, 1)
        await stage.told("Press", count=2)
        await grab(stage, 6)
        await stage.until(lambda: stage.compositor.called(SET))
        # The host's text is read, but the guest has to wait for the user's hand.
        await copy(stage, b"of the host")
        await stage.told("Grab", count=1)
        assert await asks(stage, 7) == TEXT
        times.append(103.0)
        assert await asks(stage, 8) is None
        await stage.told("Release", count=1)
        keyboard.send("key", 43, 5, 30, 1)
        await stage.told("Grab", count=2)
        # What the guest has copied itself is not replaced by what the host had before.
        await grab(stage, 9)
        await stage.qemu_answered()
        times.append(105.0)
        stage.viewer.settle()
        keyboard.send("key", 44, 5, 31, 1)
        await stage.told("Press", count=4)
        await stage.qemu_answered()
        assert len(stage.qemu.heard("Grab")) == 2


async def asks(stage: ViewerStage, serial: int) -> str | None:
    """Have the guest ask for the host's text; return as what it comes, or None."""
    fields = Fields(CLIPBOARD_PATH, CLIPBOARD, "Request", signature="uas")
    call = Message[Any](MessageKind.METHOD_CALL, fields, (0, [TEXT]), (), serial)
    await stage.qemu.send(call)

    def answers() -> list[Message[Any]]:
        return [each for each in stage.qemu.calls if each.fields.reply_to == serial]

    await stage.until(answers)
    (answer,) = answers()
    if answer.kind is not MessageKind.METHOD_RETURN:
        return None
    kind: str = answer.body[0]
    return kind


async def test_only_types_and_sizes_that_the_policy_has(tmp_path: Path) -> None:
    rules = Clipboard(types=("UTF8*",), max_bytes=4)
    policy = Sharing(Policy(clipboard=rules), time.monotonic)
    async with staged(tmp_path, sharing=policy, pasted=b"four") as stage:
        await focus(stage)
        offer = offer_selection(stage.find(DEVICE), TEXT)
        assert await copy(stage, b"five.", "UTF8_STRING", TEXT) == "UTF8_STRING"
        assert await copy(stage, b"four", "UTF8_STRING") == "UTF8_STRING"
        await stage.told("Grab", count=1)
        assert not offer.state
        await grab(stage, 3)
        await stage.until(lambda: stage.compositor.called(SET))
        source, _ = stage.compositor.called(SET)[0].args
        assert source.state[0] == "UTF8_STRING"
        assert len(source.state) == 2  # and by what it is known
        assert await paste(stage, source, "UTF8_STRING") == b"four"
        assert await paste(stage, source, TEXT) == b""


async def test_another_policy_counts_at_once(tmp_path: Path) -> None:
    rules = sharing("off")
    async with staged(tmp_path, sharing=rules, pasted=b"text") as stage:
        await focus(stage)
        offer = offer_selection(stage.find(DEVICE), TEXT)
        await trio.testing.wait_all_tasks_blocked()
        assert not offer.state
        rules.obey(directions("both"))
        _, fd = await asked(stage, offer)
        with fd:
            os.write(fd.fileno(), b"text")
        await stage.told("Grab", count=1)
        rules.obey(directions("to-host"))
        await stage.told("Release", count=1)
        await grab(stage, 3)
        await stage.until(lambda: stage.compositor.called(SET))
        source, _ = stage.compositor.called(SET)[0].args
        assert await paste(stage, source) == b"text"
        rules.obey(directions("to-guest"))
        assert await paste(stage, source) == b""
        policy = Policy(clipboard=Clipboard(types=("image/*",)))
        rules.obey(policy)
        stage.compositor.calls.clear()
        await copying(stage)
        assert not stage.compositor.called(SET)
