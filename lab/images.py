"""``lab build``: the Debian images and the PyPI packages, each made once.

A finished image is a directory ``images/NAME-KEY`` in the cache with the root file
system (``root.img``), the kernel (``vmlinuz``, ``modules/``) and a static busybox.
The unpacked tree is kept too (``rootfs/``): it is what compiles the PyPI packages for
the image's own Python.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import debian, host_setup, paths, recipe
from lab.errors import LabError
from lab.say import say, step

# The kernel package would drag in initramfs-tools and run it; unpacking is enough.
FETCH_KERNEL = """\
chroot "$1" sh -ec 'mkdir /tmp/k; cd /tmp/k
name=$(apt-cache depends {kernel} | sed -n "s/.*Depends: //p" | grep ^linux-image)
apt-get download "$name"; dpkg -x linux-image*.deb .
mkdir -p /usr/lib/modules; cp -a usr/lib/modules/* /usr/lib/modules/
cp boot/vmlinuz-* /boot/; cd /; rm -rf /tmp/k; depmod "${{name#linux-image-}}"'
"""
EXCLUDE = ("doc", "man", "locale", "info", "lintian", "help", "gtk-doc")
# Room for what mke2fs itself writes; nothing is ever added to the image.
SLACK_MIB = 96


@dataclass(frozen=True, slots=True)
class Image:
    """A built image in the cache."""

    directory: Path

    @property
    def root(self) -> Path:
        """The ext4 root file system."""
        return self.directory / "root.img"

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.directory / "vmlinuz"

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
        return (self.directory / "kernel-release").read_text().strip()


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
    return Image(path)


def deps_key() -> str:
    """Return the key of the PyPI packages."""
    wanted = [recipe.requirements(), recipe.constraints()]
    return recipe.digest([recipe.FORMAT, recipe.SITE, wanted])


def deps_path() -> Path:
    """Return where the image of the PyPI packages is, or would be."""
    return paths.cache() / "images" / f"deps-{deps_key()}.img"


def build() -> None:
    """Build what is not in the cache yet.

    Raises:
        LabError: this is not root, or a step failed.
    """
    todo = [
        wanted
        for wanted in (recipe.HOST_IMAGE, recipe.GUEST_IMAGE)
        if not image_path(wanted).exists()
    ]
    if not todo and deps_path().exists():
        say("the images are up to date")
        return
    if os.geteuid() != 0:
        raise LabError("building images needs root: sudo python3 -m lab build")
    failures: list[Exception] = []

    def attempt(wanted: recipe.Recipe) -> None:
        try:
            _build_image(wanted)
        except Exception as error:  # noqa: BLE001 - reported by the main thread
            failures.append(error)

    # The two builds wait for the network and for one core each: do both at once.
    threads = [threading.Thread(target=attempt, args=[wanted]) for wanted in todo]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure
    if not deps_path().exists():
        _build_deps()
    _remove_others()


def _remove_others() -> None:
    """Remove what older recipes built: gigabytes each."""
    wanted = {image_path(recipe.HOST_IMAGE).name, image_path(recipe.GUEST_IMAGE).name}
    for path in (paths.cache() / "images").iterdir():
        if path.is_dir() and path.name not in wanted:
            shutil.rmtree(path)
        elif path.is_file() and path.stem != deps_path().stem:
            path.unlink()


def _build_image(wanted: recipe.Recipe) -> None:
    final = image_path(wanted)
    work = final.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rootfs = work / "rootfs"
    with step(f"{wanted.name}: mmdebstrap, {len(wanted.packages)} packages"):
        run(_mmdebstrap(wanted, rootfs), log=work / "build.log")
    with step(f"{wanted.name}: file system image"):
        _finish(wanted, rootfs)
        make_ext4(rootfs, work / "root.img", log=work / "build.log")
    release = next((rootfs / "usr/lib/modules").iterdir()).name
    (work / "kernel-release").write_text(release + "\n")
    shutil.copy(rootfs / "boot" / f"vmlinuz-{release}", work / "vmlinuz")
    shutil.copy(rootfs / "usr/bin/busybox", work / "busybox")
    shutil.copytree(rootfs / "usr/lib/modules" / release, work / "modules")
    work.rename(final)
    size = (final / "root.img").stat().st_blocks * 512 >> 20
    say(f"{wanted.name}: {size} MiB, kernel {release}")


def _mmdebstrap(wanted: recipe.Recipe, rootfs: Path) -> list[str]:
    program = host_setup.find_program("mmdebstrap") or "mmdebstrap"
    excludes = [
        f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in sorted(EXCLUDE)
    ]
    return [
        program,
        "--mode=root",
        "--variant=apt",
        "--format=directory",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        *excludes,
        "--include=" + ",".join(sorted(wanted.packages)),
        "--customize-hook=" + FETCH_KERNEL.format(kernel=recipe.KERNEL),
        recipe.SUITE,
        str(rootfs),
        f"deb {debian.mirror()} {recipe.SUITE} main",
    ]


def _finish(wanted: recipe.Recipe, rootfs: Path) -> None:
    for name in ("lab", "out", "work"):
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    run(
        ["chroot", str(rootfs), "useradd", "--create-home", "--uid", "1000", "lab"],
    )
    (rootfs / "etc/hostname").write_text(f"lab-{wanted.name}\n")
    # systemd asks for one and would otherwise write it on a read-only disk.
    (rootfs / "etc/machine-id").write_text("0" * 31 + "1\n")


def _build_deps() -> None:
    image = find(recipe.HOST_IMAGE)
    target = image.rootfs / recipe.SITE.lstrip("/")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    final = deps_path()
    constraint = final.with_suffix(".constraints")
    constraint.write_text("".join(line + "\n" for line in recipe.constraints()))
    log = final.with_suffix(".log")
    wanted = recipe.requirements()
    with step(f"PyPI packages: {' '.join(wanted)}"):
        run([*_pip(target, constraint), *wanted], log=log)
    with step("PyPI packages: compile for the image's Python"):
        compile_all = ["python3", "-m", "compileall", "-q", recipe.SITE]
        run(["chroot", str(image.rootfs), *compile_all], log=log)
        new = final.with_suffix(".new")
        make_ext4(target, new, log=log)
        new.rename(final)


def _pip(target: Path, constraint: Path) -> list[str]:
    compact = recipe.PYTHON.replace(".", "")
    platforms = [f"--platform=manylinux_2_{n}_x86_64" for n in (17, 28, 34, 39, 41)]
    return [
        *(sys.executable, "-m", "pip", "install", "--no-compile", "--quiet"),
        *("--only-binary=:all:", "--implementation=cp", f"--abi=cp{compact}"),
        *("--abi=abi3", "--abi=none", f"--python-version={recipe.PYTHON}"),
        *platforms,
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
