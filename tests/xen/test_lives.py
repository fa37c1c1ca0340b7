"""What is granted, and mapped, while one side after the other goes away."""

import mmap
import signal
import subprocess
import sys
import time

import pytest

from lab import nested, xen_guest
from tests.xen.domain import NOTHING, PAGE, USE_ALL_MEMORY, Domain, contents, domids
from tests.xen.gntdev import GrantFile, expand, mapped

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # a domU may have to be booted
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

PAGES = 300
GRANT = f"""
size = {PAGES} * PAGE
at, fd = device(), MAKE[kind](size)
fill(fd, size, 7)
granted, result = grant(at, fd, 0, size)
"""


@pytest.mark.parametrize("kind", ["memfd", "heap"])
def test_what_is_mapped_outlives_the_close(domain: Domain, kind: str) -> None:
    refs = expand(domain.python(f"kind = '{kind}'\n{GRANT}"))
    with mapped(refs, domain.domid) as mapping:
        domain.python("for each in granted, fd, at: os.close(each)")
        assert domain.counts() == [1, PAGES, 1, PAGES]

        domain.python(USE_ALL_MEMORY)

        assert mapping[:] == contents(PAGES, 7)
        # It looks again and again, and finds it mapped.
        time.sleep(5)
        assert domain.counts() == [1, PAGES, 1, PAGES]
        assert mapping[:] == contents(PAGES, 7)
        # The module cannot be unloaded under it.
        assert "in use" in domain.shell("rmmod gem_grant 2>&1 || true")
    domain.await_counts(NOTHING)


def test_what_is_not_mapped_is_taken_back_at_once(domain: Domain) -> None:
    refs = expand(domain.python(f"kind = 'memfd'\n{GRANT}"))
    with mapped(refs[10:15], domain.domid) as mapping:
        domain.python("for each in granted, fd, at: os.close(each)")

        assert domain.counts() == [1, 5, 1, 5]
        # Pages are let go together.
        domain.python(USE_ALL_MEMORY)
        assert mapping[:] == contents(PAGES, 7)[10 * PAGE : 15 * PAGE]
    domain.await_counts(NOTHING)


def test_an_app_that_is_killed(domain: Domain) -> None:
    refs = expand(domain.python(f"kind = 'memfd'\n{GRANT}"))
    with mapped(refs, domain.domid) as mapping:
        domain.guest.kill(domain.pid, signal.SIGKILL)
        domain.guest.wait(domain.pid)
        domain.restart()

        assert domain.counts() == [1, PAGES, 1, PAGES]
        assert mapping[:] == contents(PAGES, 7)
    domain.await_counts(NOTHING)


def test_whoever_mapped_it_is_killed(domain: Domain) -> None:
    refs = expand(domain.python(f"kind = 'memfd'\n{GRANT}"))
    with GrantFile(refs, domain.domid) as file:
        code = (
            "import mmap, sys, time; m = mmap.mmap(int(sys.argv[1]), int(sys.argv[2]))"
        )
        code += "; print(len(m), flush=True); time.sleep(1000)"
        number = file.fileno()
        process = subprocess.Popen(
            [sys.executable, "-Ic", code, str(number), str(PAGES * PAGE)],
            pass_fds=[number],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == f"{PAGES * PAGE}\n".encode()
            domain.python("for each in granted, fd, at: os.close(each)")
            assert domain.counts() == [1, PAGES, 1, PAGES]
            process.kill()
            process.wait()
    domain.await_counts(NOTHING)


def test_the_file_is_closed_while_it_is_mapped(domain: Domain) -> None:
    refs = expand(domain.python(f"kind = 'memfd'\n{GRANT}"))
    with GrantFile(refs, domain.domid) as file:
        mapping = mmap.mmap(file.fileno(), PAGES * PAGE)
    with mapping:
        assert mapping[:] == contents(PAGES, 7)
        domain.python("for each in granted, fd, at: os.close(each)")
        assert domain.counts() == [1, PAGES, 1, PAGES]
    domain.await_counts(NOTHING)


def test_an_object_that_is_shared_is_closed_with_the_last_copy(domain: Domain) -> None:
    domain.python(f"kind = 'memfd'\n{GRANT}")
    domain.python("copy = os.dup(granted)\nfor each in granted, fd, at: os.close(each)")
    assert domain.counts() == [1, PAGES, 0, 0]
    domain.python("os.close(copy)")
    assert domain.counts() == NOTHING


def test_the_module_can_be_loaded_anew(domain: Domain) -> None:
    domain.python(f"kind = 'memfd'\n{GRANT}")
    domain.python("for each in granted, fd, at: os.close(each)")

    module = "/lab/modules/gem_grant.ko"
    domain.shell(f"rmmod gem_grant; test ! -e /dev/gem-grant; insmod {module}")

    assert domain.counts() == NOTHING


def test_a_domain_that_is_destroyed_while_mapped(domain: Domain) -> None:
    kind = domain.machine.kind
    victim = Domain(xen_guest.domu(kind, directory=nested.RUN / "victim"))
    refs = expand(victim.python(f"kind = 'memfd'\n{GRANT}"))
    with mapped(refs, victim.domid) as mapping:
        victim.close()

        assert mapping[:] == contents(PAGES, 7)
        assert domain.counts() == NOTHING
        # Its memory is kept as long as anybody has it.
        assert victim.domid in domids()
        assert mapping[:] == contents(PAGES, 7)
    deadline = time.monotonic() + 60
    while victim.domid in domids():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert domain.domid in domids()
