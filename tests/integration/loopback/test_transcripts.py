"""Apps and compositors are told what they were told by an earlier wlproxy, byte for byte.

`transcripts/` holds the Wayland traffic of `tests.peers.scenarios` on both sides: between
an app and the agent, and between the proxy and a compositor.  Whoever changes how wlproxy
works inside changes no line there; whoever changes what it says sees which lines.

Two things are left out, since nobody promises them: the numbers of fds, and what a pool
holds while it is handed over.  Within a step each direction is in its order; which of two
sides spoke first is not noted, for that is the scheduler's choice.

A transcript that is missing is written, and its test fails, so that somebody reads it.

With a frame around its windows an app is told and says the same, but for sizes, places and
states of windows and popups; the compositor is told the frame's parts besides.
"""

import os
import re
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.peers.dmabuf import DEVICE, CopyingDevice
from tests.peers.loopback import Loopback
from tests.peers.scenarios import SCENARIOS, Stage
from tests.peers.spoken import Conversation, describe
from tests.peers.tap import Tap
from wlproxy.protocol.channel.frames import Feature
from wlproxy.relay.look import POPUP_WIDTH, WIDTH, WindowFrame
from wlproxy_guest import session

TRANSCRIPTS = Path(__file__).parent / "transcripts"


@pytest.mark.parametrize("name", SCENARIOS)
async def test_everything_said_is_what_was_said_before(
    bare: Loopback,
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    said = await play(bare, nursery, tmp_path, monkeypatch, name)
    recorded = TRANSCRIPTS / f"{name}.txt"
    if not recorded.exists():
        recorded.write_text(said)
        pytest.fail(f"there was no {recorded.name}: it is recorded now")
    assert said == recorded.read_text()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_frame_changes_nothing_but_sizes_places_and_states(
    bare: Loopback,
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    frame = WindowFrame(0x0000FF)
    said = await play(bare, nursery, tmp_path, monkeypatch, name, frame)
    recorded = (TRANSCRIPTS / f"{name}.txt").read_text()

    assert list(of_app(said)) == [within_frame(line) for line in of_app(recorded)]
    framed, unframed = (Counter(of_compositor(text)) for text in (said, recorded))
    assert unframed - framed <= Counter({GEOMETRY: framed[GEOMETRY]})
    assert (framed - unframed).keys() <= OF_FRAMES, framed - unframed


async def play(
    bare: Loopback,
    nursery: trio.Nursery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    frame: WindowFrame | None = None,
) -> str:
    """Play a scenario; returns what was said, as a transcript."""
    scenario = SCENARIOS[name]
    if scenario.dmabuf:
        monkeypatch.setattr(session, "find_main_device", lambda: DEVICE)
        monkeypatch.setattr(session, "implicit_layout_is_linear", lambda: False)
        bare.locator.features |= Feature.LOCATE_DMABUF
    apps = Tap(tmp_path / "guest", bare.display, "app", "agent")
    proxy = Tap(tmp_path / "host", bare.compositor_path, "proxy", "compositor")
    await nursery.start(apps.run)
    await nursery.start(proxy.run)
    await bare.start_compositor(
        native_shm=scenario.native_shm, dmabuf=scenario.dmabuf and scenario.device
    )
    await bare.start_agent()
    device = CopyingDevice() if scenario.device else None
    await bare.start_host(proxy.path, device, frame=frame)
    stage = Stage(bare, apps, proxy)
    proxy.begin()  # it has looked at the compositor
    app = await stage.connect()
    if name != "globals_and_what_is_hidden":  # where it is written down, once
        await stage.step("", app)
        stage.lines.clear()

    await scenario.play(stage, app)

    assert scenario.play.__doc__
    if bare.clients():
        app.close()
        await bare.quiet()
    return "\n".join([scenario.play.__doc__.strip(), *stage.lines, ""])


# ---- what a frame is, in a transcript

TILED = "05000000060000000700000008000000"
"""The states of a window that is tiled at all edges (xdg_toplevel.state)."""
GEOMETRY = "xdg_surface.set_window_geometry"
OF_FRAMES = {
    *("wl_registry.bind", "wl_compositor.create_surface", "wl_display.delete_id"),
    *("wl_subcompositor.get_subsurface", "wl_subsurface.set_position"),
    *("wp_viewporter.get_viewport", "wp_viewport.set_source"),
    *("wp_viewport.set_destination", "wl_shm.create_pool", "wl_shm_pool.create_buffer"),
    *("wl_shm_pool.destroy", "wl_surface.attach", "wl_surface.damage"),
    *("wl_surface.commit", "wl_buffer.release", GEOMETRY),
    *(
        "wl_shm.format",
        "xdg_positioner.set_anchor_rect",
        "xdg_positioner.set_size",
        "wl_subsurface.destroy",
        "wl_surface.destroy",
    ),
    *("wp_viewport.destroy", "wl_buffer.destroy"),
}
"""What is said about the frames' own surfaces, and of windows with them."""


def of_app(transcript: str) -> Iterator[str]:
    """Yield what is said between app and agent."""
    talk = "app"
    for line in transcript.splitlines()[1:]:
        if not line.startswith(" "):
            talk = line
        if "app" in talk.split() or line.startswith("=="):
            yield line


def of_compositor(transcript: str) -> Iterator[str]:
    """Yield which messages there are between proxy and compositor."""
    talk = ""
    for line in transcript.splitlines()[1:]:
        if not line.startswith(" "):
            talk = line
        elif "compositor" in talk.split():
            yield re.sub(r"#\d+", "", line.strip()).partition("(")[0]


def within_frame(line: str) -> str:
    """Say what an app is told of a window or popup that has a frame around it."""

    def toplevel(found: re.Match[str]) -> str:
        width, height = (max(0, int(found[i]) - 2 * WIDTH) for i in (2, 3))
        return f"{found[1]}({width}, {height}, [{found[4]}{TILED}])"

    def popup(found: re.Match[str]) -> str:
        x, y = (int(found[i]) + POPUP_WIDTH - WIDTH for i in (2, 3))
        width, height = (int(found[i]) - 2 * POPUP_WIDTH for i in (4, 5))
        return f"{found[1]}({x}, {y}, {width}, {height})"

    line = re.sub(
        r"(xdg_toplevel#\d+\.configure)\((\d+), (\d+), \[(\w*)\]\)", toplevel, line
    )
    places = r"\((-?\d+), (-?\d+), (\d+), (\d+)\)"
    return re.sub(rf"(xdg_popup#\d+\.configure){places}", popup, line)


def test_every_transcript_is_of_a_scenario() -> None:
    assert {path.stem for path in TRANSCRIPTS.iterdir()} == SCENARIOS.keys()


def get_registry(more: bytes = b"") -> bytes:
    body = struct.pack("=I", 2) + more
    return struct.pack("=II", 1, (8 + len(body)) << 16 | 1) + body


def test_a_message_in_pieces_is_one_line() -> None:
    conversation = Conversation()
    first, second = get_registry()[:5], get_registry()[5:]

    assert conversation.hear("requests", first, []) == []
    with pytest.raises(AssertionError):
        conversation.nothing_in_half()
    said = conversation.hear("requests", second, [])
    assert said == ["wl_display#1.get_registry(new wl_registry#2)"]
    conversation.nothing_in_half()


def test_bytes_that_a_line_would_not_tell_are_noticed() -> None:
    conversation = Conversation()

    with pytest.raises(AssertionError, match=r"wl_display\.get_registry"):
        conversation.hear("requests", get_registry(b"more"), [])


def test_fds_are_told_by_their_kind() -> None:
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    described = [describe(fd, contents=True) for fd in (ours, theirs)]
    os.close(ours)
    os.close(theirs)

    assert described == ["<pipe to read>", "<pipe to write>"]
    conversation = Conversation()
    conversation.hear("requests", b"\0", described[1:])
    assert conversation.end("requests") == "(hangs up, leaving 00 <pipe to write>)"
