import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.screen.sizing import FULLSCREEN, MAXIMIZED, Sizing

TILED_LEFT = 5


def states(*each: int) -> bytes:
    return struct.pack(f"={len(each)}I", *each)


@pytest.fixture
def sizing() -> Sizing:
    sizing = Sizing()
    sizing.scales = True
    sizing.picture(640, 480)
    return sizing


def test_a_window_is_as_large_as_the_picture(sizing: Sizing) -> None:
    sizing.configure(0, 0, b"")
    assert sizing.shown() == (640, 480)
    sizing.picture(800, 600)
    assert sizing.shown() == (800, 600)


def test_pixel_by_pixel_whatever_the_scale(sizing: Sizing) -> None:
    sizing.scale = 1.25
    assert sizing.shown() == (512, 384)
    assert sizing.to_picture(511.9, 0) == (639, 0)


def test_a_picture_is_fitted_into_what_there_is(sizing: Sizing) -> None:
    sizing.configure(1280, 500, states(TILED_LEFT))
    assert sizing.shown() == (667, 500)
    sizing.configure(1280, 500, states(MAXIMIZED))
    sizing.configure(1281, 500, states(MAXIMIZED))
    assert sizing.shown() == (1281, 500)
    sizing.configure(1282, 500, states(MAXIMIZED, FULLSCREEN))
    assert sizing.shown() == (667, 500)


def test_without_a_viewporter_nothing_is_scaled(sizing: Sizing) -> None:
    sizing.scales = False
    sizing.configure(1280, 500, b"")
    assert sizing.shown() == (640, 480)


def test_the_guest_is_asked_for_pixels_but_not_by_the_first_size() -> None:
    sizing = Sizing()
    sizing.scales, sizing.scale = True, 1.5
    sizing.configure(1000, 700, states(TILED_LEFT))
    assert sizing.take_wanted() is None
    sizing.picture(640, 480)
    sizing.shown()
    sizing.configure(900, 600, states(TILED_LEFT))
    assert sizing.take_wanted() == (1350, 900)
    assert sizing.take_wanted() is None
    sizing.configure(900, 600, states(TILED_LEFT))
    assert sizing.take_wanted() is None


def test_a_tile_stays_a_tile_when_the_mode_changes(sizing: Sizing) -> None:
    sizing.configure(320, 240, states(TILED_LEFT))
    sizing.picture(800, 600)
    assert sizing.shown() == (320, 240)


def test_what_the_compositor_says_again_is_not_news(sizing: Sizing) -> None:
    sizing.configure(0, 0, b"")
    assert sizing.shown() == (640, 480)
    sizing.configure(640, 480, b"")
    assert sizing.take_wanted() is None
    sizing.picture(800, 600)
    assert sizing.shown() == (800, 600)


sides = st.integers(-1, 2**31 - 1) | st.integers(0, 3000)


@given(
    st.lists(st.tuples(sides, sides, st.binary(max_size=13)), max_size=5),
    st.lists(
        st.tuples(st.integers(1, 16384), st.integers(1, 16384)), min_size=1, max_size=5
    ),
    st.floats(0.01, 100),
    st.booleans(),
)
def test_whatever_the_compositor_wants(
    configures: list[tuple[int, int, bytes]],
    pictures: list[tuple[int, int]],
    scale: float,
    scales: bool,
) -> None:
    sizing = Sizing()
    sizing.scales, sizing.scale = scales, scale
    for picture in pictures:
        sizing.picture(*picture)
        for configure in configures:
            sizing.configure(*configure)
            width, height = sizing.shown()
            assert width > 0
            assert height > 0
            x, y = sizing.to_picture(width * 2, -1)
            assert (x, y) == (picture[0] - 1, 0)
            wanted = sizing.take_wanted()
            assert wanted is None or min(wanted) > 0
