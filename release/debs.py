"""Builds Debian's packages in a clean Debian 13, and tries them in another one.

Both are trees that mmdebstrap unpacks into the lab's cache.  They are not changed: what is done in
them goes into a layer over them, which is removed.  All of it needs root, and a mirror.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lab import debian, host_setup, kernels, paths, recipe
from lab.kernel_tools import MOUNT
from lab.say import step

SUITE = "trixie"
DEBIAN = paths.REPOSITORY / "debian"
TOOLS = (
    *("debhelper", "dh-dkms", "dh-python", "lintian", "pybuild-plugin-pyproject"),
    *("python3-all", "python3-hatchling"),
)
"""What builds: `Build-Depends` of debian/control, and what looks at the results."""
CLEAN = ("dbus-user-session", "libpam-systemd", "man-db", "systemd", "udev")
"""What a machine has already that packages are installed on."""
NEXT = "+next"
"""Appended to the version, for the packages that an update is tried with."""
FORMAT = 1
"""Raise it when trees in the cache would have to be others."""

RUN = """\
mount -t tmpfs tmpfs "$work/root/run"
mkdir -p "$work/root/build"
mount --bind "$3" "$work/root/build"
cp /etc/resolv.conf "$work/root/etc/resolv.conf"
exec chroot "$work/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive HOME=/root sh -eu /build/script
"""
BUILD = """\
cd /build/tree
dpkg-buildpackage --build=binary --no-sign
cd ..
mkdir out
mv ./*.deb ./*.changes ./*.buildinfo out
chmod -R a+rX /build
# Not as root, which it does not like; its own complaints count as ours do.
su -s /bin/sh nobody -c 'cd /build/out && lintian --profile debian \
    --fail-on error,warning --tag-display-limit 0 ./*.changes'
"""


def tree(name: str, variant: str, packages: Sequence[str]) -> Path:
    """Return a Debian from the cache, unpacked first if it is not there.

    Raises:
        LabError: that failed.
    """
    key = recipe.digest([FORMAT, SUITE, variant, sorted(packages)])
    directory = paths.cache() / "packages"
    final = directory / f"{name}-{key}"
    directory.mkdir(exist_ok=True)
    with kernels.exclusive(directory):
        if not final.exists():
            for older in directory.glob(f"{name}-*"):
                shutil.rmtree(older)
            work = final.with_suffix(".new")
            program = host_setup.find_program("mmdebstrap") or "mmdebstrap"
            command = [program, "--mode=root", f"--variant={variant}"]
            command += [f"--include={','.join(packages)}", "--format=directory"]
            with step(f"{name}: mmdebstrap, {len(packages)} packages"):
                source = f"deb {debian.mirror()} {SUITE} main"
                kernels.run([*command, SUITE, str(work), source])
            work.rename(final)
    return final


def run_in(lower: Path, script: str, build: Path) -> str:
    """Run a shell script as root of a Debian that nobody else has; return its output.

    Args:
        lower: the tree.
        script: what to run; it stops at the first command that fails.
        build: a directory, which is /build there.

    Raises:
        LabError: it failed; the message has the end of its output.
    """
    log = build / "log"
    (build / "script").write_text(script)
    with TemporaryDirectory(dir=lower.parent) as work:
        shell = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "sh",
            "-ec",
            MOUNT + RUN,
            "sh",
        ]
        kernels.run([*shell, str(lower), work, str(build)], log=log)
    return log.read_text()


def copy_sources(into: Path, *, version: str = "") -> None:
    """Copy what git knows of, as it is now; with another version if one is given.

    Args:
        into: a directory that is not there yet.
        version: of the packages and of the programs.
    """
    into.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z"],
        cwd=paths.REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout.split(b"\0")
    for name in filter(None, listed):
        source = paths.REPOSITORY / name.decode()
        target = into / name.decode()
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink() or source.exists():
            shutil.copy2(source, target, follow_symlinks=False)
    if version:
        old = package_version()
        for place in ("debian/changelog", "wlproxy/__init__.py"):
            text = (into / place).read_text()
            (into / place).write_text(text.replace(old, version, 1))


def package_version() -> str:
    """Read the version of the packages from debian/changelog."""
    return (DEBIAN / "changelog").read_text().partition("(")[2].partition(")")[0]


def build(into: Path, *, version: str = "") -> list[Path]:
    """Build all packages, have lintian look at them; return those that are made.

    Raises:
        LabError: one does not build, or lintian complains.
    """
    lower = tree("build", "buildd", TOOLS)
    with TemporaryDirectory(dir=paths.cache()) as directory:
        place = Path(directory)
        copy_sources(place / "tree", version=version)
        run_in(lower, BUILD, place)
        into.mkdir(parents=True, exist_ok=True)
        made = sorted((place / "out").iterdir())
        return [Path(shutil.copy(each, into)) for each in made]


def try_out(script: str, *directories: Path) -> str:
    """Run a shell script in a clean Debian; see `run_in`.

    Args:
        script: finds the directories' files in /build/0, /build/1, ..., and debian/tests.
        directories: which are copied there.
    """
    lower = tree("clean", "apt", CLEAN)
    with TemporaryDirectory(dir=paths.cache()) as directory:
        place = Path(directory)
        shutil.copytree(DEBIAN / "tests", place / "tests")
        for number, each in enumerate(directories):
            shutil.copytree(each, place / str(number))
        return run_in(lower, script, place)
