"""The hand-over of tests to the lab and of reports back, with a lab that is this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab import delegation, paths

pytestmark = pytest.mark.timeout(150)  # each starts several pythons

LAB = """\
# In front of the real one on the path: all but "python3 -m lab" is that's.
from pathlib import Path
__path__.append({real!r})
"""

MACHINE = """\
# "python3 -m lab pytest|xen [OPTION...] -- ARGUMENT...", without a machine.
import os, pathlib, sys
import pytest

arguments = sys.argv[sys.argv.index("--") + 1 :]
os.environ["WLPROXY_LAB"] = "1"
count = pathlib.Path("machines")
number = len(count.read_text()) if count.exists() else 0
count.write_text((number + 1) * "x")
os.environ["MACHINE"] = str(number + 1)
os.environ["KIND"] = sys.argv[1]
{before}
sys.exit(pytest.main(arguments))
"""

CONFTEST = """\
import pytest
from lab import delegation


def pytest_addoption(parser):
    parser.addoption("--lab", action="store_true")


def pytest_configure(config):
    for mark in ("lab", "guest", "xen"):
        config.addinivalue_line("markers", f"{mark}: needs a machine")
    delegation.register(config)
"""

TESTS = """\
import os
import pytest

pytestmark = pytest.mark.lab


def test_passes():
    pass


@pytest.mark.skip(reason="nothing to see")
def test_skipped():
    pass


@pytest.mark.skipif("MACHINE" in os.environ, reason="not on a machine")
def test_skipped_in_the_lab():
    pass


def test_fails():
    assert os.environ["MACHINE"] == "no number", "as it must"


def test_passes_on_another_machine():
    assert os.environ["MACHINE"] != "1"


@pytest.mark.xfail(reason="known")
def test_fails_as_expected():
    raise AssertionError
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose lab is a process of this machine."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/__init__.py").write_text(LAB.format(real=str(paths.LAB)))
    (tmp_path / "lab/__main__.py").write_text(MACHINE.format(before=""))
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(project: Path) -> tuple[int, str]:
    """Run its tests as `make test` does; return the status and what was printed."""
    environment = {k: v for k, v in os.environ.items() if k != "WLPROXY_LAB"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--lab", "-v", "-ra", "-p", "no:randomly"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_became_of_each_test_is_told_here(project: Path) -> None:
    (project / "test_it.py").write_text(TESTS)

    status, text = run(project)

    assert "1 failed, 2 passed, 2 skipped, 1 xfailed" in text, text
    assert "as it must" in text
    assert "nothing to see" in text
    assert "not on a machine" in text
    again = "PASSED on a later machine only: test_it.py::"
    assert text.count(again) == 1, text
    assert f"{again}test_passes_on_another_machine" in text
    assert status == 1


STANDS_STILL = """\
import os
import pytest
from lab.guest import GuestLostError

pytestmark = pytest.mark.guest


def test_before():
    pass


def test_of_a_guest():
    if int(os.environ["MACHINE"]) < 4:
        raise GuestLostError("no answer")


def test_after():
    pass
"""


def test_a_machine_that_stands_still_is_replaced(project: Path) -> None:
    (project / "test_it.py").write_text(STANDS_STILL)

    status, text = run(project)

    assert "3 passed" in text, text
    assert "machines that panicked, stood still or were ended by QEMU: 3" in text
    assert "PASSED on a later machine only: test_it.py::test_of_a_guest" in text
    assert "PASSED on a later machine only: test_it.py::test_before" not in text
    assert (project / "machines").read_text() == "xxxx"
    assert status == 0


def test_a_machine_that_breaks_down_is_a_failure(project: Path) -> None:
    (project / "test_it.py").write_text(
        "import pytest\n@pytest.mark.guest\ndef test_it():\n    pass\n"
    )
    broken = MACHINE.format(before='print("the VM broke down"); sys.exit(125)')
    (project / "lab/__main__.py").write_text(broken)

    status, text = run(project)

    assert "1 failed" in text, text
    assert "the VM broke down" in text
    assert len((project / "machines").read_text()) == delegation.MACHINES
    assert status == 1


GROUPED = """\
import os
import pytest

pytestmark = pytest.mark.guest(group="alike")


def test_it():
    assert os.environ["MACHINE"] == "1"
"""


def test_a_group_has_one_machine(project: Path) -> None:
    for name in ("test_one.py", "test_two.py"):
        (project / name).write_text(GROUPED)

    status, text = run(project)

    assert "2 passed" in text, text
    assert "guest: 2 of 2 good" in text
    assert (project / "machines").read_text() == "x"
    assert status == 0


FOR_XEN = """\
import os
import pytest
from lab.guest import GuestLostError

pytestmark = pytest.mark.xen


def test_before():
    assert os.environ["KIND"] == "xen"


def test_of_a_domain():
    if os.environ["MACHINE"] == "1":
        raise GuestLostError("no answer")
"""


def test_what_needs_xen_has_one_machine_and_the_rest_a_fresh_one(project: Path) -> None:
    for name in ("test_one.py", "test_two.py"):
        (project / name).write_text(FOR_XEN)

    status, text = run(project)

    assert "4 passed" in text, text
    assert "xen: 1 of 4 good" in text
    assert "xen: 3 of 3 good" in text
    assert "machines that panicked, stood still or were ended by QEMU: 1" in text
    assert (project / "machines").read_text() == "xx"
    assert status == 0
