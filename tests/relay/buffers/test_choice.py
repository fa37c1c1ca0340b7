"""The choice of a mode: what allows each, and that the reason is told."""

from dataclasses import replace

import pytest

from tests.relay.playbook import NOTHING, ONLY_SHM, ZERO_COPY
from wlproxy.relay.buffers.choice import BufferShape, Mode, PlaneShape, choose
from wlproxy.relay.capabilities import CompositorCapabilities, Preference

GOOD = BufferShape((PlaneShape(0, 256),), shm_format=0, items=4, byte_length=16384)


@pytest.mark.parametrize("cycled", [True, False])
def test_a_preference_for_copies_is_followed(*, cycled: bool) -> None:
    choice = choose(GOOD, ZERO_COPY, Preference.COPY, cycled=cycled)

    assert (choice.mode, choice.reason) == (Mode.COPY, "asked for")


@pytest.mark.parametrize(
    ("shape", "capabilities", "reason"),
    [
        (GOOD, NOTHING, "no /dev/udmabuf"),
        (GOOD, replace(NOTHING, shm_udmabuf_reason=""), "no /dev/udmabuf"),
        (
            replace(GOOD, items=1025),
            ZERO_COPY,
            "1025 extents, udmabuf list_limit is 1024: raise it",
        ),
        (
            replace(GOOD, byte_length=(64 << 20) + 4096),
            ZERO_COPY,
            "67112960 bytes, udmabuf size_limit_mb is 64: raise it",
        ),
        (
            GOOD,
            CompositorCapabilities(shm_udmabuf=False, shm_udmabuf_reason="no mmap"),
            "no mmap; not B: the compositor does not import format 0x34325241 as LINEAR",
        ),
        (
            replace(GOOD, planes=(PlaneShape(0, 260),)),
            replace(ZERO_COPY, shm_udmabuf=False, shm_udmabuf_reason="no mmap"),
            "no mmap; not B: stride 260 is not a multiple of 256",
        ),
    ],
)
def test_copies_have_a_reason(
    shape: BufferShape, capabilities: CompositorCapabilities, reason: str
) -> None:
    choice = choose(shape, capabilities, Preference.AUTO, cycled=True)

    assert (choice.mode, choice.reason) == (Mode.COPY, reason)


@pytest.mark.parametrize(
    ("shape", "capabilities", "preference", "cycled", "refused", "why"),
    [
        (
            GOOD,
            ZERO_COPY,
            Preference.AUTO,
            False,
            "",
            "only for windows that take buffers in turn",
        ),
        (GOOD, ZERO_COPY, Preference.SHM, True, "", "mode A was asked for"),
        (GOOD, ZERO_COPY, Preference.AUTO, True, "refused", "refused"),
        (GOOD, ZERO_COPY, Preference.DMABUF, True, "refused", "refused"),
        (GOOD, ONLY_SHM, Preference.DMABUF, True, "", "no linux-dmabuf"),
        (
            replace(GOOD, planes=(PlaneShape(100, 256),)),
            *(ZERO_COPY, Preference.AUTO, True, ""),
            "offset 100 in its page is unaligned",
        ),
        (
            replace(GOOD, planes=(PlaneShape(0, 100),)),
            *(ZERO_COPY, Preference.AUTO, False, ""),
            "stride 100 is not a multiple of 256",
        ),
    ],
)
def test_mode_a_says_why_not_b(
    shape: BufferShape,
    capabilities: CompositorCapabilities,
    preference: Preference,
    *,
    cycled: bool,
    refused: str,
    why: str,
) -> None:
    choice = choose(shape, capabilities, preference, cycled=cycled, refused=refused)

    assert (choice.mode, choice.reason) == (Mode.SHM, f"zero-copy; not B: {why}")


@pytest.mark.parametrize(
    ("capabilities", "preference", "cycled"),
    [
        (ZERO_COPY, Preference.AUTO, True),
        (ZERO_COPY, Preference.DMABUF, False),
        (replace(ZERO_COPY, shm_udmabuf=False), Preference.AUTO, False),
    ],
)
def test_mode_b(
    capabilities: CompositorCapabilities, preference: Preference, *, cycled: bool
) -> None:
    choice = choose(GOOD, capabilities, preference, cycled=cycled)

    assert choice.mode is Mode.DMABUF
