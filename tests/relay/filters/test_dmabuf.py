"""The requests of linux-dmabuf: the errors are the protocol's, and no others come."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.relay.dmabufs import INVALID, NV12, VIDEO, XRGB, DmabufStage, Part
from tests.relay.playbook import ONLY_SHM
from tests.relay.shell import PAGE
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
)
from wlproxy.relay.formats import fourcc

(
    ALREADY_USED,
    PLANE_IDX,
    PLANE_SET,
    INCOMPLETE,
    INVALID_FORMAT,
    INVALID_DIMENSIONS,
    OUT_OF_BOUNDS,
) = range(7)

immediate = pytest.mark.parametrize("name", ["create", "create_immed"])


@pytest.mark.parametrize("index", [4, 5, 0xFFFFFFFF])
def test_a_plane_that_no_format_has(index: int) -> None:
    play = DmabufStage()
    params = play.params([])

    play.add(params, index, Part(play.export(PAGE), 0, 256))

    assert play.app.error is not None
    assert play.app.error[:2] == (params.id, PLANE_IDX)


def test_a_plane_twice() -> None:
    play = DmabufStage()
    params = play.params([Part(play.export(PAGE), 0, 256)])

    play.add(params, 0, Part(play.export(PAGE), 0, 256))

    assert play.app.error == (params.id, PLANE_SET, "plane 0 has an fd already")


@pytest.mark.parametrize(("version", "allowed"), [(4, True), (5, False)])
def test_planes_of_different_modifiers(version: int, *, allowed: bool) -> None:
    play = DmabufStage(version=version)
    params = play.params([Part(play.export(PAGE), 0, 256)])

    play.add(params, 1, Part(play.export(PAGE), 0, 256), modifier=7)

    assert (play.app.error is None) is allowed
    if not allowed:
        assert play.app.error == (
            *(params.id, INVALID_FORMAT),
            "planes of different modifiers",
        )


@immediate
@pytest.mark.parametrize("planes", [(), (1,), (0, 2), (0, 1, 3)])
def test_planes_are_missing(name: str, planes: tuple[int, ...]) -> None:
    play = DmabufStage()
    params = play.params([])
    for index in planes:
        play.add(params, index, Part(play.export(PAGE), 0, 64))

    play.app.request(params, name, 16, 16, XRGB, 0)

    assert play.app.error == (params.id, INCOMPLETE, "a plane is missing")


@immediate
def test_a_format_has_more_planes(name: str) -> None:
    play = DmabufStage()
    params = play.params([Part(play.export(PAGE), 0, 64)])

    play.app.request(params, name, 16, 16, NV12, 0)

    assert play.app.error is not None
    assert play.app.error[:2] == (params.id, INCOMPLETE)


@immediate
@pytest.mark.parametrize(
    ("fmt", "modifier"),
    [
        (XRGB, INVALID),
        (XRGB, 1),
        (XRGB, 1 << 56 | 1),
        (fourcc("RG16"), 0),
        (0, 0),
        (0xFFFFFFFF, 0),
    ],
)
@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_pair_that_was_not_offered(
    name: str, fmt: int, modifier: int, version: int
) -> None:
    play = DmabufStage(version=version)
    params = play.params([Part(play.export(PAGE), 0, 64)], modifier)
    play.said()

    made = play.app.request(params, name, 16, 16, fmt, 0)

    if version >= 4:
        assert play.app.error is not None
        assert play.app.error[:2] == (params.id, INVALID_FORMAT)
        return
    if name == "create_immed":
        play.show(play.surface, made)  # may be dead, or turn out to be
    assert f"app: {params}.failed()" in play.said()
    play.end(params, *[made] * (name == "create_immed"))


@pytest.mark.parametrize("modifier", [0, INVALID])
@pytest.mark.parametrize("fmt", [XRGB, NV12])
def test_what_has_no_modifier_is_linear_if_the_agent_says_so(
    fmt: int, modifier: int
) -> None:
    play = DmabufStage(implicit=True)

    buffers = [
        play.immed(fmt=fmt, modifier=modifier),
        play.created(fmt=fmt, modifier=modifier),
    ]
    play.show_right(*buffers)

    # The compositor is told of LINEAR, and of nothing else.
    added = [line for line in play.said() if "zwp_linux_buffer_params_v1" in line]
    assert added
    assert not any(str(INVALID & 0xFFFFFFFF) in line for line in added)
    play.end(*buffers)


def test_what_has_no_modifier_is_shown_as_a_pool_too() -> None:
    play = DmabufStage(ONLY_SHM, implicit=True)

    buffer = play.immed(modifier=INVALID)
    play.show_right(buffer)

    assert not play.warnings()
    play.end(buffer)


@immediate
@pytest.mark.parametrize("modifier", [1, 1 << 56 | 1, INVALID - 1, INVALID + 1])
@pytest.mark.parametrize("version", [3, 5])
def test_other_modifiers_are_what_they_were(
    name: str, modifier: int, version: int
) -> None:
    play = DmabufStage(version=version, implicit=True)
    params = play.params([Part(play.export(PAGE), 0, 64)], modifier)
    play.said()

    made = play.app.request(params, name, 16, 16, XRGB, 0)

    if version >= 4:
        assert play.app.error is not None
        assert play.app.error[:2] == (params.id, INVALID_FORMAT)
        return
    assert f"app: {params}.failed()" in play.said()
    play.end(params, *[made] * (name == "create_immed"))


def test_the_name_of_the_layout_is_one_for_all_planes() -> None:
    play = DmabufStage(VIDEO, implicit=True)
    params = play.params([Part(play.export(PAGE), 0, 256)])

    play.add(params, 1, Part(play.export(PAGE), 0, 256), INVALID)

    message = "planes of different modifiers"
    assert play.app.error == (params.id, INVALID_FORMAT, message)


@immediate
@pytest.mark.parametrize("size", [(0, 1), (1, 0), (-1, 16), (16, -(1 << 31))])
def test_no_size(name: str, size: tuple[int, int]) -> None:
    play = DmabufStage()
    params = play.params(play.parts())

    play.app.request(params, name, *size, XRGB, 0)

    message = f"invalid size {size[0]}x{size[1]}"
    assert play.app.error == (params.id, INVALID_DIMENSIONS, message)


@immediate
@pytest.mark.parametrize(
    ("offset", "stride", "height"),
    [
        (1, 64, 64),
        (PAGE, 64, 1),
        (0, 65, 64),
        (0, 64, 65),
        (0xFFFFFFFF, 64, 1),
        (0, 0xFFFFFFFF, 2),
        (0, 0xFFFFFFFF, 0x7FFFFFFF),
    ],
)
def test_beyond_the_dma_buf(name: str, offset: int, stride: int, height: int) -> None:
    play = DmabufStage()
    params = play.params([Part(play.export(PAGE), offset, stride)])

    play.app.request(params, name, 16, height, XRGB, 0)

    assert play.app.error is not None
    assert play.app.error[:2] == (params.id, OUT_OF_BOUNDS)


@pytest.mark.parametrize(("height", "fits"), [(64, True), (65, False), (66, False)])
def test_beyond_the_dma_buf_of_the_second_plane(height: int, *, fits: bool) -> None:
    play = DmabufStage()
    parts = [Part(play.export(8 * PAGE), 0, 128), Part(play.export(PAGE), 0, 128)]
    params = play.params(parts)

    buffer = play.app.request(params, "create_immed", 128, height, NV12, 0)

    if fits:
        assert play.app.error is None
        play.end(params, buffer)
    elif play.app.error is None:  # whole rows but the last one
        assert f"app: {params}.failed()" in play.said()
    else:
        assert play.app.error[:2] == (params.id, OUT_OF_BOUNDS)


def test_the_last_row_of_a_second_plane_may_be_cut_short() -> None:
    play = DmabufStage()
    luma = Part(play.export(8 * PAGE), 0, 128)
    short = play.export(PAGE - 28)
    params = play.params([luma, Part(short, 0, 128)])

    buffer = play.app.request(params, "create_immed", 100, 64, NV12, 0)
    play.show(play.surface, buffer)

    assert not play.warnings()
    play.end(params, buffer)


@immediate
@pytest.mark.parametrize("again", ["create", "create_immed", "add"])
def test_params_are_used_once(name: str, again: str) -> None:
    play = DmabufStage()
    params = play.params(play.parts())
    play.app.request(params, name, 64, 64, XRGB, 0)

    if again == "add":
        play.add(params, 1, Part(play.export(PAGE), 0, 64))
    else:
        play.app.request(params, again, 64, 64, XRGB, 0)

    assert play.app.error == (params.id, ALREADY_USED, "params were used already")


@immediate
@pytest.mark.parametrize("kind", [AttachmentKind.OTHER, AttachmentKind.STREAM])
def test_what_is_no_memory_is_no_reason_to_die(name: str, kind: AttachmentKind) -> None:
    play = DmabufStage()
    reads = AttachmentFlags.HOLDER_READS
    flags = reads if kind is AttachmentKind.STREAM else AttachmentFlags.NONE
    params = play.params([Part(Attachment(kind, flags, 2, 0), 0, 64)])
    play.said()

    made = play.app.request(params, name, 16, 16, XRGB, 0)

    assert f"app: {params}.failed()" in play.said()
    play.end(params, *[made] * (name == "create_immed"))


@immediate
@pytest.mark.parametrize(
    ("size", "stride", "fmt", "flags", "planes"),
    [
        ((17, 16), 64, XRGB, 0, 1),
        ((16, 16), 0, XRGB, 0, 1),
        ((16, 16), 64, XRGB, 8, 1),
        ((16, 16), 64, XRGB, 0xFFFFFFFF, 1),
        ((16, 16), 64, XRGB, 0, 2),
        ((16, 16), 64, NV12, 0, 3),
    ],
)
def test_what_no_buffer_comes_of(
    name: str, size: tuple[int, int], stride: int, fmt: int, flags: int, planes: int
) -> None:
    play = DmabufStage()
    parts = [Part(play.export(PAGE), 0, stride) for _ in range(planes)]
    params = play.params(parts)
    play.said()

    made = play.app.request(params, name, *size, fmt, flags)

    assert f"app: {params}.failed()" in play.said()
    assert not play.shell.open_memories
    play.end(params, *[made] * (name == "create_immed"))


def test_an_id_that_is_in_use() -> None:
    play = DmabufStage()
    params = play.params(play.parts())
    play.app.next_id = play.surface.id

    play.app.request(params, "create_immed", 64, 64, XRGB, 0)

    assert play.app.error is not None
    assert play.app.error[:2] == (1, 0)


NUMBER = st.one_of(
    st.sampled_from([0, 1, 63, 64, 256, PAGE, 0x7FFFFFFF, 0xFFFFFFFF]),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 300),
)
SIGNED = st.one_of(st.integers(1, 70), st.integers(-(1 << 31), (1 << 31) - 1))
PLANE = st.tuples(
    st.integers(0, 5) | st.integers(0, 2),
    st.sampled_from([0, 1, PAGE - 1, PAGE, 3 * PAGE, 1 << 31]),
    NUMBER,
    NUMBER,
    st.sampled_from([0, 0, 0, 1, INVALID]),
    st.sampled_from(
        [AttachmentKind.MEMORY, AttachmentKind.MEMORY, AttachmentKind.OTHER]
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    version=st.sampled_from([1, 3, 4, 5]),
    planes=st.lists(PLANE, max_size=4),
    size=st.tuples(SIGNED, SIGNED),
    fmt=st.sampled_from([XRGB, XRGB, NV12, NV12, fourcc("YUYV"), 0]),
    flags=st.sampled_from([0, 0, 0, 1, 8, 0xFFFFFFFF]),
    immed=st.booleans(),
    implicit=st.booleans(),
)
def test_garbage_meets_the_protocols_errors_or_no_buffer(
    version: int,
    planes: list[tuple[int, int, int, int, int, AttachmentKind]],
    size: tuple[int, int],
    fmt: int,
    flags: int,
    *,
    immed: bool,
    implicit: bool,
) -> None:
    play = DmabufStage(version=version, implicit=implicit)
    params = play.params([])
    for index, length, offset, stride, modifier, kind in planes:
        real = play.export(min(length, 4 * PAGE))
        attachment = replace(real, kind=kind, size=length)
        if kind is AttachmentKind.OTHER:
            play.shell.open_memories.discard(real.object_id)
        play.add(params, index, Part(attachment, offset, stride), modifier)
    # The agent says if its file is shorter than that: not played here.
    honest = all(length <= 4 * PAGE for _, length, *_ in planes)
    immed = immed and version > 1
    if play.app.error is None:
        name = "create_immed" if immed else "create"
        play.holds_locate = not honest
        made = play.app.request(params, name, *size, fmt, flags)
        if immed and play.app.error is None:
            play.show(play.surface, made)
    if play.app.error is not None:
        assert play.app.error[0] == params.id
        assert play.app.error[1] in range(7)
        return
    if honest:
        buffers = [made] if immed else play.app.created
        play.end(params, *buffers)
