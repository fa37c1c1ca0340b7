"""``lab build``: makes the Debian images and fetches the PyPI packages, each once.

A finished image is a directory ``images/NAME-KEY`` in the cache with the root file
system (``root.img``), the kernel (``vmlinuz``, ``modules/``) and a static busybox.
The unpacked tree is kept too (``rootfs/``): it is what compiles the PyPI packages for
the image's own Python.
"""

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab import host_setup, kernels, paths, recipe
from lab.errors import LabError
from lab.kernels import run
from lab.say import say, step

# Room for what mke2fs itself writes; nothing is ever added to the image.
SLACK_MIB = 96
KERNEL_IDENTITY = "kernel-identity"


@dataclass(frozen=True, slots=True)
class Image:
    """A built image in the cache.

    Attributes:
        directory: where it is.
        suite: the Debian release in it.
    """

    directory: Path
    suite: str

    @property
    def made(self) -> str:
        """Its name, and when it was made: with another kernel it keeps its name."""
        return f"{self.directory.name} {self.root.stat().st_mtime_ns}"

    @property
    def root(self) -> Path:
        """The ext4 root file system."""
        return self.directory / "root.img"

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.directory / "vmlinuz"

    @property
    def hypervisor(self) -> Path:
        """Xen, unpacked, in the image that has it."""
        return self.directory / "xen"

    @property
    def busybox(self) -> Path:
        """A statically linked busybox, for the initramfs."""
        return self.directory / "busybox"

    @property
    def modules(self) -> Path:
        """The kernel's module directory."""
        return self.directory / "modules"

    @property
    def rootfs(self) -> Path:
        """The unpacked root file system."""
        return self.directory / "rootfs"

    @property
    def release(self) -> str:
        """The kernel's release."""
        return self.kernel_identity.partition(" ")[0]

    @property
    def kernel_identity(self) -> str:
        """Which kernel, of whatever recipe, was copied into it."""
        return (self.directory / KERNEL_IDENTITY).read_text().strip()

    def has(self, kernel: kernels.Kernel) -> bool:
        """Say whether that kernel is the one in it, modules and all."""
        # Images of before the file was written have some other one.
        known = (self.directory / KERNEL_IDENTITY).exists()
        return known and self.kernel_identity == kernel.identity


def image_path(wanted: recipe.Recipe) -> Path:
    """Return where an image is, or would be."""
    return paths.cache() / "images" / f"{wanted.name}-{wanted.key}"


def find(wanted: recipe.Recipe) -> Image:
    """Return a built image.

    Raises:
        LabError: it has not been built.
    """
    path = image_path(wanted)
    if not path.exists():
        raise LabError(f"no {wanted.name} image: run python3 -m lab build")
    return Image(path, wanted.suite)


def deps_path(host: recipe.Recipe) -> Path:
    """Return where the image of a host's PyPI packages is, or would be."""
    wanted = [recipe.requirements(), recipe.constraints()]
    key = recipe.digest([recipe.FORMAT, host.site, wanted])
    return paths.cache() / "images" / f"deps-{host.suite}-{key}.img"


def build(
    hosts: Collection[recipe.Recipe] = (),
    others: Collection[recipe.Recipe] = (recipe.GUEST_IMAGE,),
) -> None:
    """Build what is not in the cache yet.

    Args:
        hosts: what needs the PyPI packages as well.
        others: what does not.

    Raises:
        LabError: this is not root, or a step failed.
    """
    wanted = (*hosts, *others)
    if all(map(_is_current, wanted)) and all(
        deps_path(each).exists() for each in hosts
    ):
        say("the images are up to date")
        return
    if os.geteuid() != 0:
        raise LabError("building images needs root: sudo python3 -m lab build")
    # They wait for the network and for one core each: do all at once.
    with ThreadPoolExecutor(max_workers=8) as pool:
        suites = sorted({each.suite for each in wanted})
        fetched = {suite: pool.submit(kernels.fetch, suite) for suite in suites}
        building = [
            pool.submit(_build_image, each, fetched[each.suite])
            for each in wanted
            if not _is_current(each)
        ]
        for kernel in fetched.values():
            kernels.build(kernel.result())
        for image in building:
            image.result()
    for host in hosts:
        if not deps_path(host).exists():
            _build_deps(host)
    _remove_others()


def _is_current(wanted: recipe.Recipe) -> bool:
    """Say whether an image, its kernel and our modules for it are all there."""
    image = Image(image_path(wanted), wanted.suite)
    if not image.directory.exists() or not kernels.path(wanted.suite).exists():
        return False
    kernel = kernels.find(wanted.suite)
    return image.has(kernel) and kernels.is_built(kernel)


def _remove_others() -> None:
    """Remove what older recipes built: gigabytes each."""
    wanted = {image_path(each).name for each in recipe.IMAGES}
    wanted |= {kernels.path(suite).name for suite in recipe.PYTHON}
    wanted |= {deps_path(host).stem for host in recipe.HOSTS.values()}
    for path in (paths.cache() / "images").iterdir():
        if path.is_dir() and path.name not in wanted:
            shutil.rmtree(path)
        elif path.is_file() and path.stem not in wanted:
            path.unlink()


def _build_image(wanted: recipe.Recipe, fetched: Future[kernels.Kernel]) -> None:
    final = image_path(wanted)
    if final.exists():  # then all that can be amiss is the kernel in it
        if Image(final, wanted.suite).has(fetched.result()):
            return
        shutil.rmtree(final)
    work = final.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rootfs = work / "rootfs"
    with step(f"{wanted.name}: mmdebstrap, {len(wanted.packages)} packages"):
        kernels.bootstrap(wanted.suite, "apt", wanted.packages, rootfs)
    kernel = fetched.result()
    with step(f"{wanted.name}: file system image"):
        _finish(wanted, rootfs, kernel)
        make_ext4(rootfs, work / "root.img", log=work / "build.log")
    (work / KERNEL_IDENTITY).write_text(kernel.identity + "\n")
    shutil.copy(kernel.vmlinuz, work / "vmlinuz")
    shutil.copy(rootfs / "usr/bin/busybox", work / "busybox")
    shutil.copytree(kernel.modules, work / "modules")
    for packed in rootfs.glob("boot/xen-*-amd64.gz"):
        # Multiboot, which is how QEMU starts it, takes no compressed one.
        (work / "xen").write_bytes(gzip.decompress(packed.read_bytes()))
    work.rename(final)
    size = (final / "root.img").stat().st_blocks * 512 >> 20
    say(f"{wanted.name}: {size} MiB, kernel {kernel.release}")


def _finish(wanted: recipe.Recipe, rootfs: Path, kernel: kernels.Kernel) -> None:
    for name in ("lab", "out", "work"):
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    # The group is the one that kernel/udmabuf/udev gives /dev/gem-locate to.
    accounts = "groupadd --system wlproxy && useradd --create-home --uid 1000 "
    accounts += "--groups kvm,render,video lab"
    run(["chroot", str(rootfs), "sh", "-ec", accounts])
    (rootfs / "etc/hostname").write_text(f"lab-{wanted.name}\n")
    # systemd asks for one and would otherwise write it on a read-only disk.
    (rootfs / "etc/machine-id").write_text("0" * 31 + "1\n")
    shutil.copytree(kernel.modules, rootfs / "usr/lib/modules" / kernel.release)


def _build_deps(host: recipe.Recipe) -> None:
    image = find(host)
    target = image.rootfs / host.site.lstrip("/")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    final = deps_path(host)
    constraint = final.with_suffix(".constraints")
    constraint.write_text("".join(line + "\n" for line in recipe.constraints()))
    log = final.with_suffix(".log")
    wanted = recipe.requirements()
    with step(f"PyPI packages for {host.name}: {' '.join(wanted)}"):
        run([*_pip(recipe.PYTHON[host.suite], target, constraint), *wanted], log=log)
    with step("PyPI packages: compile for the image's Python"):
        compile_all = ["python3", "-m", "compileall", "-q", host.site]
        run(["chroot", str(image.rootfs), *compile_all], log=log)
        new = final.with_suffix(".new")
        make_ext4(target, new, log=log)
        new.rename(final)


def _pip(python: str, target: Path, constraint: Path) -> list[str]:
    platforms = [f"--platform=manylinux_2_{n}_x86_64" for n in (17, 28, 34, 39, 41)]
    return [
        *(sys.executable, "-m", "pip", "install", "--no-compile", "--quiet"),
        *("--only-binary=:all:", "--implementation=cp"),
        *(f"--abi=cp{python.replace('.', '')}", "--abi=abi3", "--abi=none"),
        *(f"--python-version={python}", *platforms),
        *("--platform=manylinux2014_x86_64", f"--target={target}"),
        f"--constraint={constraint}",
    ]


def make_ext4(tree: Path, image: Path, *, log: Path | None = None) -> None:
    """Make an ext4 image of a directory.

    There is no journal and no spare room: the image is only ever mounted read-only.
    """
    used = subprocess.run(
        ["du", "-sm", "--apparent-size", str(tree)],
        capture_output=True,
        text=True,
        check=True,
    )
    size = int(used.stdout.split()[0]) * 115 // 100 + SLACK_MIB
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(size << 20)
    program = host_setup.find_program("mke2fs") or "mke2fs"
    options = ["-O", "^has_journal,^metadata_csum", "-m", "0"]
    extended = "lazy_itable_init=1,root_owner=0:0"
    command = [program, "-q", "-t", "ext4", *options, "-E", extended, "-d", str(tree)]
    run([*command, str(image)], log=log)
