"""The benchmark with the real guest, short: every figure of modes A and C, and what is copied.

Mode B is left out here: its weston draws with a GPU that is emulated by emulated processors, and
keeps others waiting.
"""

import pytest

from bench import guest
from tests.integration.harness import GuestSide, ProxySlot

pytestmark = [pytest.mark.guest(group="pixels"), pytest.mark.timeout(420)]

SIZE_1080P = 1920 * 1080 * 4
MODES = {"A": "pixman", "C": "pixman"}
COUNTS = {"frames-64": 4, "sync": 5, "first-use-1080p": 1}


def test_a_round_leaves_every_figure(
    guest_side: GuestSide, proxy_slot: ProxySlot
) -> None:
    """No time is looked at: only that there is one, and what cannot be noise."""
    results = guest.run(guest_side, proxy_slot, 1, COUNTS, MODES)
    assert list(results.samples) == list(COUNTS)
    for name, modes in results.samples.items():
        assert list(modes) == list(MODES)
        for mode, figures in modes.items():
            assert figures["cpu_us.app_side"][0] > 0
            assert figures["cpu_us.compositor_side"][0] > 0
            assert ("p50_us" in figures) == (not name.startswith("frames-"))
            copied = figures["pixel_bytes_copied"]
            if mode != "C" or name == "sync":
                assert copied == [0]
    copied = results.samples["first-use-1080p"]["C"]["pixel_bytes_copied"]
    assert copied == [SIZE_1080P]
