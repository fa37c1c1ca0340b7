"""Pixel formats: numbers, and how many bytes a buffer has."""

import pytest

from wlproxy.relay.formats import (
    DRM_XRGB8888,
    LAYOUTS,
    PIXEL_SIZE,
    drm_format,
    fourcc,
    shm_format,
)


def test_only_the_first_two_formats_are_renumbered() -> None:
    assert drm_format(1) == DRM_XRGB8888
    assert drm_format(0x36314752) == 0x36314752
    assert PIXEL_SIZE[0x36314752] == 2  # RG16


def test_formats_translate_both_ways() -> None:
    for known in PIXEL_SIZE:
        assert shm_format(drm_format(known)) == known
        assert drm_format(known) in LAYOUTS


@pytest.mark.parametrize(
    ("code", "size", "planes"),
    [
        ("XR24", (33, 7), [(132, 7)]),
        ("RG16", (33, 7), [(66, 7)]),
        ("YUYV", (33, 7), [(68, 7)]),
        ("NV12", (33, 7), [(33, 7), (34, 4)]),
        ("NV16", (33, 7), [(33, 7), (34, 7)]),
        ("P010", (33, 7), [(66, 7), (68, 4)]),
        ("YU12", (33, 7), [(33, 7), (17, 4), (17, 4)]),
    ],
)
def test_odd_sizes_are_rounded_up(
    code: str, size: tuple[int, int], planes: list[tuple[int, int]]
) -> None:
    width, height = size
    assert planes == [
        (plane.row_bytes(width), plane.row_count(height))
        for plane in LAYOUTS[fourcc(code)]
    ]
