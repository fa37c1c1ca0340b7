import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.protocol.wayland.fixed import fixed_from_float, fixed_to_float


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (0, 0.0),
        (256, 1.0),
        (-256, -1.0),
        (128, 0.5),
        (-128, -0.5),
        (1, 1 / 256),
        (-1, -1 / 256),
        (0x7FFFFFFF, 8388607.99609375),
        (-0x80000000, -8388608.0),
    ],
)
def test_known_values(raw: int, value: float) -> None:
    assert fixed_to_float(raw) == value
    assert fixed_from_float(value) == raw


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_every_raw_value_survives(raw: int) -> None:
    assert fixed_from_float(fixed_to_float(raw)) == raw


@given(st.floats(-8388608, 8388607))
def test_conversion_takes_the_nearest(value: float) -> None:
    assert abs(fixed_to_float(fixed_from_float(value)) - value) <= 1 / 512


@pytest.mark.parametrize(
    "value", [8388608.0, -8388609.0, math.inf, -math.inf, math.nan]
)
def test_what_does_not_fit_is_refused(value: float) -> None:
    with pytest.raises(LocalProtocolError):
        fixed_from_float(value)
