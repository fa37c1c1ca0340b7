"""xdg-shell within a frame: the app's sizes on one side, those with the frame on the other."""

import struct

import pytest

from tests.relay.frame.stage import RED, FrameStage, union
from tests.relay.playbook import Stage
from tests.relay.things import Thing
from wlproxy.relay.frame.layout import Side
from wlproxy.relay.inputs import PolicyChanged
from wlproxy.relay.look import Label, WindowFrame
from wlproxy.relay.policy_tree import Fullscreen, Policy, Popups, Windows
from wlproxy.relay.wire.context import RelayConfig

LABEL = Label(60, 36, b"\0" * 60 * 36 * 4)


def states(*numbers: int) -> bytes:
    return struct.pack(f"={len(numbers)}I", *numbers)


def configured(play: FrameStage, name: str, *args: int | bytes) -> list[str]:
    """What the app hears of an event about its window."""
    play.said()
    play.host.event(play.host_thing("xdg_toplevel"), name, *args)
    play.flush()
    return play.said_by("app")


def test_the_app_is_given_what_the_frame_leaves_and_is_tiled() -> None:
    play = FrameStage()

    (said,) = configured(play, "configure", 800, 600, states(4))

    sent = states(4, 5, 6, 7, 8).decode()
    assert said == f"{play.toplevel}.configure(790, 590, {sent!r})"


def test_states_are_not_said_twice_and_no_size_stays_none() -> None:
    play = FrameStage()

    (said,) = configured(play, "configure", 0, 0, states(8, 6))

    assert said.endswith(f"configure(0, 0, {states(8, 6, 5, 7).decode()!r})")


def test_bounds_are_what_the_frame_leaves() -> None:
    play = FrameStage(WindowFrame(0, 5, LABEL))

    (said,) = configured(play, "configure_bounds", 1000, 20)

    assert said.endswith("configure_bounds(990, 1)")


def test_limits_are_those_of_the_framed_window() -> None:
    play = FrameStage()
    play.app.request(play.toplevel, "set_min_size", 100, 50)
    play.app.request(play.toplevel, "set_max_size", 0, 2147483647)

    said = play.said_by("host")

    assert said[0].endswith("set_min_size(110, 60)")
    assert said[1].endswith("set_max_size(0, 2147483647)")


def test_geometry_is_told_with_the_frame_before_the_commit_that_shows_it() -> None:
    play = FrameStage()
    play.shown(100, 80)
    play.said()

    play.app.request(play.xdg_surface, "set_window_geometry", 10, 10, 80, 60)
    assert play.said_by("host") == []
    play.app.request(play.window, "commit")

    said = play.said_by("host")
    assert said[-2].endswith("set_window_geometry(5, 5, 90, 70)")
    assert said[-1].endswith(".commit()")
    assert play.inner() == (10, 10, 90, 70)


def test_a_frame_that_stays_costs_nothing() -> None:
    play = FrameStage()
    play.shown(100, 80)
    play.said()

    play.app.request(play.window, "damage", 0, 0, 9, 9)
    play.app.request(play.window, "commit")

    assert [line.split(".")[1] for line in play.said_by("host")] == [
        "damage(0, 0, 9, 9)",
        "commit()",
    ]


def test_the_order_of_the_first_frame() -> None:
    play = FrameStage(WindowFrame(0x336699, 5, LABEL))
    play.shown(100, 80)

    said = [line.split(".", 1)[1] for line in play.said_by("host") if "@" in line]
    placed = [line for line in said if line.startswith("set_position")]
    assert placed == [
        "set_position(-5, -18)",
        "set_position(50, -18)",
        "set_position(-5, 80)",
        "set_position(50, 80)",
        "set_position(-5, 0)",
        "set_position(100, 0)",
        "set_position(0, -18)",
    ]
    assert said[-2:] == ["set_window_geometry(-5, -18, 110, 103)", "commit()"]
    assert play.strips()[-1] == (0, -18, 30, 0)


def test_the_colour_is_in_one_buffer_for_all_windows() -> None:
    play = FrameStage()
    play.shown(100, 80)

    said = play.said()
    assert sum("CreateFile" in line for line in said) == 1
    sources = [line.split(".")[1] for line in said if "set_source" in line]
    assert sources == [
        *["set_source(16384, 1024, 32768, 2048)"] * 4,
        *["set_source(1024, 16384, 2048, 32768)"] * 2,
    ]

    play.app.request(play.toplevel, "destroy")
    play.nothing_left()
    play.become_window()
    play.app.request(play.window, "commit")
    assert not any("CreateFile" in line for line in play.said())


@pytest.mark.parametrize("missing", [6, 13])
def test_no_window_is_shown_that_cannot_be_framed(missing: int) -> None:
    play = FrameStage()
    size = play.view(play.window)
    interface, _ = play.host.globals.pop(missing)
    play.host.event(play.host_thing("wl_registry"), "global_remove", missing)
    play.flush()

    play.paint_plain(play.window, size, 10, 10)
    play.app.request(play.window, "commit")

    assert play.app.error is not None
    assert f"the compositor has no {interface}" in play.app.error[2]
    assert not play.screen.mapped()


def test_the_strips_go_after_the_window() -> None:
    play = FrameStage()
    play.shown(100, 80)
    play.said()

    play.app.request(play.toplevel, "destroy")

    said = play.said_by("host")
    assert said[0].startswith("xdg_toplevel@")
    assert len(said) == 1 + len(Side) * 3
    assert all(line.endswith(".destroy()") for line in said)

    play.become_window()
    play.app.request(play.window, "commit")
    assert len(play.strips()) == len(Side)


def test_a_window_that_is_hidden_and_shown_again_is_framed_again() -> None:
    play = FrameStage()
    play.shown(100, 80)
    play.app.request(play.window, "attach", 0, 0, 0)
    play.app.request(play.window, "commit")
    assert not play.screen.mapped()
    play.said()

    play.shown(100, 80)

    assert "set_window_geometry(-5, -5, 110, 90)" in "".join(play.said())
    assert play.inner() == (0, 0, 100, 80)


def test_menus_and_drags_are_at_places_of_the_framed_window() -> None:
    play = FrameStage()
    seat = play.app.bind("wl_seat")
    play.said()

    play.app.request(play.toplevel, "show_window_menu", seat.id, 7, 30, 40)

    (said,) = play.said_by("host")
    assert said.endswith("7, 35, 45)")

    drags = play.plug("xdg_toplevel_drag_manager_v1")
    devices = play.app.bind("wl_data_device_manager")
    source = play.app.request(devices, "create_data_source")
    made = play.app.request(drags, "get_xdg_toplevel_drag", source.id)
    play.said()
    play.app.request(made, "attach", play.toplevel.id, 3, -9)
    assert play.said_by("host")[-1].endswith(", 8, -4)")


# ---------------------------------------------------------------- the whole screen

FILLS, ACTIVE = struct.pack("=I", 2), struct.pack("=I", 4)
UNFRAMED = Policy(windows=Windows(Fullscreen.ON))


def tell(play: FrameStage, serial: int, states: bytes) -> str:
    """Have the compositor tell the window to be 800x600; return what the app hears."""
    play.said()
    window = play.host_thing("xdg_toplevel")
    play.host.event(window, "configure", 800, 600, states)
    play.host.event(play.host_thing("xdg_surface"), "configure", serial)
    play.flush()
    heard = play.said()
    play.log += [line for line in heard if line.startswith("host")]
    return next(line for line in heard if line.startswith("app")).split(".")[1]


def fill(play: FrameStage, serial: int = 7) -> None:
    assert tell(play, serial, FILLS).startswith("configure(800, 600, ")
    play.app.request(play.xdg_surface, "ack_configure", serial)
    play.may_be_bare = True
    play.shown(800, 600)


def test_the_frame_stays_around_a_window_that_fills_the_screen() -> None:
    play = FrameStage()
    play.shown(100, 80)
    assert tell(play, 7, FILLS).startswith("configure(790, 590, ")
    play.app.request(play.xdg_surface, "ack_configure", 7)
    play.shown(790, 590)
    assert play.geometry() == (-5, -5, 795, 595)


@pytest.mark.parametrize("eager", [False, True])
def test_it_goes_where_that_is_allowed_and_comes_again(*, eager: bool) -> None:
    play = FrameStage(eager=eager, policy=UNFRAMED)
    play.shown(100, 80)
    fill(play)
    assert not play.strips()
    assert play.geometry() == (0, 0, 800, 600)
    assert tell(play, 8, FILLS + ACTIVE).startswith("configure(800, 600, ")
    play.app.request(play.xdg_surface, "ack_configure", 8)
    play.shown(800, 600)
    assert not play.strips()
    # At once, and not when the app likes.
    assert tell(play, 9, ACTIVE).startswith("configure(790, 590, ")
    play.may_be_bare = False
    assert len(play.strips()) == len(Side)
    assert union(play.strips()) == (0, 0, 800, 600)
    play.app.request(play.window, "commit")
    assert play.geometry() == (-5, -5, 805, 605)
    play.shown(100, 80)
    assert play.inner() == (0, 0, 100, 80)


def test_it_stays_until_the_app_has_acknowledged_that() -> None:
    play = FrameStage(policy=UNFRAMED)
    play.shown(100, 80)
    tell(play, 7, FILLS)
    play.shown(800, 600)
    assert play.geometry() == (-5, -5, 805, 605)
    tell(play, 8, b"")
    play.app.request(play.xdg_surface, "ack_configure", 7)  # too late
    play.shown(800, 600)
    assert play.geometry() == (-5, -5, 805, 605)
    for serial in range(100, 300):  # nobody keeps them all
        tell(play, serial, FILLS)
    play.app.request(play.xdg_surface, "ack_configure", 100)
    play.shown(800, 600)
    assert len(play.strips()) == len(Side)
    play.may_be_bare = True
    play.app.request(play.xdg_surface, "ack_configure", 299)
    play.shown(800, 600)
    assert not play.strips()


def test_another_policy_has_the_frame_be_there_again() -> None:
    play = FrameStage(policy=UNFRAMED)
    play.shown(100, 80)
    fill(play, 7)
    play.run(play.relay.receive(PolicyChanged(UNFRAMED, RED)))
    assert not play.strips()
    play.said()
    play.run(play.relay.receive(PolicyChanged(Policy(), RED)))
    play.may_be_bare = False
    assert union(play.strips()) == (0, 0, 800, 600)
    told = [line.split(".")[1] for line in play.said_by("app")]
    assert told[0].startswith("configure(790, 590, ")
    assert told[1:] == ["configure(7)"]
    play.app.request(play.xdg_surface, "ack_configure", 7)
    assert not asked(play)  # the compositor has heard that
    play.shown(790, 590)
    assert play.geometry() == (-5, -5, 795, 595)
    play.said()
    play.run(play.relay.receive(PolicyChanged(FREE, RED)))
    assert not play.said_by("app")


def test_another_policy_before_the_app_has_acknowledged() -> None:
    play = FrameStage(policy=UNFRAMED)
    play.shown(100, 80)
    tell(play, 7, FILLS)
    play.run(play.relay.receive(PolicyChanged(Policy(), RED)))
    play.said()
    play.app.request(play.xdg_surface, "ack_configure", 7)
    assert asked(play) == ["ack_configure(7)"]
    play.shown(790, 590)
    assert play.geometry() == (-5, -5, 795, 595)


def test_another_policy_before_the_serial_has_come() -> None:
    """What the app was told of all of the screen is not yet in force: it is told better before."""
    play = FrameStage(policy=UNFRAMED)
    play.shown(100, 80)
    play.host.event(play.host_thing("xdg_toplevel"), "configure", 800, 600, FILLS)
    play.flush()
    play.said()
    play.run(play.relay.receive(PolicyChanged(Policy(), RED)))
    (told,) = [line.split(".")[1] for line in play.said_by("app")]
    assert told.startswith("configure(790, 590, ")

    play.host.event(play.host_thing("xdg_surface"), "configure", 7)
    play.flush()
    assert [line.split(".")[1] for line in play.said_by("app")] == ["configure(7)"]
    play.app.request(play.xdg_surface, "ack_configure", 7)
    play.shown(790, 590)
    assert play.geometry() == (-5, -5, 795, 595)


def test_places_in_a_window_without_its_frame_are_the_apps_own() -> None:
    play = FrameStage(policy=UNFRAMED)
    play.shown(100, 80)
    fill(play)
    seat = play.app.bind("wl_seat")
    play.said()
    play.app.request(play.toplevel, "show_window_menu", seat.id, 7, 30, 40)
    assert play.said_by("host")[0].endswith("7, 30, 40)")
    popup(play, play.xdg_surface, positioner(play))
    assert not any("set_anchor_rect(8" in line for line in play.said())


def test_another_colour_of_a_frame_that_is_not_shown() -> None:
    play = FrameStage(WindowFrame(1, label=LABEL), policy=UNFRAMED)
    play.shown(100, 80)
    fill(play)
    play.said()
    blue = WindowFrame(2, label=LABEL)
    play.run(play.relay.receive(PolicyChanged(UNFRAMED, blue)))
    assert not any("attach" in line for line in play.said())
    tell(play, 9, b"")
    assert len(play.strips()) == len(Side) + 1


def test_a_window_that_is_shown_again_has_its_frame() -> None:
    play = FrameStage(policy=UNFRAMED)
    play.shown(100, 80)
    fill(play)
    play.app.request(play.window, "attach", 0, 0, 0)
    play.app.request(play.window, "commit")
    play.may_be_bare = False
    play.shown(100, 80)
    assert play.inner() == (0, 0, 100, 80)


# ---------------------------------------------------------------- popups


def positioner(play: FrameStage) -> Thing:
    made = play.app.request(play.shell_thing, "create_positioner")
    play.app.request(made, "set_size", 20, 20)
    play.app.request(made, "set_anchor_rect", 3, 4, 10, 10)
    play.app.request(made, "set_parent_size", 100, 80)
    return made


def popup(play: FrameStage, parent: Thing, place: Thing) -> tuple[Thing, Thing]:
    """Make a popup; return it and its xdg_surface."""
    surface = play.new_surface()
    made = play.app.request(play.shell_thing, "get_xdg_surface", surface.id)
    play.said()
    return play.app.request(made, "get_popup", parent.id, place.id), made


FREE = Policy(windows=Windows(popups=Popups.FREE))


def asked(play: FrameStage) -> list[str]:
    return [line.split(".")[1] for line in play.said_by("host")]


def test_popups_are_placed_in_the_framed_window() -> None:
    play = FrameStage()
    place = positioner(play)
    menu, _ = popup(play, play.xdg_surface, place)

    framed = ["set_size(24, 24)", "set_anchor_rect(8, 9, 10, 10)"]
    plain = ["set_size(20, 20)", "set_anchor_rect(3, 4, 10, 10)"]
    framed.append("set_parent_size(110, 90)")
    plain.append("set_parent_size(100, 80)")
    told = asked(play)
    assert told[:3] == framed
    assert told[3].startswith("get_popup(")
    assert told[4:] == plain

    play.host.event(play.host_thing("xdg_popup"), "configure", 8, 19, 24, 24)
    play.flush()
    assert play.said_by("app") == [f"{menu}.configure(5, 16, 20, 20)"]

    play.app.request(menu, "reposition", place.id, 77)
    told = asked(play)
    assert told[:3] == framed
    assert told[3].startswith("reposition(")


def test_popups_of_popups_are_placed_in_framed_popups() -> None:
    play = FrameStage()
    place = positioner(play)
    _, outer = popup(play, play.xdg_surface, place)
    inner, _ = popup(play, outer, place)

    told = asked(play)
    assert told[:2] == ["set_size(24, 24)", "set_anchor_rect(5, 6, 10, 10)"]
    assert told[2] == "set_parent_size(104, 84)"
    play.host.event(play.host_thing("xdg_popup", 1), "configure", 8, 19, 24, 24)
    play.flush()
    assert play.said_by("app") == [f"{inner}.configure(8, 19, 20, 20)"]


def test_popups_that_are_free() -> None:
    play = FrameStage(policy=FREE)
    play.shown(100, 80)
    place = positioner(play)
    menu, outer = popup(play, play.xdg_surface, place)
    assert asked(play)[0] == "set_anchor_rect(8, 9, 10, 10)"
    play.host.event(play.host_thing("xdg_popup"), "configure", 8, 19, 20, 20)
    play.flush()
    assert play.said_by("app") == [f"{menu}.configure(3, 14, 20, 20)"]
    popup(play, outer, place)
    assert [line.partition("(")[0] for line in asked(play)] == ["get_popup"]
    play.app.request(outer, "set_window_geometry", 1, 2, 3, 4)
    assert asked(play) == ["set_window_geometry(1, 2, 3, 4)"]


def shown_popup(play: FrameStage) -> tuple[Thing, Thing, Thing]:
    """Show a popup of 40x30; return its surface, its xdg_surface and itself."""
    menu, made = popup(play, play.xdg_surface, positioner(play))
    surface = list(play.app.things.values())[-3]
    assert surface.interface.name == "wl_surface"
    play.paint_plain(surface, play.view(surface), 40, 30)
    play.app.request(surface, "commit")
    return surface, made, menu


def test_a_popup_has_a_thin_frame_without_a_label() -> None:
    play = FrameStage(WindowFrame(0x336699, 5, LABEL))
    play.shown(100, 80)
    surface, made, menu = shown_popup(play)

    [on_screen] = play.screen.popups
    assert len(play.strips(on_screen)) == len(Side)
    assert play.screen.geometry(on_screen) == (-2, -2, 42, 32)
    # What sticks out is covered, as of a window.
    play.app.request(made, "set_window_geometry", 10, 10, 20, 10)
    play.app.request(surface, "commit")
    assert play.screen.geometry(on_screen) == (8, 8, 32, 22)
    assert union(play.strips(on_screen)) == (0, 0, 40, 30)
    play.said()
    play.app.request(menu, "destroy")
    said = play.said_by("host")
    assert said[0].startswith("xdg_popup@")
    assert len(said) == 1 + len(Side) * 3
    assert len(play.strips()) == len(Side) + 1


def test_a_popup_that_is_given_its_parent_elsewhere() -> None:
    play = FrameStage()
    made = play.app.request(play.shell_thing, "get_xdg_surface", play.new_surface().id)
    place = positioner(play)
    play.said()
    menu = play.app.request(made, "get_popup", 0, place.id)
    assert asked(play)[0] == "set_size(24, 24)"
    play.host.event(play.host_thing("xdg_popup"), "configure", 8, 19, 24, 24)
    play.flush()
    assert play.said_by("app") == [f"{menu}.configure(10, 21, 20, 20)"]


def test_what_is_no_positioner_places_nothing() -> None:
    play = FrameStage()
    made = play.app.request(play.shell_thing, "get_xdg_surface", play.new_surface().id)
    play.said()
    play.app.request(made, "get_popup", play.xdg_surface.id, play.surface.id)
    assert play.app.error is not None
    assert not play.said_by("host")


def test_a_popup_whose_xdg_surface_goes_first() -> None:
    play = FrameStage()
    play.shown(100, 80)
    _, made, menu = shown_popup(play)
    play.may_be_bare = True  # a compositor ends who does that
    play.app.request(made, "destroy")
    play.said()
    play.app.request(menu, "destroy")
    assert [line.partition("(")[0] for line in asked(play)] == ["destroy"]


def test_a_frame_narrower_than_a_popups_is_narrow_there_too() -> None:
    play = FrameStage(WindowFrame(0x336699, 1))
    play.shown(100, 80)
    shown_popup(play)
    [on_screen] = play.screen.popups
    assert play.screen.geometry(on_screen) == (-1, -1, 41, 31)


def test_a_positioner_that_lacks_its_rectangle_is_the_compositors_to_refuse() -> None:
    play = FrameStage()
    place = play.app.request(play.shell_thing, "create_positioner")
    popup(play, play.xdg_surface, place)

    told = play.said_by("host")
    assert [line.split("(")[0].split(".")[1] for line in told] == ["get_popup"]


# ---------------------------------------------------------------- off


def test_without_a_frame_everything_goes_as_ever() -> None:
    play = Stage(config=RelayConfig(vm_name="work"))
    shell = play.app.bind("xdg_wm_base")
    made = play.app.request(shell, "get_xdg_surface", play.surface.id)
    window = play.app.request(made, "get_toplevel")
    play.said()

    play.app.request(made, "set_window_geometry", 1, 2, 3, 4)
    play.app.request(window, "set_min_size", 5, 6)
    play.host.event(play.host_thing("xdg_toplevel"), "configure", 80, 60, b"")
    play.flush()

    assert play.said() == [
        "host: xdg_surface@7.set_window_geometry(1, 2, 3, 4)",
        "host: xdg_toplevel@8.set_min_size(5, 6)",
        "app: xdg_toplevel@8.configure(80, 60, '')",
    ]
    assert RED.top == RED.width
