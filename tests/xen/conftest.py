"""The domUs: one of each kind, booted before the first test."""

from collections.abc import Iterator, Mapping

import pytest

from lab import delegation, xen_guest
from tests.xen.domain import NOTHING, Domain

# Asked of Debian's kernel: what is freed, whole pages too, is filled with a pattern, and complained
# of if that has changed when it is used again; and so are the ends of what is allocated. And of KASAN,
# where it is (`lab xen --debug-kernel`): to report more than its first.
FIND_FAULTS = "page_poison=1 slab_debug=FZP,kmalloc* kasan_multi_shot"
COMPLAINTS = (
    *("WARNING:", "BUG:", "BUG kmalloc", "Oops", "Call Trace", "general protection"),
    # Those of a kernel that looks for more of it (`lab xen --debug-kernel`).
    *("KASAN", "UBSAN", "ODEBUG", "DMA-API:", "INFO: possible", "INFO: trying"),
    *("memory corruption", "list_add", "list_del", "refcount_t", "still in use"),
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the tests of the whole way together, and those of one screen: agents and proxies are slow to start."""
    items.sort(key=lambda item: _screen(item) if "xen" in item.path.parts else "")


def _screen(item: pytest.Item) -> str:
    if "chain" not in item.path.parts:
        return "~ last"
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("shown", "~")) if callspec else "~"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say at once what failed: the machine may be lost before the end."""
    if report.failed and delegation.in_lab():
        print(f"\n{report.nodeid} ({report.when}):\n{report.longreprtext[-3000:]}\n")


@pytest.fixture(scope="session")
def domains(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Domain]]:
    """Have a domU of each kind that a test is for."""
    wanted = {kind for item in request.session.items for kind in _kinds(item)}
    running: dict[str, Domain] = {}
    try:
        for kind in sorted(wanted):
            running[kind] = Domain(xen_guest.domu(kind, append=FIND_FAULTS))
            poisons = running[kind].shell("cat /sys/kernel/slab/kmalloc-256/poison")
            assert poisons == "1\n", "what is freed is not looked at"
            running[kind].forget_leaks()
        yield running
        for domain in running.values():
            domain.check_for_leaks()
            domain.check_that_faults_are_seen()
    finally:
        for domain in running.values():
            domain.close()


def _kinds(item: pytest.Item) -> set[str]:
    """Name the kinds of domU that a test is for: those in its parameters, or all."""
    parameters = item.name.partition("[")[2].rstrip("]")
    named = set(parameters.split("-")).intersection(xen_guest.KINDS)
    whole_way = "chain" in item.path.parts
    return named or (set(xen_guest.KINDS) if whole_way else set())


@pytest.fixture(params=xen_guest.KINDS)
def domain(
    domains: Mapping[str, Domain], request: pytest.FixtureRequest
) -> Iterator[Domain]:
    """Have a domU of each kind, in which nothing is granted before and after."""
    running = domains[request.param]
    running.await_counts(NOTHING)
    running.shell("dmesg --clear")
    yield running
    running.await_counts(NOTHING)
    log = running.shell("dmesg")
    assert not [line for line in log.splitlines() if any(c in line for c in COMPLAINTS)]
