"""The wire's `fixed`: a signed 24.8 number, kept everywhere as its raw int32.

Only code that calculates with such a number converts it; what is passed on stays raw.
"""

from typing import Final

from wlproxy.protocol.errors import LocalProtocolError

FIXED_ONE: Final = 256
"""The raw value of 1.0."""

_MIN_RAW: Final = -(1 << 31)
_MAX_RAW: Final = (1 << 31) - 1


def fixed_to_float(raw: int) -> float:
    """Convert a raw value; exact, as a double holds every 24.8 number."""
    return raw / FIXED_ONE


def fixed_from_float(value: float) -> int:
    """Convert to the nearest raw value, ties to even as libwayland does.

    Raises:
        LocalProtocolError: `value` is not finite or outside ±2²³.
    """
    try:
        raw = round(value * FIXED_ONE)
    except (OverflowError, ValueError) as exc:
        raise LocalProtocolError(f"{value} is not a number for the wire") from exc
    if not _MIN_RAW <= raw <= _MAX_RAW:
        raise LocalProtocolError(f"{value} does not fit a 24.8 fixed-point number")
    return raw
