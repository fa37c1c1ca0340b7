"""Buffers: nothing until shown, then one of three modes, and nothing left behind."""

from dataclasses import replace

import pytest

from tests.relay import compositor
from tests.relay.playbook import NOTHING, ONCE, ONLY_SHM, ZERO_COPY, Stage
from tests.relay.shell import PAGE
from tests.relay.things import Thing, integer
from wlproxy.protocol.channel.frames import Located, LocateStatus
from wlproxy.relay.capabilities import CompositorCapabilities, Preference
from wlproxy.relay.commands import CreateCopyBuffer, CreateUdmabuf
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import BufferCreated, CompositorClosed
from wlproxy.relay.relay import COMPOSITOR_ERRED
from wlproxy.relay.wire.context import RelayConfig


def show_all(play: Stage, *shown: Thing) -> None:
    for number, buffer in enumerate(shown, 1):
        play.paint(buffer, number)
        play.show(play.surface, buffer)
        assert play.host_pixels() == play.pixels(buffer)


def end(play: Stage, *shown: Thing) -> None:
    """Destroy everything, and see that nothing is left."""
    for buffer in shown:
        play.app.request(buffer, "destroy")
    play.app.request(play.surface, "destroy")
    assert play.app.error is None
    play.nothing_left()
    assert {t.interface.name for t in play.host.things.values()} <= {
        *("wl_display", "wl_registry", "wl_shm", "wl_compositor"),
        *("zwp_linux_dmabuf_v1", "wp_viewporter", "xdg_toplevel_icon_manager_v1"),
    }


# ---------------------------------------------------------------- lazy


def test_a_buffer_that_is_never_shown_costs_the_host_nothing() -> None:
    play = Stage()
    pool = play.pool(play.shm, PAGE)
    buffer = play.buffer(pool, 0, 32, 32, 128)
    play.app.request(buffer, "destroy")
    play.app.request(pool, "destroy")

    assert play.said() == [
        "app: wl_display@1.delete_id(7)",
        "app: wl_display@1.delete_id(6)",
        "agent: CloseMemory(1)",
    ]
    play.nothing_left()


def test_a_pool_may_go_before_its_buffers() -> None:
    play = Stage(ONLY_SHM)
    pool = play.pool(play.shm, 2 * PAGE)
    buffer = play.buffer(pool, 100, 32, 32, 128)

    play.app.request(pool, "destroy")
    assert play.said() == ["app: wl_display@1.delete_id(6)"]  # memory still needed

    play.show(play.surface, buffer)
    assert "agent: CloseMemory(1)" not in play.said()  # it may be located anew
    play.app.request(buffer, "destroy")
    assert "agent: CloseMemory(1)" in play.said()
    end(play)


# ---------------------------------------------------------------- mode A


def test_the_life_of_a_buffer_in_mode_a() -> None:
    play = Stage(ONLY_SHM)
    pool = play.pool(play.shm, 2 * PAGE)
    buffer = play.buffer(pool, 100, 32, 32, 128)

    play.app.request(play.surface, "attach", buffer.id, 0, 0)
    assert not play.said()  # a commit will show it, or it will be replaced

    play.app.request(play.surface, "commit")
    assert play.said() == [
        "agent: Locate(#1, memory 1, 100+4096)",
        "shell: CreateUdmabuf(2)",
        "host: wl_display@1.get_registry(new wl_registry@6)",
        "host: wl_registry@6.bind(2, new wl_shm@7)",
        "host: wl_shm@7.create_pool(new wl_shm_pool@8, fd 2, 4196)",
        "host: wl_shm_pool@8.create_buffer(new wl_buffer@9, 100, 32, 32, 128, 0)",
        "host: wl_shm_pool@8.destroy()",
        "host: wl_surface@5.attach(@9, 0, 0)",
        "host: wl_surface@5.commit()",
    ]

    play.app.request(play.surface, "attach", 0, 0, 0)
    play.app.request(play.surface, "commit")
    assert play.said() == [
        "host: wl_surface@5.attach(null, 0, 0)",
        "host: wl_surface@5.commit()",
        "app: wl_buffer@7.release()",
    ]

    play.host.answers_sync = False
    play.app.request(buffer, "destroy")
    assert play.said() == [
        "host: wl_buffer@9.destroy()",
        "host: wl_display@1.sync(new wl_callback@8)",
        "app: wl_display@1.delete_id(7)",
    ]
    assert play.shell.pins  # the compositor may still look at the pages

    play.host.answer()
    play.flush()
    assert play.said() == ["shell: CloseHandle(2)", "agent: Release(#1)"]
    play.app.request(pool, "destroy")
    play.nothing_left()


def test_the_pages_of_a_destroyed_buffer_stay_until_it_is_released() -> None:
    play = Stage(ONLY_SHM)
    play.host.releases = False  # as of a subsurface whose parent is not committed
    one, two = play.buffers(2)
    show_all(play, one)
    play.app.request(one, "destroy")
    show_all(play, two)
    assert one.id not in play.app.things  # as without us, the id is free at once
    assert len(play.shell.pins) == 2
    assert len(play.shell.udmabufs) == 2
    assert play.relay.ram_files() == {0}
    play.said()

    play.host.release()
    play.flush()
    assert play.said() == [
        "host: wl_buffer@9.destroy()",
        "host: wl_display@1.sync(new wl_callback@8)",
        "shell: CloseHandle(2)",
        "agent: Release(#1)",
    ]
    assert play.relay.ram_files() == {0}
    end(play, two)
    assert play.relay.ram_files() == set()


def test_a_buffer_costs_nothing_when_it_is_shown_again() -> None:
    play = Stage(ONLY_SHM)
    one, two = play.buffers(2)
    show_all(play, one, two)
    play.said()

    show_all(play, one, two, one, two)

    assert not [line for line in play.said() if line.startswith(("agent", "shell"))]
    assert play.mode == "A"
    assert play.shell.copied == 0
    end(play, one, two)


def test_buffers_of_the_same_pages_share_them() -> None:
    play = Stage(ONLY_SHM)
    pool = play.pool(play.shm, 8 * PAGE)
    one = play.buffer(pool, 0, 32, 32, 128)
    two = play.buffer(pool, 0, 16, 64, 64)
    play.app.request(pool, "destroy")
    play.said()

    show_all(play, one, two)

    said = play.said()
    assert sum("Locate" in line for line in said) == 1
    assert sum("CreateUdmabuf" in line for line in said) == 1
    play.app.request(one, "destroy")
    assert play.shell.pins
    end(play, two)


@pytest.mark.parametrize("stride", [256, 260, 64 * 4 + 1000])
@pytest.mark.parametrize("capabilities", [ZERO_COPY, ONLY_SHM, NOTHING])
def test_pixels_are_right_whatever_the_stride(
    capabilities: CompositorCapabilities, stride: int
) -> None:
    play = Stage(capabilities)
    one, two = play.buffers(2, stride)

    show_all(play, one, two, one, two)

    end(play, one, two)


# ---------------------------------------------------------------- mode B


def test_two_buffers_in_turn_become_dmabufs() -> None:
    play = Stage()
    one, two = play.buffers(2)

    show_all(play, one, two)
    assert play.mode == "A"
    play.said()
    show_all(play, one)  # released by now: made again, as a dmabuf of the same pages
    assert play.mode == "B"
    assert play.said()[1:7] == [
        "host: wl_buffer@9.destroy()",
        "host: wl_registry@6.bind(5, new zwp_linux_dmabuf_v1@8)",
        "host: zwp_linux_dmabuf_v1@8.create_params(new zwp_linux_buffer_params_v1@11)",
        "host: zwp_linux_buffer_params_v1@11.add(fd 2, 0, 256, 256, 0, 0)",
        "host: zwp_linux_buffer_params_v1@11.create(64, 64, 875713089, 0)",
        "host: zwp_linux_buffer_params_v1@11.destroy()",
    ]

    show_all(play, two, one, two)
    play.said()
    show_all(play, one, two, one)
    assert not [line for line in play.said() if "params" in line]
    assert play.shell.copied == 0
    end(play, one, two)


def test_a_buffer_that_is_held_or_shown_is_not_made_again() -> None:
    play = Stage()
    play.host.releases = False
    one, two = play.buffers(2)

    show_all(play, one, two, one)

    assert play.mode == "A"
    end(play, one, two)


def test_a_single_buffer_for_each_size_stays_in_mode_a() -> None:
    play = Stage()
    one, two = play.buffers(2)

    show_all(play, one, one, two, two, two)

    assert play.mode == "A"  # in mode B the app would wait for the release for ever
    end(play, one, two)


def test_a_single_buffer_stays_in_mode_a() -> None:
    play = Stage()
    (one,) = play.buffers(1)

    show_all(play, one, one, one)

    assert (play.mode, play.reason) == (
        "A",
        "zero-copy; not B: only for windows that take buffers in turn",
    )
    end(play, one)


def test_the_user_may_insist_on_mode_b() -> None:
    play = Stage(config=RelayConfig(preference=Preference.DMABUF))
    (one,) = play.buffers(1)

    show_all(play, one)

    assert play.mode == "B"
    end(play, one)


def test_a_refused_import_falls_back_to_mode_a_for_good() -> None:
    play = Stage()
    play.host.imports = "refuse"
    one, two = play.buffers(2)

    show_all(play, one, two, one, two)
    assert play.mode == "A"
    assert play.reason == "zero-copy; not B: the compositor refused the import"
    play.said()
    show_all(play, one, two)

    assert not [line for line in play.said() if "params" in line]
    end(play, one, two)


def test_a_refused_import_falls_back_to_mode_c_without_mode_a() -> None:
    play = Stage(replace(ZERO_COPY, shm_udmabuf=False, shm_udmabuf_reason="weston 1"))
    play.host.imports = "refuse"
    (one,) = play.buffers(1)

    show_all(play, one)

    assert play.mode == "C"
    assert play.reason == "weston 1; not B: the compositor refused the import"
    end(play, one)


def test_linux_dmabuf_has_gone_since_the_probe() -> None:
    gone = _stage_without(5)
    one, two = gone.buffers(2)

    show_all(gone, one, two, one)

    assert gone.mode == "A"
    assert "took linux-dmabuf away" in gone.reason
    end(gone, one, two)


def _stage_without(name: int) -> Stage:
    kept = compositor.GLOBALS.pop(name)
    try:
        return Stage()
    finally:
        compositor.GLOBALS[name] = kept


def test_requests_wait_for_an_import_and_events_do_not() -> None:
    play = Stage()
    one, two = play.buffers(2)
    show_all(play, one, two)
    play.host.imports = "hold"
    play.said()

    play.show(play.surface, one)
    credit = play.credit
    play.app.request(play.app.display, "sync")
    assert play.said_by("host")[-1].startswith("zwp_linux_buffer_params_v1@11.create(")
    assert play.credit == credit
    play.host.event(play.host_thing("wl_registry"), "global_remove", 8)
    play.flush()
    assert play.said_by("app") == ["wl_registry@2.global_remove(8)"]

    play.host.answer()
    play.flush()
    assert play.said_by("host")[:2] == [
        "zwp_linux_buffer_params_v1@11.destroy()",
        "wl_surface@5.attach(@4278190080, 0, 0)",
    ]
    assert play.credit > credit
    end(play, one, two)


def test_an_import_is_answered_twice() -> None:
    play = Stage(config=RelayConfig(preference=Preference.DMABUF))
    play.host.imports = "hold"
    (one,) = play.buffers(1)
    play.show(play.surface, one)

    (answer,) = play.host.waiting
    play.deliver = False
    answer()
    answer()
    play.flush()

    assert play.closed is None
    assert play.mode == "B"


# ---------------------------------------------------------------- mode C


def test_the_life_of_a_buffer_in_mode_c() -> None:
    play = Stage(NOTHING)
    (one,) = play.buffers(1)

    show_all(play, one)
    assert play.said() == [
        "host: wl_surface@5.damage_buffer(0, 0, 2147483647, 2147483647)",
        "agent: Locate(#1, memory 1, 256+16384)",
        "shell: CreateCopyBuffer(2)",
        "host: wl_display@1.get_registry(new wl_registry@6)",
        "host: wl_registry@6.bind(2, new wl_shm@7)",
        "host: wl_shm@7.create_pool(new wl_shm_pool@8, fd 2, 16640)",
        "host: wl_shm_pool@8.create_buffer(new wl_buffer@9, 256, 64, 64, 256, 0)",
        "host: wl_shm_pool@8.destroy()",
        "host: wl_surface@5.attach(@9, 0, 0)",
        "shell: copied 16384x1",
        "host: wl_surface@5.commit()",
    ]
    assert (play.mode, play.reason) == ("C", "no /dev/udmabuf")
    assert play.warnings() == ["surface 5 64x64: copied, mode C (no /dev/udmabuf)"]
    assert play.relay.surfaces()[0].bytes_copied == play.shell.copied == 16384
    end(play, one)


def test_the_user_may_ask_for_copies() -> None:
    play = Stage(config=RelayConfig(preference=Preference.COPY))
    (one,) = play.buffers(1)

    show_all(play, one)

    assert (play.mode, play.reason) == ("C", "asked for")
    end(play, one)


def test_too_many_extents_are_copied_and_the_reason_shows() -> None:
    play = Stage(replace(ZERO_COPY, udmabuf_list_limit=4))
    (one,) = play.buffers(1)

    show_all(play, one)

    assert play.mode == "C"
    assert play.reason == "5 extents, udmabuf list_limit is 4: raise it"
    end(play, one)


def test_a_failed_udmabuf_is_copied_and_the_reason_shows() -> None:
    play = Stage()
    play.create_fails = {CreateUdmabuf}
    one, two = play.buffers(2)

    show_all(play, one, two, one)

    assert play.mode == "C"
    assert play.reason == "not mapped: no memory (errno 12)"
    assert "cannot make a buffer: no memory (errno 12)" in play.warnings()
    end(play, one, two)


def test_without_memory_for_a_copy_a_buffer_is_not_shown() -> None:
    play = Stage(NOTHING)
    one, two = play.buffers(2)
    show_all(play, one)
    play.create_fails = {CreateCopyBuffer}
    play.said()

    play.show(play.surface, two)

    said = play.said()
    assert f"app: {two}.release()" in said
    assert said[-1] == "host: wl_surface@5.commit()"
    assert not [line for line in said if "attach" in line]
    assert (play.mode, play.reason) == (
        "C",
        "the host has no memory for a copy of its pixels",
    )
    assert play.host_pixels() == play.pixels(one)  # the surface keeps what it has

    # Where there is memory again, all goes on.
    play.create_fails = set()
    show_all(play, two)
    end(play, one, two)


def test_a_host_without_shm() -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers(1)
    play.relay.edit(lambda objects: objects["Context"][0].update(globals=[]))

    play.show(play.surface, one)

    assert play.app.error == (1, 3, f"wlproxy: {COMPOSITOR_ERRED}")
    assert "app(4711): the compositor broke the protocol: it has no wl_shm" in (
        play.warnings()
    )


# ---------------------------------------------------------------- destroying


def test_a_buffer_is_destroyed_while_it_is_attached() -> None:
    play = Stage(NOTHING)
    (one,) = play.buffers(1)
    play.paint(one, 3)
    play.app.request(play.surface, "attach", one.id, 0, 0)

    play.app.request(one, "destroy")
    play.app.request(play.surface, "damage", 0, 0, 64, 64)
    play.host_thing("wl_surface").facts.pop("pending")  # as libwayland does
    play.app.request(play.surface, "commit")

    assert play.app.error is None
    assert play.shell.pins  # of no use, but not in doubt either
    end(play)


def test_a_buffer_is_destroyed_while_it_is_shown() -> None:
    play = Stage()
    one, two = play.buffers(2)
    show_all(play, one)
    play.app.request(one, "destroy")
    play.said()
    assert play.shell.pins

    show_all(play, two)

    assert play.said()[-1] == "agent: Release(#1)"
    end(play, two)


def test_a_buffer_on_two_surfaces_is_freed_with_the_last() -> None:
    play = Stage(ONLY_SHM)
    second = play.new_surface()
    (one,) = play.buffers(1)
    show_all(play, one)
    play.show(second, one)
    play.app.request(one, "destroy")

    play.app.request(play.surface, "destroy")
    assert play.shell.pins
    play.app.request(second, "destroy")

    play.nothing_left()


def test_a_pending_and_current_buffer_is_freed_once() -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers(1)
    show_all(play, one)
    play.app.request(play.surface, "attach", one.id, 0, 0)
    play.app.request(one, "destroy")

    play.app.request(play.surface, "destroy")

    assert sum("Release" in line for line in play.said()) == 1
    play.nothing_left()


@pytest.mark.parametrize("attached", [True, False])
def test_a_destroyed_buffer_cannot_be_shown(*, attached: bool) -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers(1)
    play.app.request(play.surface, "attach", one.id, 0, 0)
    play.deliver = False  # its id is not free yet
    if not attached:
        play.app.request(play.surface, "attach", 0, 0, 0)
    play.app.request(one, "destroy")

    play.app.request(play.surface, "attach", one.id, 0, 0)

    assert play.app.error == (1, 0, f"invalid object {one.id}")


def test_a_destroyed_buffer_is_no_icon() -> None:
    play = Stage(ONLY_SHM)
    icons = play.app.bind("xdg_toplevel_icon_manager_v1")
    icon = play.app.request(icons, "create_icon")
    (one,) = play.buffers(1)
    show_all(play, one)
    play.show(play.surface, None)
    play.deliver = False  # its id is not free yet
    play.app.request(one, "destroy")

    play.app.request(icon, "add_buffer", one.id, 1)

    assert play.app.error == (1, 0, f"invalid object {one.id}")


def test_a_destroyed_buffer_that_is_still_shown_is_not_known_any_more() -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers(1)
    show_all(play, one)
    play.app.request(one, "destroy")

    play.app.request(play.surface, "attach", one.id, 0, 0)

    assert play.app.error == (1, 0, f"invalid object {one.id}")


def test_a_sync_is_answered_twice() -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers(1)
    show_all(play, one)
    play.show(play.surface, None)
    play.host.answers_sync = False
    play.app.request(one, "destroy")
    callback = play.host_thing("wl_callback")

    play.host.event(callback, "done", 1)
    play.host.event(callback, "done", 2)
    play.flush()

    assert play.closed is None
    play.nothing_left()


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            LocateStatus.OUT_OF_RANGE,
            "wlproxy: the pool's file ends before its buffer",
        ),
        (
            LocateStatus.NOT_PERMITTED,
            "wlproxy: the guest agent cannot locate the buffer: NOT_PERMITTED",
        ),
    ],
)
def test_a_buffer_that_cannot_be_located_ends_the_client(
    status: LocateStatus, words: str
) -> None:
    play = Stage()
    play.holds_locate = True
    (one,) = play.buffers(1)
    play.show(play.surface, one)

    play.answer_locate(Located(1, 1, status, 0, False, ()))

    assert play.app.error == (one.id, 2, words)


@pytest.mark.parametrize("held", ["locate", "create", "import"])
@pytest.mark.parametrize("how", ["guest", "compositor", "error"])
def test_a_stalled_client_ends(held: str, how: str) -> None:
    play = Stage(config=RelayConfig(preference=Preference.DMABUF))
    play.hold(held)
    (one,) = play.buffers(1)
    play.show(play.surface, one)
    assert not [line for line in play.said_by("host") if "attach" in line]

    if how == "guest":
        play.leave()
    else:
        if how == "error":
            play.host.event(play.host.display, "error", 1, 3, b"no")
            play.flush()
            play.app.request(play.app.display, "sync")
        play.run(play.relay.receive(CompositorClosed(1, "hung up")))

    assert play.closed is not None
    # Answers that were on their way find nobody.
    assert play.relay.receive(BufferCreated(1, Handle(2))) == []


def test_a_format_that_the_host_refuses_is_the_buffers_fault() -> None:
    play = Stage(ONLY_SHM)
    (one,) = play.buffers(1, fmt=0x20203852)  # R8
    play.deliver = False
    play.show(play.surface, one)
    pool_id = 8

    play.host.out.clear()
    play.host.event(
        Thing(1, play.host.display.interface, 1), "error", pool_id, 0, b"R8"
    )
    play.flush()

    assert play.app.error == (one.id, 0, "R8")


def test_an_icon_is_copied_when_it_is_added() -> None:
    play = Stage(NOTHING)
    icons = play.app.bind("xdg_toplevel_icon_manager_v1")
    icon = play.app.request(icons, "create_icon")
    (one,) = play.buffers(1)
    play.paint(one, 9)

    play.app.request(icon, "add_buffer", one.id, 1)

    said = play.said()
    assert said[-1].startswith("host: xdg_toplevel_icon_v1@7.add_buffer(")
    assert said[-2] == "shell: copied 16384x1"
    assert play.pixels(play.host_thing("wl_buffer")) == play.pixels(one)
    play.app.request(icon, "destroy")
    end(play, one)


def test_an_icon_without_copies() -> None:
    play = Stage(ONLY_SHM)
    icons = play.app.bind("xdg_toplevel_icon_manager_v1")
    icon = play.app.request(icons, "create_icon")
    (one,) = play.buffers(1)

    play.app.request(icon, "add_buffer", one.id, 1)

    assert play.shell.copied == 0


def test_buffers_of_another_protocol_are_left_alone() -> None:
    play = Stage()
    single = play.app.bind("wp_single_pixel_buffer_manager_v1")
    pixel = play.app.request(single, "create_u32_rgba_buffer", 0, 0, 0, 0xFFFFFFFF)
    (one,) = play.buffers(1)
    play.show(play.surface, pixel)
    assert play.host_thing("wl_surface").facts["current"] is play.host_thing(
        "wl_buffer"
    )

    play.show(play.surface, one)

    assert play.mode == "A"
    assert "app: wl_buffer@7.release()" in play.said()
    play.app.request(pixel, "destroy")
    assert "host: wl_buffer@7.destroy()" in play.said()


# ---------------------------------------------------------------- fds that are mapped once


def same_pages(play: Stage, number: int) -> list[Thing]:
    pool = play.pool(play.shm, 4 * PAGE)
    made = [play.buffer(pool, 0, 32, 32, 128) for _ in range(number)]
    play.app.request(pool, "destroy")
    play.said()
    return made


def pool_fds(play: Stage) -> list[int]:
    """The fds of the compositor's pools, by the buffers in them."""
    things = play.host.things.values()
    return [integer(t.facts["fd"]) for t in things if t.interface.name == "wl_buffer"]


def test_each_pool_has_a_fd_of_its_own_where_one_is_mapped_once() -> None:
    play = Stage(ONCE)
    one, two = same_pages(play, 2)
    show_all(play, one, two, one, two)
    assert play.mode == "A"
    assert len(play.shell.pins) == 1  # the same pages
    assert len(play.shell.mapped) == 2
    assert not play.shell.udmabufs  # nobody else may have it
    assert len(set(pool_fds(play))) == 2
    end(play, one, two)


def test_a_fd_that_is_mapped_as_often_as_wanted_is_made_once() -> None:
    play = Stage(ONLY_SHM)
    one, two = same_pages(play, 2)
    show_all(play, one, two)
    assert len(play.shell.udmabufs) == 1
    assert len(set(pool_fds(play))) == 1
    end(play, one, two)


def test_two_buffers_that_wait_for_a_fd_which_only_one_may_have() -> None:
    play = Stage(ONCE)
    one, two = same_pages(play, 2)
    other = play.new_surface()
    play.hold("create")
    play.show(play.surface, one)
    play.show(other, two)
    play.answer("create")
    play.answer("create")
    assert len(play.shell.mapped) == 2
    assert len(set(pool_fds(play))) == 2
    play.app.request(other, "destroy")
    end(play, one, two)


def test_a_fd_that_nobody_came_to_use() -> None:
    play = Stage(ONCE)
    (one,) = same_pages(play, 1)
    play.hold("create")
    play.show(play.surface, one)
    play.app.request(one, "destroy")
    play.answer("create")
    end(play)
