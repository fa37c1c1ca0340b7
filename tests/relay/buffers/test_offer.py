"""linux-dmabuf as the guest sees it: when it is there, and what it says."""

import struct
from dataclasses import replace

import pytest

from tests.relay.dmabufs import DEVICE, INVALID, NV12, VIDEO, DmabufStage
from tests.relay.playbook import NOTHING, ONLY_SHM, ZERO_COPY, Playbook
from tests.relay.things import Thing
from wlproxy.protocol.wayland.message import NewId
from wlproxy.protocol.wayland.wire import encode_message
from wlproxy.relay.buffers.offer import GLOBAL_NAME
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.formats import DRM_ARGB8888, DRM_XRGB8888, fourcc
from wlproxy.relay.policy_tree import Globals, Policy
from wlproxy.relay.wire.context import RelayConfig

NAME = "zwp_linux_dmabuf_v1"
CONFIG = RelayConfig(main_device=DEVICE)
RG16 = fourcc("RG16")
ONLY_DMABUF = replace(ZERO_COPY, shm_udmabuf=False, shm_udmabuf_reason="no mmap")


def advertised(play: Playbook) -> dict[str, int]:
    return dict(play.app.globals.values())


def removed(play: Playbook) -> bool:
    return f"wl_registry@2.global_remove({GLOBAL_NAME})" in play.said_by("app")


def take_away(play: Playbook, name: int) -> None:
    for thing in tuple(play.host.things.values()):
        if thing.interface.name == "wl_registry":
            play.host.event(thing, "global_remove", name)
    play.flush()


# ---------------------------------------------------------------- the global


@pytest.mark.parametrize(
    "capabilities", [ZERO_COPY, ONLY_SHM, ONLY_DMABUF, NOTHING, VIDEO]
)
def test_it_is_there_where_the_agent_can_locate(
    capabilities: CompositorCapabilities,
) -> None:
    play = Playbook(capabilities, CONFIG)

    assert advertised(play)[NAME] == 5
    assert play.app.globals[GLOBAL_NAME] == (NAME, 5)
    assert len([1 for known, _ in play.app.globals.values() if known == NAME]) == 1


def test_it_is_there_before_all_others() -> None:
    play = Playbook(ONLY_SHM, CONFIG, start=False)
    play.deliver = False

    play.app.request(play.app.display, "get_registry")

    assert play.said_by("app") == [
        f"wl_registry@2.global({GLOBAL_NAME}, '{NAME}', 5)",
    ]


@pytest.mark.parametrize(
    ("capabilities", "config"),
    [
        (ZERO_COPY, RelayConfig()),
        (
            ZERO_COPY,
            RelayConfig(policy=Policy(Globals(deny=(NAME,))), main_device=DEVICE),
        ),
        (replace(NOTHING, shm_formats=frozenset()), CONFIG),
        (replace(NOTHING, shm_formats=frozenset({NV12})), CONFIG),
    ],
)
def test_it_is_not_there(
    capabilities: CompositorCapabilities, config: RelayConfig
) -> None:
    play = Playbook(capabilities, config)

    assert NAME not in advertised(play)
    for name in (5, GLOBAL_NAME):
        thing = play.app.new(NAME, 1)
        spec = play.app.registry.interface.request("bind")
        args = (name, NewId(NAME.encode(), 1, thing.id))
        if play.app.error is None:
            play.send(encode_message(play.app.registry.id, spec, args))
        assert play.app.error == (2, 0, f"invalid global {NAME} (5)")


def test_policy_caps_its_version() -> None:
    policy = Policy(Globals(versions={NAME: 3}))
    play = Playbook(config=RelayConfig(policy=policy, main_device=DEVICE))

    assert advertised(play)[NAME] == 3
    play.app.bind(NAME, 4)
    assert play.app.error is not None
    assert "have 3, wanted 4" in play.app.error[2]


@pytest.mark.parametrize(
    ("capabilities", "taken", "gone"),
    [
        (ZERO_COPY, (5,), False),
        (ZERO_COPY, (2,), False),
        (ZERO_COPY, (5, 2), True),
        (ONLY_SHM, (5,), False),
        (ONLY_SHM, (2,), True),
        (ONLY_DMABUF, (5, 2), True),
    ],
)
def test_it_goes_with_what_it_needs(
    capabilities: CompositorCapabilities, taken: tuple[int, ...], *, gone: bool
) -> None:
    play = Playbook(capabilities, CONFIG)

    for name in taken:
        take_away(play, name)

    assert removed(play) is gone
    play.app.bind(NAME)  # a race, not an error
    assert play.app.error is None


def test_it_comes_back_with_what_it_needs() -> None:
    play = Playbook(ONLY_SHM, CONFIG)
    take_away(play, 2)
    assert removed(play)

    play.host.event(play.host_thing("wl_registry"), "global", 77, b"wl_shm", 1)
    play.flush()

    assert f"wl_registry@2.global({GLOBAL_NAME}, '{NAME}', 5)" in play.said_by("app")
    take_away(play, 77)
    assert removed(play)


def test_a_second_registry_hears_of_it_too() -> None:
    play = Playbook(ONLY_SHM, CONFIG)

    second = play.app.request(play.app.display, "get_registry")

    assert f"{second}.global({GLOBAL_NAME}, '{NAME}', 5)" in play.said_by("app")
    take_away(play, 2)
    assert sum(str(GLOBAL_NAME) in line for line in play.said_by("app")) == 2


def test_a_global_of_the_compositor_with_this_name_is_hidden() -> None:
    play = Playbook(ONLY_SHM, CONFIG)
    play.said()

    registry = play.host_thing("wl_registry")
    play.host.event(registry, "global", GLOBAL_NAME, b"wl_output", 4)
    play.host.event(registry, "global_remove", GLOBAL_NAME)
    play.flush()

    assert not play.said_by("app")
    play.app.bind(NAME)
    assert play.app.error is None


# ---------------------------------------------------------------- formats


def table(play: DmabufStage) -> list[tuple[int, int]]:
    (contents,) = play.files.values()
    return [
        (fmt, modifier)
        for fmt, padding, modifier in struct.iter_unpack("<IIQ", contents)
        if not padding
    ]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("of_surface", [True, False])
def test_feedback_is_our_own(version: int, *, of_surface: bool) -> None:
    play = DmabufStage(version=version)
    request = "get_surface_feedback" if of_surface else "get_default_feedback"
    about = (play.surface.id,) if of_surface else ()

    feedback = play.app.request(play.dmabuf, request, *about)

    device = str(struct.pack("<Q", DEVICE).decode("utf-8", "replace"))
    indices = struct.pack("<3H", 0, 1, 2).decode()
    assert play.said() == [
        "shell: SendContents(1)",
        f"app: {feedback}.format_table(fd file 1, 48)",
        f"app: {feedback}.main_device({device!r})",
        f"app: {feedback}.tranche_target_device({device!r})",
        f"app: {feedback}.tranche_flags(0)",
        f"app: {feedback}.tranche_formats({indices!r})",
        f"app: {feedback}.tranche_done()",
        f"app: {feedback}.done()",
    ]
    assert table(play) == [(NV12, 0), (DRM_ARGB8888, 0), (DRM_XRGB8888, 0)]
    (attachment,) = play.app.received
    assert attachment.size == 48
    play.app.request(feedback, "destroy")
    play.end()


@pytest.mark.parametrize(
    ("version", "event"), [(1, "format"), (2, "format"), (3, "modifier")]
)
def test_old_versions_are_told_by_events(version: int, event: str) -> None:
    play = DmabufStage(version=5)
    old = play.app.bind(NAME, version)

    rest = ", 0, 0" if event == "modifier" else ""
    assert play.said() == [
        f"app: {old}.{event}({fmt}{rest})" for fmt in (NV12, DRM_ARGB8888, DRM_XRGB8888)
    ]


@pytest.mark.parametrize(
    ("version", "event"), [(1, "format"), (2, "format"), (3, "modifier")]
)
def test_old_versions_are_told_that_no_modifier_will_do(
    version: int, event: str
) -> None:
    play = DmabufStage(implicit=True)
    old = play.app.bind(NAME, version)

    rest = [", 0, 0", f", {INVALID >> 32}, {INVALID & 0xFFFFFFFF}"]
    if event == "format":
        rest = [""]
    assert play.said() == [
        f"app: {old}.{event}({fmt}{each})"
        for fmt in (NV12, DRM_ARGB8888, DRM_XRGB8888)
        for each in rest
    ]


@pytest.mark.parametrize("version", [4, 5])
def test_feedback_says_that_no_modifier_will_do(version: int) -> None:
    play = DmabufStage(version=version, implicit=True)

    feedback = play.app.request(play.dmabuf, "get_default_feedback")

    indices = struct.pack("<6H", *range(6)).decode()
    assert f"app: {feedback}.tranche_formats({indices!r})" in play.said()
    assert table(play) == [
        (fmt, modifier)
        for fmt in (NV12, DRM_ARGB8888, DRM_XRGB8888)
        for modifier in (0, INVALID)
    ]
    play.end()


def test_new_versions_are_told_nothing_unasked() -> None:
    play = DmabufStage()

    play.app.bind(NAME, 4)

    assert not play.said()


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [
        (replace(VIDEO, shm_formats=frozenset({RG16})), {RG16, NV12}),
        (replace(ONLY_SHM, shm_formats=frozenset({1, RG16, NV12})), {RG16}),
        (replace(NOTHING, shm_formats=frozenset({1, RG16})), {RG16}),
        # Not what could only be copied, where there is better.
        (replace(ONLY_DMABUF, shm_formats=frozenset({RG16})), set()),
        (replace(VIDEO, dmabuf_stride_alignment={123: 4, NV12: 4}), {NV12}),
    ],
)
def test_formats_are_what_can_be_shown(
    capabilities: CompositorCapabilities, wanted: set[int]
) -> None:
    play = DmabufStage(capabilities)

    play.app.request(play.dmabuf, "get_default_feedback")

    shown = {fmt for fmt, _ in table(play)}
    assert shown - {DRM_ARGB8888, DRM_XRGB8888} == wanted


def test_feedback_about_what_is_no_surface() -> None:
    play = DmabufStage()

    play.app.request(play.dmabuf, "get_surface_feedback", play.shm.id)

    assert play.app.error == (play.dmabuf.id, 0, "this is no wl_surface")


def test_feedback_about_nothing() -> None:
    play = DmabufStage()
    nothing = Thing(99, play.surface.interface, 1)

    play.app.request(play.dmabuf, "get_surface_feedback", nothing.id)

    assert play.app.error == (1, 0, "invalid object 99")
