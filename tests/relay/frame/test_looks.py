"""Another look while apps run; and compositors that lack what a frame is made with."""

import pytest

from tests.relay.frame.stage import RED, FrameStage
from tests.relay.playbook import Stage
from wlproxy.protocol.channel.frames import ClientOpened, CloseReason
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.frame.layout import Side
from wlproxy.relay.inputs import CompositorAway, CompositorFound, PolicyChanged
from wlproxy.relay.look import Label, WindowFrame
from wlproxy.relay.policy_tree import Policy
from wlproxy.relay.wire import objects
from wlproxy.relay.wire.context import RelayConfig

GREEN = WindowFrame(0x00FF00, 9)
UNASKED = WindowFrame(0xFF0000, asked=False)
GLOBALS = {"wl_subcompositor": 1, "wp_viewporter": 1}


def framed_by(play: Stage, frame: WindowFrame | None) -> list[str]:
    """Decide anew; return what the compositor is told."""
    play.said()
    play.run(play.relay.receive(PolicyChanged(Policy(), frame)))
    return [line.split(".", 1)[1].partition("(")[0] for line in play.said_by("host")]


def test_another_colour_is_shown_at_once() -> None:
    play = FrameStage()
    play.shown(100, 80)
    before = play.strips()
    told = framed_by(play, GREEN)
    assert told[:4] == ["create_pool", "create_buffer", "create_buffer", "destroy"]
    strip = ["attach", "damage", "set_desync", "commit", "set_sync"]
    assert told[4:] == [*strip * len(Side), "destroy", "destroy"]
    # The app was told sizes by the old width.
    assert play.strips() == before
    assert play.relay.framed_otherwise() == 1
    play.shown(50, 40)
    assert play.inner()[2:] == (50, 40)
    assert not framed_by(play, GREEN)
    framed_by(play, WindowFrame(0x0000FF, RED.width))
    assert play.relay.framed_otherwise() == 0


def test_an_app_without_room_for_another_colour_ends_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objects, "MAX_OBJECTS", 64)
    play = FrameStage()
    play.shown(100, 80)
    compositor = play.app.bind("wl_compositor")
    while len(play.relay.holdings().clients[1].host_objects) < 63:
        play.app.request(compositor, "create_region")
    play.run(play.relay.receive(ClientOpened(2, 4712, 1000, 1000, "other")))

    play.run(play.relay.receive(PolicyChanged(Policy(), GREEN)))

    assert play.closed is not None
    assert play.closed.reason is CloseReason.LIMIT_EXCEEDED
    assert list(play.relay.client_labels) == [2]


def test_to_ask_for_what_is_there_changes_nothing() -> None:
    capabilities = CompositorCapabilities(shm_udmabuf=True, global_versions=GLOBALS)
    play = Stage(capabilities, RelayConfig(frame=UNASKED))
    assert not framed_by(play, RED)
    assert play.relay.framed_otherwise() == 0


def test_another_colour_of_a_label() -> None:
    label, other = Label(8, 40, b"red!" * 320), Label(8, 40, b"blue" * 320)
    play = FrameStage(WindowFrame(1, label=label))
    play.shown(100, 80)
    told = framed_by(play, WindowFrame(2, label=other))
    assert told.count("create_pool") == 2
    assert told.count("attach") == len(Side) + 1
    assert told[-3:] == ["destroy"] * 3


def test_whether_there_is_a_frame_is_for_apps_to_come() -> None:
    play = FrameStage()
    play.shown(100, 80)
    assert not framed_by(play, None)
    assert play.relay.framed_otherwise() == 1
    play.shown(50, 40)  # checked by the stage: it has a frame
    bare = Stage()
    bare.run(bare.relay.receive(PolicyChanged(Policy(), RED)))
    assert bare.relay.framed_otherwise() == 1
    assert not bare.said_by("host")


@pytest.mark.parametrize("missing", [None, *GLOBALS])
def test_a_frame_that_nobody_asked_for_is_not_a_must(missing: str | None) -> None:
    there = {name: version for name, version in GLOBALS.items() if name != missing}
    capabilities = CompositorCapabilities(shm_udmabuf=True, global_versions=there)
    play = Stage(capabilities, RelayConfig(frame=UNASKED))
    warnings = play.warnings()
    assert len(warnings) == bool(missing)
    assert not missing or missing in warnings[0]
    assert play.relay.framed_otherwise() == 0
    shell = play.plug("xdg_wm_base")
    surface = play.app.request(shell, "get_xdg_surface", play.new_surface().id)
    window = play.app.request(surface, "get_toplevel")
    play.app.request(window, "set_max_size", 100, 100)
    more = 0 if missing else 2 * UNASKED.width
    assert play.said_by("host")[-1].endswith(f"({100 + more}, {100 + more})")


def test_the_compositor_that_comes_decides() -> None:
    play = Stage(config=RelayConfig(frame=UNASKED))
    assert len(play.warnings()) == 1
    play.run(play.relay.receive(CompositorAway()))
    assert not play.relay.framed_otherwise()
    found = CompositorCapabilities(shm_udmabuf=True, global_versions=GLOBALS)
    play.run(play.relay.receive(CompositorFound(found)))
    assert len(play.warnings()) == 1
