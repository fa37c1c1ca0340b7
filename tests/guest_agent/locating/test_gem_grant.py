"""The ioctls of gem_grant as its header has them, and runs as extents."""

import re
import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.protocol.channel.frames import Extent
from wlproxy_guest.locating import gem_grant
from wlproxy_guest.locating.gem_grant import as_extents

HEADER = Path(__file__).parents[3] / "kernel/udmabuf/include/uapi/linux/gem_grant.h"
TYPES = {"__u32": "I", "__s32": "i", "__u64": "Q"}
STRUCTS = {"INFO": "info", "PAGES": "pages", "RUNS": "runs"}


def header() -> str:
    if not HEADER.exists():
        pytest.skip(f"no {HEADER.name} in this tree")
    return HEADER.read_text()


@pytest.mark.parametrize("name", STRUCTS)
def test_ioctls_are_those_of_the_header(name: str) -> None:
    text = header()
    body = re.search(
        rf"^struct gem_grant_{STRUCTS[name]} \{{\n(.*?)^\}};",
        text,
        re.MULTILINE | re.DOTALL,
    )
    assert body is not None
    fields = re.findall(r"^\t(__\w+) \w+;", body[1], re.MULTILINE)
    of = struct.Struct("=" + "".join(TYPES[each] for each in fields))
    assert getattr(gem_grant, name).format == of.format
    found = re.search(
        rf"^#define GEM_GRANT_{name}\s+_IO(W?R)\(\s*'(.)',\s*(0x\w+),",
        text,
        re.MULTILINE,
    )
    assert found is not None
    direction = {"R": 2, "WR": 3}[found[1]]
    number = direction << 30 | of.size << 16 | ord(found[2]) << 8 | int(found[3], 16)
    assert getattr(gem_grant, f"GEM_GRANT_{name}") == number


@given(
    st.lists(
        st.tuples(st.integers(8, 2**32 - 1), st.integers(1, 2**20)),
        min_size=1,
        max_size=20,
    )
)
def test_runs_are_extents_of_as_many_pages(runs: list[tuple[int, int]]) -> None:
    words = array("I", (number for run in runs for number in run))
    assert tuple(as_extents(words)) == tuple(
        Extent(first * 4096, count * 4096) for first, count in runs
    )
