"""Which DRM node apps are told to allocate on, for trees like sysfs."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy_guest.drm.allocation import DrmEntry, choose, find_main_device

CARD0, CARD1 = DrmEntry("card0", 0xE200), DrmEntry("card1", 0xE201)
SCREEN0 = DrmEntry("card0-Virtual-1", 0)
SCREEN1 = DrmEntry("card1-HDMI-A-1", 0)
RENDER128, RENDER129 = DrmEntry("renderD128", 0xE280), DrmEntry("renderD129", 0xE281)
VERSION, CONTROL = DrmEntry("version", 0), DrmEntry("controlD64", 0xE240)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], 0),
        ([VERSION, CONTROL], 0),
        ([CARD0, SCREEN0, RENDER129, RENDER128, VERSION], RENDER128.number),
        ([CARD0, CARD1, SCREEN1, SCREEN0], CARD0.number),
        ([CARD0, CARD1, SCREEN1], CARD1.number),
        ([CARD0], 0),
        ([DrmEntry("renderD1000", 5), RENDER128], RENDER128.number),
        ([DrmEntry("card10", 5), DrmEntry("card1-VGA-1", 0)], 0),
    ],
)
def test_render_nodes_first_then_cards_with_screens(
    entries: list[DrmEntry], expected: int
) -> None:
    assert choose(entries) == expected
    assert choose(entries[::-1]) == expected


@given(
    st.lists(
        st.builds(
            DrmEntry,
            st.text() | st.from_regex(r"(card|renderD)\d{1,3}(-\w+)?", fullmatch=True),
            st.integers(0, 2**64 - 1),
        )
    )
)
def test_whatever_is_listed_one_of_it_is_chosen(entries: list[DrmEntry]) -> None:
    assert choose(entries) in {0} | {entry.number for entry in entries}


def test_this_machines_is_a_drm_node() -> None:
    number = find_main_device()

    assert number or not any(Path("/sys/class/drm").glob("renderD*"))
    if number:
        assert os.major(number) == 226


def device(sysfs: Path, name: str, number: str | None) -> None:
    """Enter a DRM device as the kernel lists it, or something else beside them."""
    entry = sysfs / "class/drm" / name
    entry.mkdir(parents=True)
    if number is not None:
        (entry / "dev").write_text(number)


def test_sysfs_lists_them(tmp_path: Path) -> None:
    assert find_main_device(tmp_path) == 0
    device(tmp_path, "card0", "226:0\n")
    device(tmp_path, "card0-Virtual-1", None)
    (tmp_path / "class/drm/version").write_text("drm 1.1.0 20060810\n")
    assert find_main_device(tmp_path) == os.makedev(226, 0)
    device(tmp_path, "renderD129", "not a number")
    device(tmp_path, "renderD128", "226:128\n")
    assert find_main_device(tmp_path) == os.makedev(226, 128)
