"""What the guest has granted is what dom0 maps: the very pages, of memfds and dma-bufs."""

import pytest

from lab import xen_guest
from tests.xen.domain import PAGE, Domain, contents
from tests.xen.gntdev import expand, mapped, refusal

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # a domU may have to be booted
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

SIZES = {"64x64": 4, "1080p": 2025, "4K": 8100}
"""Pages of a buffer with four bytes a pixel."""


@pytest.mark.parametrize("pages", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", ["memfd", "heap"])
def test_dom0_sees_the_very_pages(domain: Domain, kind: str, pages: int) -> None:
    runs = domain.python(f"""
size = {pages * PAGE}
at, fd = device(), MAKE["{kind}"](size)
fill(fd, size, 1)
granted, result = grant(at, fd, 0, size)
""")
    # Nothing else is granted, so that there are as many in a row.
    assert [count for _, count in runs] == [pages]

    with mapped(expand(runs), domain.domid) as mapping:
        assert mapping[:] == contents(pages, 1)
        domain.python("fill(fd, size, 2)")
        assert mapping[:] == contents(pages, 2)
        mapping[PAGE : PAGE + 5] = b"hello"
        code = "m = mmap.mmap(fd, size); result = m[PAGE:PAGE + 5].decode(); m.close()"
        assert domain.python(code) == "hello"

    domain.python("for each in granted, fd, at: os.close(each)")


@pytest.mark.parametrize("kind", ["memfd", "heap"])
def test_only_the_range_is_granted(domain: Domain, kind: str) -> None:
    runs = domain.python(f"""
at, fd = device(), MAKE["{kind}"](16 * PAGE)
fill(fd, 16 * PAGE, 3)
granted, result = grant(at, fd, 5 * PAGE, 7 * PAGE)
""")
    refs = expand(runs)
    assert len(refs) == 7

    with mapped(refs, domain.domid) as mapping:
        assert mapping[:] == contents(16, 3)[5 * PAGE : 12 * PAGE]
    assert domain.counts() == [1, 7, 0, 0]

    domain.python("for each in granted, fd, at: os.close(each)")


def test_a_buffer_can_be_granted_twice_and_mapped_twice(domain: Domain) -> None:
    one, two = domain.python("""
at, fd = device(), memfd(4 * PAGE)
fill(fd, 4 * PAGE, 4)
first, a = grant(at, fd, 0, 4 * PAGE)
second, b = grant(at, fd, 0, 4 * PAGE)
result = [a, b]
""")
    assert not set(expand(one)) & set(expand(two))

    with (
        mapped(expand(one), domain.domid) as mapping,
        mapped(expand(one), domain.domid) as again,
        mapped(expand(two), domain.domid) as other,
    ):
        assert mapping[:] == again[:] == other[:] == contents(4, 4)

    domain.python("for each in first, second, fd, at: os.close(each)")


def test_a_fragmented_table_gives_runs_in_the_order_of_the_bytes(
    domain: Domain,
) -> None:
    # One memfd many times over: what is short is references, not memory.
    domain.python("""
open("/sys/module/gem_grant/parameters/max_refs", "w").write("4000000000")
at, fd = device(), memfd(1024 * PAGE)
many = []
while True:
    try:
        many.append(pages(at, fd, 0, 1024 * PAGE)[0])
    except OSError as error:
        assert error.errno == errno.ENOSPC, error
        break
# Holes that are too small for what comes now, but together large enough.
for each in many[1:6:2]: os.close(each)
large = memfd(2048 * PAGE)
fill(large, 2048 * PAGE, 5)
granted, count = pages(at, large, 0, 2048 * PAGE)
kept["runs"] = runs(granted, count)
""")
    runs = domain.python("result = kept['runs']")
    assert len(runs) > 1
    assert sum(count for _, count in runs) == 2048

    with mapped(expand(runs), domain.domid) as mapping:
        assert mapping[:] == contents(2048, 5)

    # A table that is full is nobody else's trouble: the disk goes on.
    assert "root" in domain.shell("echo 3 >/proc/sys/vm/drop_caches; cat /etc/passwd")
    domain.python("""
open("/sys/module/gem_grant/parameters/max_refs", "w").write("0")
for each in [granted, large, fd, at, many[0], *many[2:6:2], *many[6:]]: os.close(each)
""")


def test_what_was_not_granted_cannot_be_mapped(domain: Domain) -> None:
    runs = domain.python("""
at, fd = device(), memfd(4 * PAGE)
granted, result = grant(at, fd, 0, 4 * PAGE)
""")
    refs = expand(runs)
    assert refusal(refs, domain.domid) is None

    # Never granted; beyond the table; of a domain that is not there, and of dom0.
    for wrong, domid in (
        ([*refs[:3], max(refs) + 5000], domain.domid),
        ([*refs[:3], 0xFFFFFFF0], domain.domid),
        (refs, 30000),
        (refs, 0),
    ):
        assert refusal(wrong, domid) == "EINVAL"

    domain.python("for each in granted, fd, at: os.close(each)")
    assert refusal(refs, domain.domid) == "EINVAL"
