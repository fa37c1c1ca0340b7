"""How many fds the proxy may open."""

import resource

import pytest

from wlproxy.host.fd_limit import FDS_FOR_ALL_ELSE, fds_for_buffers, raise_fd_limit
from wlproxy.relay.quotas import MAX_FDS


def test_the_limit_is_the_highest_that_we_may_have() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[0]), before[1]))
    try:
        raise_fd_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


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
