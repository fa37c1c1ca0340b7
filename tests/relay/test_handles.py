"""Handles: two sides that count past each other."""

from itertools import islice

from wlproxy.relay.handles import CoreHandles, shell_handles


def test_core_and_shell_never_meet() -> None:
    core = list(islice(CoreHandles(), 100))
    shell = list(islice(shell_handles(), 100))

    assert not set(core) & set(shell)
    assert len(set(core)) == len(set(shell)) == 100
    assert 0 not in core + shell
