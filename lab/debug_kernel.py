"""Builds a kernel that looks for faults in the modules of ``kernel/udmabuf``.

It is Linux as Debian's source package has it, with KASAN, kmemleak, lockdep and the like, and
with little else: ``kernel/udmabuf/debug.config`` lists its options.  It is a `Kernel` like the
others, for ``kernel/udmabuf/vmtest.py debug``.  The lab's machines do not run on it, which would
be too slow, and ``python3 -m lab build`` does not build it.
"""

import os
import re
import shutil
from pathlib import Path

from lab import kernels, paths, recipe
from lab.errors import LabError
from lab.say import say, step

SUITE = "trixie"
FAULTS = {
    0: "unreferenced object",
    1: "BUG: sleeping function called from invalid context",
    2: "WARNING: possible circular locking dependency",
    3: "UBSAN: array-index-out-of-bounds",
    4: "KASAN: slab-use-after-free in exporter_",
}
"""What the selftests' module commits on purpose, and what is reported then.

In this order: the report of a deadlock is lockdep's last, and after KASAN's it says nothing.
"""
CONFIG = kernels.SOURCE / "debug.config"
# Raise it when what is in the cache would have to be another.
FORMAT = 1
PACKAGES = (
    *kernels.PACKAGES,
    "bc",
    "bison",
    "flex",
    "libelf-dev",
    "linux-source-6.12",
    "perl",
    "python3-minimal",
)
# "-n": what the fragment does not name is off, unless something that it names needs it.
# And what a PVH domain of Xen's runs before KASAN has its shadow may not look at it: Linux has
# this for arch/x86/platform/pvh, but not for what is called from there.
CONFIGURE = """\
mkdir /build
cd /build
tar -xf /usr/src/linux-source-*.tar.xz --strip-components=1
rm /usr/src/linux-source-*
echo "KASAN_SANITIZE_enlighten_pvh.o := n" >>arch/x86/xen/Makefile
echo "KASAN_SANITIZE_string.o := n" >>lib/Makefile
scripts/kconfig/merge_config.sh -n /debug.config
make -s kernelrelease >/release
"""
# Then only what it takes to build modules is kept: a tenth.
BUILD = """\
cd /build
nice make -s -j{jobs} bzImage modules
release=$(cat /release)
mkdir -p /kernel/boot /lib/modules/$release
make -s INSTALL_MOD_PATH=/kernel modules_install
cp arch/x86/boot/bzImage /kernel/boot/vmlinuz-$release
cp .config /kernel/boot/config-$release
ln -s /build /lib/modules/$release/build
find . -name "*.o" -not -path "./tools/*" -not -path "./scripts/*" -delete
find . ! -type d "(" -name "*.a" -o -name ".*.cmd" ")" -delete
rm -rf vmlinux* Documentation drivers fs net samples sound arch/[!x]*
"""


def path() -> Path:
    """Return where it is, or would be."""
    files = {"config": CONFIG.read_bytes(), "scripts": (CONFIGURE + BUILD).encode()}
    key = recipe.digest([FORMAT, SUITE, PACKAGES, recipe.digest_files(files)])
    return paths.cache() / "debug-kernel" / key


def fetch() -> kernels.Kernel:
    """Return it, built if it is not in the cache: a quarter of an hour, on two processors.

    Raises:
        LabError: that failed; the message has the end of its output.
    """
    final = path()
    final.parent.mkdir(exist_ok=True)
    with kernels.exclusive(final):
        if not final.exists():
            work = final.with_suffix(".new")
            for older in final.parent.iterdir():
                shutil.rmtree(older)
            work.mkdir()
            with step("debug kernel: source and compiler"):
                kernels.bootstrap(SUITE, "apt", PACKAGES, work / "tree")
            _build(kernels.Kernel(SUITE, work))
            work.rename(final)
    return kernels.Kernel(SUITE, final)


def exporter(kernel: kernels.Kernel) -> bytes:
    """Build the selftests' module for it, which commits `FAULTS`.

    Raises:
        LabError: that failed.
    """
    with kernels.sources(kernel, ["*.h", "selftests"]) as source:
        kernels.make(kernel, "modules", directory="/src/selftests/exporter")
        built = source / "selftests/exporter/gem_locate_exporter.ko"
        return built.read_bytes()


def missing(wanted: str, got: str) -> list[str]:
    """List the lines of a fragment that a configuration does not have."""
    options = re.findall(r"^CONFIG_.*", wanted, re.MULTILINE)
    return [line for line in options if line not in got.splitlines()]


def _build(kernel: kernels.Kernel) -> None:
    shutil.copy(CONFIG, kernel.tree)
    log = kernel.directory / "build.log"
    command = ["chroot", str(kernel.tree), "sh", "-ec"]
    kernels.run([*command, CONFIGURE], log=log)
    config = (kernel.tree / "build/.config").read_text()
    if lacking := missing(CONFIG.read_text(), config):
        raise LabError("not in the kernel's configuration: " + ", ".join(lacking))
    jobs = len(os.sched_getaffinity(0))
    with step(f"debug kernel {kernel.release}: build"):
        kernels.run([*command, BUILD.format(jobs=jobs)], log=log)
    say(f"debug kernel: {kernel.vmlinuz.stat().st_size >> 20} MiB")
