"""The domUs: each is booted once, when a test first wants it."""

from collections.abc import Iterator

import pytest

from lab import xen_guest
from tests.xen.domain import NOTHING, Domain

COMPLAINTS = ("WARNING:", "BUG:", "Oops", "Call Trace", "refcount_t", "still in use")


class Domains:
    """The domUs that run, by kind."""

    def __init__(self) -> None:
        self._running: dict[str, Domain] = {}

    def of(self, kind: str) -> Domain:
        """Return the domU of a kind, booted if need be."""
        if kind not in self._running:
            self._running[kind] = Domain(xen_guest.domu(kind))
        return self._running[kind]

    def forget(self, kind: str) -> None:
        """Have the next test boot another."""
        self._running.pop(kind)

    def close(self) -> None:
        """Destroy all."""
        for domain in self._running.values():
            domain.close()


@pytest.fixture(scope="session")
def domains() -> Iterator[Domains]:
    """Have domUs."""
    running = Domains()
    yield running
    running.close()


@pytest.fixture(params=xen_guest.KINDS)
def domain(domains: Domains, request: pytest.FixtureRequest) -> Iterator[Domain]:
    """Have a domU of each kind, in which nothing is granted before and after."""
    running = domains.of(request.param)
    running.await_counts(NOTHING)
    running.shell("dmesg --clear")
    yield running
    running.await_counts(NOTHING)
    log = running.shell("dmesg")
    assert not [line for line in log.splitlines() if any(c in line for c in COMPLAINTS)]
