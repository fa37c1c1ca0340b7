"""Fetches Debian's kernels, and builds the modules of ``kernel/udmabuf`` for them.

A kernel is a directory ``images/kernel-SUITE-KEY`` in the cache: a tree of that suite with
compiler and headers (``tree/``), in which the kernel itself lies unpacked (``tree/kernel``).
The lab's machines run it and ``kernel/udmabuf/vmtest.py`` boots it.  Headers, compiler and
kernel were fetched together, so a module built there always fits.  This module knows nothing
of images and machines.
"""

import contextlib
import fcntl
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import debian, host_setup, paths, recipe
from lab.errors import LabError
from lab.say import say, step

SOURCE = paths.REPOSITORY / "kernel" / "udmabuf"
# What the modules are made of; the selftests are not among it.
MODULE_SOURCES = ("*.c", "*.h", "Kbuild", "Makefile", "dkms.conf", "include")
MODULES = ("gem_locate", "udmabuf_compat", "gem_grant")
# Where the kernel has the driver itself, ours can be loaded only if it is built with
# another name for its device; programs are then shown that one in place of the kernel's.
RENAMED = "udmabuf_compat-renamed"
RENAMED_DEVICE = "udmabuf-compat"
# Raise it when what is in the cache would have to be another.
FORMAT = 1
PACKAGES = (
    "cpio",
    "gcc",
    "kmod",
    "libc6-dev",
    "libelf1",
    "make",
    "pahole",
    "sparse",
    "xz-utils",
)
# Drivers that no machine of ours has a device for: two thirds of what there is.
LEFT_OUT = (
    *("drivers/gpu/drm/" + name for name in ("amd", "i915", "nouveau", "radeon", "xe")),
    *("drivers/" + name for name in ("comedi", "hwmon", "iio", "infiniband")),
    *("drivers/media/" + name for name in ("dvb-core", "dvb-frontends", "i2c", "pci")),
    *("drivers/media/" + name for name in ("platform", "radio", "tuners", "usb")),
    "drivers/media/rc/keymaps",
    *("drivers/" + name for name in ("mtd", "net", "platform", "scsi", "staging")),
    *("drivers/usb", "sound"),
)
# Unpacked only: set up, the packages would make an initramfs that nobody boots.
FETCH = """\
chroot "$1" sh -ec 'mkdir /fetched /kernel; cd /fetched
depends() {{ apt-cache depends --important "$1" | sed -n "s/^ *Depends: //p"; }}
release=$(depends linux-image-amd64 | sed -n "s/^linux-image-//p" | head -n 1)
headers=linux-headers-$release
apt-get download linux-image-$release $headers \
    $(depends $headers | grep -E "^linux-(headers|kbuild)-")
dpkg --fsys-tarfile linux-image-*.deb | tar -xC /kernel {excludes}
if [ -d /kernel/usr/lib ]; then cp -a /kernel/usr/lib /kernel/; fi
rm -r /kernel/usr linux-image-*.deb
for each in *.deb; do dpkg -x $each tree; done
cp -a tree/usr/. /usr/; if [ -d tree/lib ]; then cp -a tree/lib/. /lib/; fi
cd /; rm -r /fetched; depmod -b /kernel $release; echo $release >/release'
"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in the cache, with what builds modules for it.

    Attributes:
        suite: the Debian release it is of.
        directory: where it is.
    """

    suite: str
    directory: Path

    @property
    def tree(self) -> Path:
        """The tree to ``chroot`` into, to compile."""
        return self.directory / "tree"

    @property
    def release(self) -> str:
        """What ``uname -r`` says in a machine that runs it."""
        return (self.tree / "release").read_text().strip()

    @property
    def identity(self) -> str:
        """What an image that has it in it is compared by: release and recipe."""
        return f"{self.release} {self.directory.name}"

    @property
    def vmlinuz(self) -> Path:
        """The kernel itself."""
        return self.tree / "kernel/boot" / f"vmlinuz-{self.release}"

    @property
    def config(self) -> str:
        """The options that it was built with, a line each."""
        return (self.tree / "kernel/boot" / f"config-{self.release}").read_text()

    @property
    def has_udmabuf(self) -> bool:
        """Whether it has the driver that `udmabuf_compat` stands in for."""
        return "\nCONFIG_UDMABUF=y" in self.config

    @property
    def modules(self) -> Path:
        """Its own modules, as far as our machines may need them."""
        return self.tree / "kernel/lib/modules" / self.release


def path(suite: str) -> Path:
    """Return where a suite's kernel is, or would be."""
    key = recipe.digest([FORMAT, suite, PACKAGES, LEFT_OUT, FETCH])
    return paths.cache() / "images" / f"kernel-{suite}-{key}"


def find(suite: str) -> Kernel:
    """Return a suite's kernel.

    Raises:
        LabError: it has not been fetched.
    """
    kernel = Kernel(suite, path(suite))
    if not kernel.directory.exists():
        raise LabError(f"no kernel of {suite}: run python3 -m lab build")
    return kernel


def fetch(suite: str) -> Kernel:
    """Return a suite's kernel, fetched if it is not in the cache.

    Raises:
        LabError: that failed.
    """
    final = path(suite)
    final.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(final):
        if not final.exists():
            work = final.with_suffix(".new")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            with step(f"{suite}: kernel, headers, compiler"):
                excludes = " ".join(f'--exclude="*/kernel/{each}"' for each in LEFT_OUT)
                hook = "--customize-hook=" + FETCH.format(excludes=excludes)
                bootstrap(suite, "apt", PACKAGES, work / "tree", hook)
            work.rename(final)
            say(f"{suite}: kernel {Kernel(suite, final).release}")
    return Kernel(suite, final)


def bootstrap(
    suite: str, variant: str, packages: Sequence[str], target: Path, *options: str
) -> None:
    """Unpack Debian packages; for all variants but "extract", set them up as well.

    Raises:
        LabError: that failed; the message has the end of its output.
    """
    left_out = ("doc", "man", "locale", "info", "lintian", "help", "gtk-doc")
    program = host_setup.find_program("mmdebstrap") or "mmdebstrap"
    command = [
        *(program, "--mode=root", f"--variant={variant}", "--format=directory"),
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in sorted(left_out)),
        "--include=" + ",".join(sorted(packages)),
        *options,
        *(suite, str(target), f"deb {debian.mirror()} {suite} main"),
    ]
    run(command, log=target.parent / "build.log")


def run(command: Sequence[str], *, log: Path | None = None) -> None:
    """Run a command to its end, its output into a log.

    Raises:
        LabError: it failed; the message has the end of its output.
    """
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if log is not None:
        with log.open("a") as file:
            file.write(f"$ {' '.join(command)}\n{done.stdout}\n")
    if done.returncode != 0:
        tail = done.stdout[-3000:]
        raise LabError(f"{command[0]} failed ({done.returncode}):\n{tail}")


@contextlib.contextmanager
def exclusive(final: Path) -> Iterator[None]:
    """Keep others, of this process or another, from the same kernel."""
    # A lock of an open file: threads exclude each other as well.
    with (paths.cache() / f"{final.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ---- the modules of kernel/udmabuf


@contextlib.contextmanager
def sources(kernel: Kernel, patterns: Sequence[str]) -> Iterator[Path]:
    """Have copies of our sources in the kernel's tree, as ``/src``, alone."""
    with exclusive(kernel.directory):
        source = kernel.tree / "src"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for pattern in patterns:
            for each in SOURCE.glob(pattern):
                if each.is_dir():
                    shutil.copytree(each, source / each.name)
                else:
                    shutil.copy2(each, source)
        yield source


def make(kernel: Kernel, *arguments: str, directory: str = "/src") -> None:
    """Run ``make`` in the kernel's tree, where `sources` has put the sources.

    Raises:
        LabError: it failed; the message has the end of its output.
    """
    command = ["nice", "chroot", str(kernel.tree), "make", "-s", "-C", directory]
    run(
        [*command, f"KVER={kernel.release}", *arguments],
        log=kernel.directory / "make.log",
    )


def built(suite: str, release: str) -> dict[str, Path]:
    """Return our modules for a kernel, by name.

    Args:
        suite: whose kernel.
        release: the one that will load them.

    Raises:
        LabError: they have not been built as they are now.
    """
    kernel = find(suite)
    if kernel.release != release or not is_built(kernel):
        message = f"no modules of kernel/udmabuf for {release}"
        raise LabError(f"{message}: run python3 -m lab build, as root")
    return built_for(kernel)


def built_for(kernel: Kernel) -> dict[str, Path]:
    """Return our modules for a kernel, by name: `build` has built them."""
    directory = _built_path(kernel)
    names = (*MODULES, RENAMED) if kernel.has_udmabuf else MODULES
    return {name: directory / f"{name}.ko" for name in names}


def is_built(kernel: Kernel) -> bool:
    """Say whether our modules, as they are now, have been built for a kernel."""
    return _built_path(kernel).exists()


def build(kernel: Kernel) -> None:
    """Build our modules for a kernel, unless just these have been built already.

    Raises:
        LabError: they do not compile.
    """
    final = _built_path(kernel)
    if final.exists():
        return
    with step(f"modules of kernel/udmabuf for {kernel.release}"):
        with sources(kernel, MODULE_SOURCES) as source:
            shutil.rmtree(final.parent, ignore_errors=True)
            work = final.with_suffix(".new")
            work.mkdir(parents=True)
            make(kernel, "modules")
            _keep(kernel, source, work, {name: name for name in MODULES})
            if kernel.has_udmabuf:
                make(kernel, "clean")
                make(kernel, f"UDMABUF_NAME={RENAMED_DEVICE}", "modules")
                _keep(kernel, source, work, {"udmabuf_compat": RENAMED})
        work.rename(final)


def _keep(kernel: Kernel, source: Path, target: Path, names: dict[str, str]) -> None:
    """Copy modules to where they stay, under other names perhaps."""
    strip = [f"/src/{name}.ko" for name in names]
    run(["chroot", str(kernel.tree), "strip", "--strip-debug", *strip])
    for name, kept in names.items():
        shutil.copy(source / f"{name}.ko", target / f"{kept}.ko")


def _built_path(kernel: Kernel) -> Path:
    files = {
        str(each.relative_to(SOURCE)): each.read_bytes()
        for pattern in MODULE_SOURCES
        for found in SOURCE.glob(pattern)
        for each in (found.rglob("*") if found.is_dir() else [found])
        if each.is_file() and not each.name.endswith(".mod.c")
    }
    files["modules"] = " ".join((*MODULES, RENAMED)).encode()
    return kernel.directory / "built" / recipe.digest_files(files)
