"""The frames' promises about themselves: sizes fit, every type is a class, all is frozen."""

from dataclasses import FrozenInstanceError, is_dataclass
from typing import get_args

import pytest

from wlproxy.protocol.channel.frames import (
    ATTACHMENT_SIZE,
    EXTENT_SIZE,
    HEADER_SIZE,
    MAGIC,
    MAX_ATTACHMENTS,
    MAX_EXTENTS_PER_FRAME,
    MAX_PAYLOAD,
    MAX_TEXT,
    RESYNC_PADDING,
    Frame,
    FrameType,
    Ping,
    fit_text,
)

CLASSES = get_args(Frame)


def test_a_whole_frame_fits_one_virtqueue_pass() -> None:
    assert HEADER_SIZE + MAX_PAYLOAD == 64 * 1024
    assert MAX_EXTENTS_PER_FRAME * EXTENT_SIZE < MAX_PAYLOAD
    assert MAX_ATTACHMENTS * ATTACHMENT_SIZE < MAX_PAYLOAD


def test_padding_completes_any_frame_and_shows_a_header() -> None:
    assert RESYNC_PADDING >= (HEADER_SIZE + MAX_PAYLOAD - 1) + HEADER_SIZE


def test_magic_cannot_overlap_itself() -> None:
    assert len(MAGIC) == 16
    assert all(not MAGIC.endswith(MAGIC[:size]) for size in range(1, len(MAGIC)))
    assert 0 not in MAGIC, "padding must not look like it"


def test_every_type_is_a_class() -> None:
    names = {one.__name__.upper() for one in CLASSES}
    assert names == {one.name.replace("_", "") for one in FrameType} - {"RESYNC"}


@pytest.mark.parametrize("kind", CLASSES)
def test_frames_are_values(kind: type[Frame]) -> None:
    assert is_dataclass(kind)
    assert "__slots__" in vars(kind)


def test_frames_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Ping(1).timestamp = 2  # type: ignore[misc]


def test_a_text_is_cut_between_characters() -> None:
    assert fit_text("a\0b") == "a b"
    fitted = fit_text("é" * MAX_TEXT)
    assert fitted == "é" * (MAX_TEXT // 2)
    assert len(fit_text("a" + "é" * MAX_TEXT).encode()) == MAX_TEXT - 1
