"""Agents, proxies and compositors for all tests of the whole way."""

from collections.abc import Iterator, Mapping

import pytest

from tests.xen.chain.stage import Shown, Stage
from tests.xen.domain import NOTHING, Domain


@pytest.fixture(scope="package")
def stage(domains: Mapping[str, Domain]) -> Iterator[Stage]:
    """Have nothing granted before, and afterwards."""
    for domain in domains.values():
        domain.await_counts(NOTHING)
    made = Stage(domains)
    try:
        yield made
    finally:
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
