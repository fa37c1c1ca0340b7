"""The kernel modules' own tests, on Debian's kernels, by `kernel/udmabuf/vmtest.py`.

It compiles them for each kernel, boots that in QEMU and runs what prints TAP there; then
the kernel's log must hold no warning.  What the programs check stands in
`kernel/udmabuf/selftests`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import debian, delegation, host_setup, paths

VMTEST = paths.REPOSITORY / "kernel" / "udmabuf" / "vmtest.py"
LOGS = Path("build")
PATIENCE = 600
"""Seconds for a kernel: most of it goes into what is emulated."""

SHOWN = {
    "bookworm": ("udmabuf", "vgem", "virtio_gpu"),
    "trixie": ("udmabuf", "dma-heap", "vgem", "virtio_gpu"),
}
"""What exports dma-bufs in memory there: Debian 12's kernel has no dma-heaps."""

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.slow,
    pytest.mark.timeout(PATIENCE + 60),
    pytest.mark.skipif(os.geteuid() != 0, reason="compiles in a chroot: needs root"),
    pytest.mark.skipif(
        not {"mmdebstrap", "qemu-system-x86"}.isdisjoint(host_setup.missing()),
        reason="needs mmdebstrap and QEMU: python3 -m lab setup",
    ),
]


@pytest.fixture
def vmtest(record_property: Callable[[str, object], None]) -> Callable[..., str]:
    """Runs it; returns what its last machine printed once it has passed."""

    def run(name: str, *arguments: str) -> str:
        LOGS.mkdir(exist_ok=True)
        log = LOGS / f"kernel-{name}.log"
        with log.open("wb") as file:
            done = subprocess.run(
                [sys.executable, VMTEST, "--timeout", str(PATIENCE - 120), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "WLPROXY_DEBIAN_MIRROR": debian.mirror()},
                timeout=PATIENCE,
                check=False,
            )
        text = log.read_text(errors="replace")
        *lost, last = re.split(r"^# .*: machine \d+ is lost$", text, flags=re.MULTILINE)
        record_property(delegation.LOST_MACHINES, len(lost))
        assert done.returncode == 0, f"{log} ends:\n{text[-4000:]}"
        return last

    return run


@pytest.mark.parametrize(
    ("suite", "drivers"), [("bookworm", 1), ("trixie", 2)], ids=["6.1", "6.12"]
)
def test_selftests_and_a_fuzz_run_pass(
    vmtest: Callable[..., str], suite: str, drivers: int
) -> None:
    printed = vmtest(suite, "--rounds", "300", "--fuzz", "20000", suite)

    # Once for each driver: the module, and the kernel's own where it has one.
    plans = re.findall(r"^1\.\.\d+", printed, re.MULTILINE)
    results = re.findall(r"^ok \d+", printed, re.MULTILINE)
    assert len(plans) >= 6 * drivers
    assert len(results) >= 100 * drivers
    assert not re.search(r"^not ok", printed, re.MULTILINE)
    # Each program found what it needs, and where something was left out it says why.
    assert printed.count(" 0 failed, 0 skipped") == drivers
    assert not re.search(r"# SKIP *$", printed, re.MULTILINE)
    for refused in ("in a device's memory: EREMOTE", "dynamic: EOPNOTSUPP"):
        assert printed.count(f" - {refused}") == 2 * drivers
    assert re.search(r"^ok \d+ - bochs-drm: refused: E\w+", printed, re.MULTILINE)
    # What gem_locate said is where, looked at from outside the machine.
    pages = r"^# ([\w-]+): (\d+) pages in \d+ extents, (\d+) wrong$"
    found = re.findall(pages, printed, re.MULTILINE)
    assert sorted(found) == sorted((kind, "2048", "0") for kind in SHOWN[suite])


def test_gem_locate_refuses_where_all_dma_bounces(vmtest: Callable[..., str]) -> None:
    printed = vmtest("swiotlb", "--swiotlb", "trixie")

    refused = re.findall(r"^# ([\w-]+): (E\w+)$", printed, re.MULTILINE)
    assert sorted(refused) == sorted((kind, "EXDEV") for kind in SHOWN["trixie"])
    assert not re.search(r"^# [\w-]+: \d+ pages", printed, re.MULTILINE)
