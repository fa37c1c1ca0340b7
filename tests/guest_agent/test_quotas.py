"""Limits that depend on what the process is allowed and what the guest has."""

import resource

import pytest

from wlproxy_guest.quotas import Limits, half_of_ram, part_of_fds


@pytest.mark.parametrize(
    ("soft", "memories", "total"),
    [
        (524288, 65536, 262144),
        (1024, 128, 512),
        (100, 64, 64),
        (resource.RLIM_INFINITY, 1 << 17, 1 << 19),
    ],
)
def test_fds(
    monkeypatch: pytest.MonkeyPatch, soft: int, memories: int, total: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, soft))

    limits = Limits()

    assert (limits.memories, limits.memories_total) == (memories, total)
    assert limits.locations == memories == part_of_fds(8)


def test_pinned_bytes() -> None:
    assert Limits().pinned_total == half_of_ram()
    assert Limits(pinned_total=100).pinned_of_one == 75
    assert Limits(pinned=90, pinned_total=100).pinned_of_one == 90
    assert Limits(pinned=200, pinned_total=100).pinned_of_one == 100
