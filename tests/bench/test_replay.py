"""What recorded apps cost the relay, counted; and that all they said came out of it.

`pytest -s tests/bench/test_replay.py` prints the figures.
"""

from collections.abc import Sequence
from functools import cache

import pytest

from bench.recording import (
    Batch,
    Passed,
    PassedFd,
    Recording,
    Speaker,
    read_recording,
    recordings,
)
from bench.replay import Replay, ReplayError, play, prepare
from tests.calls import Calls
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue, NewId
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay.inputs import Input
from wlproxy.relay.wire.objects import ObjectTable, ProtocolObject

MOST = {
    "foot": 19.3,
    "gtk3-demo": 33.1,
    "gtk4-widget-factory": 20.5,
    "weston-presentation-shm": 26.7,
    "weston-simple-damage": 23.6,
}
"""Calls of our functions for each message.  So many as there are, and two in a hundred more;
when they become fewer these do, too."""

OURS = {
    *[("wl_display", "get_registry"), ("wl_display", "sync"), ("wl_registry", "bind")],
    *[("wl_shm", "create_pool"), ("wl_shm_pool", "resize")],
    *[("wl_shm_pool", "destroy"), ("xdg_toplevel", "set_title")],
    ("xdg_toplevel", "set_app_id"),
}
"""What the proxy says by itself, or serves itself: its own registry and syncs, a pool for each
buffer in place of the app's, and the name of the VM for windows that have not said theirs."""


@cache
def prepared(name: str) -> Replay:
    [path] = [each for each in recordings() if each.name.startswith(f"{name}.")]
    return prepare(read_recording(path))


def calls(inputs: Sequence[Input]) -> int:
    """Count the calls that come of it, once all that is kept for ever is there."""
    play(inputs)
    with Calls() as counted:
        play(inputs)
    return counted.count


def test_every_recording_has_its_figure() -> None:
    assert {read_recording(path).name for path in recordings()} == set(MOST)


@pytest.mark.parametrize("name", MOST)
def test_messages_of_real_apps_cost_no_more_than_they_did(name: str) -> None:
    replay = prepared(name)
    each = calls(replay.inputs) / replay.messages
    print(f"{name}: {each:.2f} calls for each of {replay.messages:,} messages")
    assert 0.5 * MOST[name] < each < MOST[name]


@pytest.mark.parametrize("name", MOST)
def test_all_that_real_apps_say_comes_out_at_the_other_end(name: str) -> None:
    replay = prepared(name)
    recorded, passed = replay.recorded, replay.passed
    differ = {each for each in recorded | passed if recorded[each] != passed[each]}
    assert differ <= OURS
    assert recorded.total() > 2500
    assert replay.warnings == []


@pytest.mark.parametrize("name", MOST)
def test_nothing_is_held_but_what_is_shown(name: str) -> None:
    replay = prepared(name)
    assert replay.handles == replay.owned <= replay.buffers
    assert replay.pins <= replay.buffers
    holdings = play(replay.inputs).holdings()
    assert holdings.clients == {}
    assert not any(holdings.used.values())


def test_a_call_more_for_each_message_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the figures are for: somebody looks up twice what is known already."""
    replay = prepared("foot")
    find = ObjectTable.guest

    def find_twice(table: ObjectTable, guest_id: int) -> ProtocolObject:
        find(table, guest_id)
        return find(table, guest_id)

    monkeypatch.setattr(ObjectTable, "guest", find_twice)
    assert calls(replay.inputs) / replay.messages > MOST["foot"]


# ---------------------------------------------------------------- what is played


def request(sender: int, interface: str, name: str, *args: ArgValue) -> bytes:
    return encode_message(sender, INTERFACES[interface].request(name), args)


def event(sender: int, interface: str, name: str, *args: ArgValue) -> bytes:
    return encode_message(sender, INTERFACES[interface].event(name), args)


def bind(name: int, interface: str, new_id: int) -> bytes:
    new = NewId(interface.encode(), 1, new_id)
    return request(2, "wl_registry", "bind", name, new)


def by_app(data: bytes, *fds: PassedFd) -> Batch:
    return Batch(Speaker.APP, data, fds)


def by_compositor(data: bytes, *fds: PassedFd) -> Batch:
    return Batch(Speaker.COMPOSITOR, data, fds)


def played(*batches: Batch) -> Replay:
    return prepare(Recording("an app", "1", "a compositor", batches))


SEAT = (
    by_app(request(1, "wl_display", "get_registry", 2)),
    by_compositor(event(2, "wl_registry", "global", 1, b"wl_seat", 1)),
    by_compositor(event(2, "wl_registry", "global", 2, b"wl_data_device_manager", 1)),
    by_app(bind(1, "wl_seat", 3) + bind(2, "wl_data_device_manager", 4)),
    by_app(request(4, "wl_data_device_manager", "get_data_device", 5, 3)),
)
SERVER = 0xFF000000


def test_an_object_of_the_compositor_and_a_pipe_are_played() -> None:
    offered = (
        event(5, "wl_data_device", "data_offer", SERVER)
        + event(SERVER, "wl_data_offer", "offer", b"text/plain")
        + event(5, "wl_data_device", "selection", SERVER)
    )
    wanted = request(SERVER, "wl_data_offer", "receive", b"text/plain", None)
    replay = played(
        *SEAT, by_compositor(offered), by_app(wanted, PassedFd(Passed.WRITE))
    )
    assert replay.passed["wl_data_offer", "receive"] == 1
    assert replay.warnings == []


def test_what_is_sent_to_an_app_that_it_reads_is_played() -> None:
    source = request(4, "wl_data_device_manager", "create_data_source", 6)
    send = event(6, "wl_data_source", "send", b"text/plain", None)
    replay = played(*SEAT, by_app(source), by_compositor(send, PassedFd(Passed.WRITE)))
    assert replay.passed["wl_data_source", "send"] == 1
    assert replay.handles == 0


def test_a_file_of_the_compositor_is_played() -> None:
    keyboard = request(3, "wl_seat", "get_keyboard", 6)
    keymap = event(6, "wl_keyboard", "keymap", 1, None, 100)
    replay = played(
        *SEAT, by_app(keyboard), by_compositor(keymap, PassedFd(Passed.FILE, 100))
    )
    assert replay.passed["wl_keyboard", "keymap"] == 1
    assert replay.handles == 0


def test_an_app_that_the_relay_ends_is_no_recording() -> None:
    with pytest.raises(ReplayError, match=r"ends the app: .*invalid global"):
        played(*SEAT, by_app(bind(1, "wl_output", 6)))


def test_an_event_of_what_the_compositor_cannot_know_is_no_recording() -> None:
    done = event(6, "wl_callback", "done", 1)
    sync = request(1, "wl_display", "sync", 6)
    delete = event(1, "wl_display", "delete_id", 6)
    with pytest.raises(ReplayError, match="knows no 6"):
        played(by_app(sync), by_compositor(done + delete), by_compositor(done))


def test_a_device_of_an_app_cannot_be_played() -> None:
    wanted = request(1, "wl_display", "sync", 6)
    with pytest.raises(ReplayError, match="neither file nor pipe"):
        played(by_app(wanted, PassedFd(Passed.OTHER)))
