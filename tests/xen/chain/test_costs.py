"""What `python -m bench.xen` measures, measured: its tables are left among the job's files."""

import pytest

from bench import xen
from lab import xen_guest
from tests.integration import harness
from tests.xen.chain.stage import Shown

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]


@pytest.mark.parametrize("shown", ["pvh-weston"], indirect=True)
def test_a_frame_costs_none_of_what_a_buffer_costs_once(
    shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = shown.domain
    rows = xen.measure(
        shown.side, shown.proxy, lambda size: xen.grants(domain, size), shown.guest
    )
    tables = xen.tables(domain.machine.kind, rows)
    (harness.OUT / xen.KEPT).write_text(f"{tables}\n")
    with capsys.disabled():
        print(f"\n{tables}\n")
    large = rows["3840x2160"]
    # That its pages are another domain's is paid for by mmap, not by who reads them.
    assert large["host: next frame read"] < large["host: mmap"]
