"""How many fds the proxy may open."""

import resource

import pytest

from wlproxy.host.fd_limit import FDS_FOR_ALL_ELSE, fds_for_buffers
from wlproxy.relay.quotas import MAX_FDS


@pytest.mark.parametrize(
    ("soft", "expected"),
    [
        (resource.RLIM_INFINITY, MAX_FDS),
        (524288, 524288 - FDS_FOR_ALL_ELSE),
        (1024, 512),
    ],
)
def test_fds_for_buffers_follow_the_limit(
    monkeypatch: pytest.MonkeyPatch, soft: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, soft))

    assert fds_for_buffers() == expected
