"""Buffers of dma-bufs: created, imported, shown in every mode, and nothing left behind."""

from dataclasses import replace

import pytest

from tests.relay.dmabufs import NV12, VIDEO, XRGB, DmabufStage, Part
from tests.relay.playbook import NOTHING, ONLY_SHM, Playbook
from tests.relay.shell import PAGE
from tests.relay.things import Thing
from wlproxy.protocol.channel.frames import Located, LocateStatus
from wlproxy.relay.capabilities import CompositorCapabilities, Preference
from wlproxy.relay.commands import CreateCopyBuffer, CreateUdmabuf
from wlproxy.relay.formats import fourcc
from wlproxy.relay.policy_tree import Limits, Policy

WITHOUT_SHM = replace(VIDEO, shm_udmabuf=False, shm_udmabuf_reason="no mmap")


def failed(play: DmabufStage) -> bool:
    return any("failed()" in line for line in play.said_by("app"))


# ---------------------------------------------------------------- create


def test_created_comes_once_the_host_has_acknowledged_the_import() -> None:
    play = DmabufStage()
    play.host.imports = "hold"

    params, parts = play.create()

    assert not play.app.created
    assert play.said() == [
        "agent: Locate(#1, memory 1, 256+16384)",
        "shell: CreateUdmabuf(2)",
        "host: wl_display@1.get_registry(new wl_registry@6)",
        "host: wl_registry@6.bind(5, new zwp_linux_dmabuf_v1@7)",
        "host: zwp_linux_dmabuf_v1@7.create_params(new zwp_linux_buffer_params_v1@8)",
        "host: zwp_linux_buffer_params_v1@8.add(fd 2, 0, 256, 256, 0, 0)",
        f"host: zwp_linux_buffer_params_v1@8.create(64, 64, {XRGB}, 0)",
    ]
    play.host.answer()
    play.flush()
    assert play.said() == [
        "host: zwp_linux_buffer_params_v1@8.destroy()",
        f"app: {params}.created(new wl_buffer@4278190080)",
    ]
    buffer = play.known(play.app.created.pop(), parts, (64, 64), XRGB)
    play.app.request(params, "destroy")
    play.said()

    play.show_right(buffer, buffer)  # one alone: it was a dma-buf from the start

    assert (play.mode, play.shell.copied) == ("B", 0)
    assert not [line for line in play.said() if "agent" in line or "shell" in line]
    play.end(buffer)


@pytest.mark.parametrize("at", ["locate", "create", "import"])
def test_a_roundtrip_ends_after_the_answer_to_what_was_asked_before(at: str) -> None:
    """Apps attach what they have by then; with nothing they would wait for ever."""
    play = DmabufStage()
    play.hold(at)

    params, _parts = play.create()
    play.app.request(play.app.display, "sync")

    assert not any("done" in line for line in play.said())
    play.answer(at)
    heard = [line for line in play.said() if "created" in line or "done" in line]
    assert ["created" in line for line in heard] == [True, False]
    play.app.request(params, "destroy")
    play.end(play.app.created.pop())


def test_the_client_goes_on_while_an_import_is_awaited() -> None:
    """With everything but a roundtrip."""
    play = DmabufStage()
    play.holds_locate = True

    params, _parts = play.create()
    compositor = play.app.bind("wl_compositor")
    play.app.request(compositor, "create_surface")

    assert any("create_surface" in line for line in play.said())
    play.answer_locate()
    assert [thing.interface.name for thing in play.app.created] == ["wl_buffer"]
    play.app.request(params, "destroy")
    play.end(play.app.created.pop())


@pytest.mark.parametrize("at", ["locate", "create", "import"])
def test_params_that_are_gone_before_the_answer(at: str) -> None:
    play = DmabufStage()
    play.hold(at)
    params, _parts = play.create()

    play.app.request(params, "destroy")

    assert play.app.error is None
    assert play.shell.open_memories or play.shell.pins  # nothing can be let go of yet
    play.answer(at)
    assert not play.app.created
    play.end()


@pytest.mark.parametrize(
    "located",
    [
        Located(1, 1, LocateStatus.UNSUPPORTED, 0, more=False, extents=()),
        Located(1, 1, LocateStatus.LIMIT_EXCEEDED, 0, more=False, extents=()),
        Located(1, 1, LocateStatus.OUT_OF_RANGE, 0, more=False, extents=()),
        Located(1, 1, LocateStatus.FAILED, 12, more=False, extents=()),
    ],
)
@pytest.mark.parametrize("gone", [True, False])
def test_pages_that_cannot_be_had(located: Located, *, gone: bool) -> None:
    play = DmabufStage()
    play.holds_locate = True
    params, _parts = play.create()
    if gone:
        play.app.request(params, "destroy")

    play.answer_locate(located)

    assert failed(play) is not gone
    # A Release of what is not pinned would fail the test.
    if not gone:
        play.app.request(params, "destroy")
    play.end()


def test_too_many_locations_are_no_reason_to_die(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Playbook, "policy", Policy(limits=Limits(app_locations=1)))
    play = DmabufStage()
    buffer = play.created()
    play.said()

    params, _parts = play.create(fmt=NV12)

    assert failed(play)
    play.app.request(params, "destroy")
    play.end(buffer)


def test_the_ids_of_created_buffers_are_free_at_once() -> None:
    play = DmabufStage()
    one = play.created()
    play.app.request(one, "destroy")

    two = play.created()

    assert one.id == two.id
    play.show_right(two)
    play.end(two)


# ---------------------------------------------------------------- create_immed


def test_an_immediate_buffer_costs_nothing_until_it_is_shown() -> None:
    play = DmabufStage()
    play.said()

    buffer = play.immed()

    assert play.said() == ["app: wl_display@1.delete_id(7)"]  # its params
    play.app.request(buffer, "destroy")
    assert play.said() == [
        "app: wl_display@1.delete_id(8)",
        "agent: CloseMemory(1)",
    ]
    play.end()


def test_params_that_were_not_used_let_go_of_their_dma_bufs() -> None:
    play = DmabufStage()
    params = play.params(play.parts(fmt=NV12))

    play.app.request(params, "destroy")

    assert not play.shell.open_memories
    play.end()


def test_an_immediate_buffer_is_imported_when_it_is_shown() -> None:
    play = DmabufStage()
    one, two = play.immed(), play.immed()

    play.show_right(one, two, one)

    assert (play.mode, play.reason) == ("B", "zero-copy, no upload either")
    assert not play.warnings()
    assert "create_immed" not in "".join(play.said_by("host"))  # weston would kill us
    play.end(one, two)


@pytest.mark.parametrize("known", [True, False])
def test_a_dead_buffer_is_told_and_handed_back(*, known: bool) -> None:
    play = DmabufStage()
    good = play.immed()
    play.show_right(good)
    parts = play.parts()
    params = play.params(parts)
    dead = play.app.request(params, "create_immed", 64, 64, XRGB, 0)
    if not known:
        play.app.request(params, "destroy")
    play.said()
    play.holds_locate = True

    play.app.request(play.surface, "attach", dead.id, 0, 0)
    play.app.request(play.surface, "commit")
    located = Located(1, 2, LocateStatus.FAILED, 5, more=False, extents=())
    play.answer_locate(located)
    play.holds_locate = False

    said = play.said()
    assert any("failed()" in line for line in said) is known
    assert f"app: {dead}.release()" in said
    assert not any("attach" in line for line in said)
    assert any("cannot be shown" in text for text in play.warnings())
    assert play.host_planes(good) == play.app_planes(good)  # it keeps what it had
    # Attached again, nothing is tried again.
    play.show(play.surface, dead)
    assert not [line for line in play.said() if "agent" in line]
    play.show_right(good)
    if known:
        play.app.request(params, "destroy")
    play.end(good, dead)


# ---------------------------------------------------------------- the other modes


@pytest.mark.parametrize(
    ("capabilities", "preference", "mode"),
    [
        (VIDEO, Preference.AUTO, "B"),
        (VIDEO, Preference.DMABUF, "B"),
        (VIDEO, Preference.SHM, "A"),
        (VIDEO, Preference.COPY, "C"),
        (ONLY_SHM, Preference.AUTO, "A"),
        (ONLY_SHM, Preference.DMABUF, "A"),
        (WITHOUT_SHM, Preference.SHM, "B"),
        (NOTHING, Preference.AUTO, "C"),
    ],
)
@pytest.mark.parametrize("immediate", [True, False])
def test_a_plain_buffer_in_every_mode(
    capabilities: CompositorCapabilities,
    preference: Preference,
    mode: str,
    *,
    immediate: bool,
) -> None:
    play = DmabufStage(capabilities, preference)
    make = play.immed if immediate else play.created
    one, two = make(), make()

    play.show_right(one, two, one, two, one)

    assert play.mode == mode
    assert bool(play.shell.copied) is (mode == "C")
    play.end(one, two)


@pytest.mark.parametrize("immediate", [True, False])
def test_a_stride_that_mode_b_does_not_take(*, immediate: bool) -> None:
    play = DmabufStage()
    parts = [Part(play.export(4 * PAGE), 100, 33 * 4)]
    params = play.params(parts)
    name = "create_immed" if immediate else "create"
    buffer = play.app.request(params, name, 33, 64, XRGB, 0)
    if not immediate:
        buffer = play.app.created.pop()
    play.app.request(params, "destroy")
    play.known(buffer, parts, (33, 64), XRGB)

    play.show_right(buffer, buffer)

    assert (play.mode, play.reason) == (
        "A",
        "zero-copy; not B: stride 132 is not a multiple of 64",
    )
    play.end(buffer)


@pytest.mark.parametrize("immediate", [True, False])
def test_a_refused_import_becomes_mode_a(*, immediate: bool) -> None:
    play = DmabufStage()
    play.host.imports = "refuse"

    buffer = play.immed() if immediate else play.created()
    play.show_right(buffer, buffer)

    assert (play.mode, play.reason) == (
        "A",
        "zero-copy; not B: the compositor refused the import",
    )
    play.end(buffer)


def test_a_udmabuf_that_cannot_be_made_becomes_mode_c() -> None:
    play = DmabufStage()
    play.create_fails = {CreateUdmabuf}

    buffer = play.created()
    play.show_right(buffer, buffer)

    assert play.mode == "C"
    assert "not mapped: no memory" in play.reason
    play.end(buffer)


@pytest.mark.parametrize("immediate", [True, False])
def test_nothing_left_to_try_is_no_reason_to_die(*, immediate: bool) -> None:
    play = DmabufStage()
    play.create_fails = {CreateUdmabuf, CreateCopyBuffer}
    parts = play.parts()
    params = play.params(parts)
    play.said()

    name = "create_immed" if immediate else "create"
    buffer = play.app.request(params, name, 64, 64, XRGB, 0)
    if immediate:
        play.show(play.surface, buffer)

    assert failed(play)
    assert play.app.error is None
    play.end(params, *[buffer] * immediate)


def test_too_much_to_copy_is_no_reason_to_die(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Playbook, "policy", Policy(limits=Limits(app_copy_bytes=1)))
    play = DmabufStage(NOTHING)

    params, _parts = play.create()

    assert failed(play)
    play.end(params)


def test_a_compositor_that_takes_everything_away() -> None:
    play = DmabufStage()
    buffer = play.immed()
    registry = play.host_thing("wl_registry")
    for name in (2, 5):
        play.host.event(registry, "global_remove", name)
    play.flush()

    play.show(play.surface, buffer)

    assert play.app.error is None
    assert any("cannot be shown" in text for text in play.warnings())
    play.end(buffer)


# ---------------------------------------------------------------- planes


@pytest.mark.parametrize("immediate", [True, False])
def test_two_planes_of_the_same_dma_buf_share_a_location_and_a_udmabuf(
    *, immediate: bool
) -> None:
    play = DmabufStage()

    buffer = (play.immed if immediate else play.created)((64, 48), NV12)
    play.show_right(buffer, buffer)

    assert play.mode == "B"
    assert len(play.shell.udmabufs) == len(play.shell.pins) == 1
    play.end(buffer)
    assert not play.shell.open_memories


@pytest.mark.parametrize("sizes", [(2 * PAGE, PAGE), (2 * PAGE, 2 * PAGE)])
def test_two_planes_in_two_dma_bufs(sizes: tuple[int, int]) -> None:
    play = DmabufStage()
    parts = [Part(play.export(sizes[0]), 64, 64), Part(play.export(sizes[1]), 256, 64)]
    parts[0] = replace(parts[0], offset=256)

    buffer = play.immed((64, 60), NV12, parts=parts)
    play.show_right(buffer, buffer)

    assert play.mode == "B"
    assert len(play.shell.udmabufs) == len(play.shell.pins) == 2
    play.end(buffer)


def test_three_planes() -> None:
    yuv = fourcc("YU12")
    play = DmabufStage(replace(VIDEO, dmabuf_stride_alignment={yuv: 64}))

    buffer = play.created((128, 66), yuv)
    play.show_right(buffer)

    assert len(play.shell.udmabufs) == 1
    play.end(buffer)


def test_planes_that_mode_b_does_not_take_cannot_be_shown() -> None:
    play = DmabufStage()
    play.host.imports = "refuse"

    params, _parts = play.create(fmt=NV12)

    assert failed(play)
    assert any(
        "wl_shm does not have the layout" in text and "refused the import" in text
        for text in play.warnings()
    )
    play.end(params)


@pytest.mark.parametrize("which", [0, 1])
def test_one_of_two_planes_cannot_be_located(which: int) -> None:
    play = DmabufStage()
    play.holds_locate = True
    params, _parts = play.create(fmt=NV12)
    for number, locate in enumerate(tuple(play.locates)):
        status = LocateStatus.FAILED if number == which else LocateStatus.OK
        extents = play.shell.extents(locate) if number != which else ()
        play.answer_locate(
            Located(1, locate.location_id, status, 0, more=False, extents=extents)
        )

    assert failed(play)
    play.end(params)


@pytest.mark.parametrize("ok", [0, 1])
def test_one_of_two_udmabufs_cannot_be_made(ok: int) -> None:
    play = DmabufStage()
    play.holds_create = True
    parts = [Part(play.export(2 * PAGE), 0, 64), Part(play.export(PAGE), 0, 64)]
    params = play.params(parts)
    play.app.request(params, "create", 64, 60, NV12, 0)
    for number in range(2):
        play.create_fails = set() if number == ok else {CreateUdmabuf}
        play.answer_create()

    assert failed(play)
    play.end(params)


@pytest.mark.parametrize("flags", [1, 2, 7])
def test_flags_are_for_the_compositor_to_judge(flags: int) -> None:
    play = DmabufStage()

    buffer = play.immed(flags=flags)
    play.show_right(buffer)

    assert play.mode == "B"
    shown = play.host_thing("wl_surface").facts["current"]
    assert isinstance(shown, Thing)
    assert shown.facts["flags"] == flags
    play.end(buffer)


@pytest.mark.parametrize("capabilities", [ONLY_SHM, NOTHING])
def test_flags_are_not_for_shm(capabilities: CompositorCapabilities) -> None:
    play = DmabufStage(capabilities)

    params, _parts = play.create(flags=1)

    assert failed(play)
    play.end(params)
