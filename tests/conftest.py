"""What every test gets: Hypothesis profiles, the --lab switch, the watch over fds."""

import gc
import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

from lab import delegation
from tests.late import Late
from tests.open_fds import open_fds

# In CI the same examples every time: a failure there must be one that repeats here.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


BOOT_THEIR_OWN = ("native_guest", "kernel", "demo", "show")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lab", action="store_true", help="also run what needs the lab's machines"
    )
    parser.addoption(
        "--moments",
        type=int,
        default=30,
        help="at how many moments viewers of a machine's screen are harmed",
    )
    parser.addoption("--moments-seed", type=int, help="the seed of those")
    parser.addoption("--late", help="have all peers hear late, at random: the seed")


def pytest_configure(config: pytest.Config) -> None:
    delegation.register(config)
    if config.getoption("--late") is not None:
        config.pluginmanager.register(Late(config.getoption("--late")))


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    needs_lab = pytest.mark.skip(reason="needs the lab's machines: --lab")
    not_there = pytest.mark.skip(reason="boots a machine of its own, outside the lab")
    for item in items:
        boots = any(map(item.get_closest_marker, BOOT_THEIR_OWN))
        if delegation.in_lab():
            if boots:
                item.add_marker(not_there)
        elif not config.getoption("--lab") and (boots or delegation.machine_for(item)):
            item.add_marker(needs_lab)


@pytest.fixture(autouse=True)
def no_fd_leaks() -> Iterator[None]:
    """Fail the test that leaves an fd open: an fd has one owner, who closes it."""
    before = open_fds()
    yield
    leaked = open_fds().keys() - before.keys()
    if leaked:  # perhaps only garbage, such as a socket pair of trio's own
        gc.collect()
        after = open_fds()
        leaked = after.keys() - before.keys()
        deadline = time.monotonic() + 5
        while leaked and time.monotonic() < deadline:  # or a thread is closing it
            time.sleep(0.001)
            after = open_fds()
            leaked = after.keys() - before.keys()
        assert not leaked, f"left open: {[after[fd] for fd in sorted(leaked)]}"
