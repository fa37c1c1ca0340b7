"""Agents, proxies and compositors for all tests of the whole way."""

from collections.abc import Iterator, Mapping

import pytest

from tests.xen.chain.stage import Shown, Stage
from tests.xen.domain import NOTHING, Domain

STAGE = pytest.StashKey[Stage]()


@pytest.fixture(scope="session")
def stage(
    domains: Mapping[str, Domain], pytestconfig: pytest.Config
) -> Iterator[Stage]:
    """Have nothing granted before; `pytest_runtest_teardown` closes it, if other tests follow."""
    for domain in domains.values():
        domain.await_counts(NOTHING)
    pytestconfig.stash[STAGE] = Stage(domains)
    yield pytestconfig.stash[STAGE]
    close_stage(pytestconfig)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop everything after the last test of the whole way: the others want nothing granted."""
    more = nextitem is not None and "chain" in nextitem.path.parts
    if not more:
        close_stage(item.config)


def close_stage(config: pytest.Config) -> None:
    """Stop everything, if anything runs; the domains still have to be there."""
    made = config.stash.get(STAGE, None)
    if made is not None:
        del config.stash[STAGE]
        made.close()


@pytest.fixture(autouse=True)
def clients_end(stage: Stage) -> Iterator[None]:
    """Have clients end with the test that started them, whatever becomes of it."""
    before = stage.count_clients()
    yield
    stage.kill_clients(before)


@pytest.fixture
def shown(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Shown]:
    """Have a domU shown, and nothing of an app before and afterwards: "pvh-weston"."""
    kind, screen = getattr(request, "param", "pvh-tiles").split("-")
    found = stage.show(kind, screen)
    found.settle()
    before = stage.count_clients()
    yield found
    stage.kill_clients(before)
    # A test may have replaced any part of it.
    stage.show(kind, screen).settle()
