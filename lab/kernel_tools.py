"""DKMS and checkpatch in a kernel's tree, for trying what ``kernel/udmabuf``'s README says.

The tree itself is not changed.  The tools lie over it as a layer, which is kept beside the tree.
What a run writes goes into another layer, which the caller provides.  No machine is started
here, and nothing is loaded.
"""

import os
import shutil
import subprocess
from pathlib import Path

from lab import kernels, recipe
from lab.say import step

# What the README names, but for the headers, which the tree has.
PACKAGES = ("dkms", "openssl")
# In the tree then; of the kernel's own version.
CHECKPATCH = "/checkpatch/scripts/checkpatch.pl"
# Raise it when what is in the cache would have to be another.
FORMAT = 1
# Root, of one's own mount namespace: what is mounted goes away with it.
MOUNT = """\
lower=$1 work=$2
mkdir "$work/root" "$work/upper" "$work/work"
mount -t overlay overlay \
    -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" "$work/root"
mount -t proc proc "$work/root/proc"
"""
FETCH = """\
cp /etc/resolv.conf "$work/root/etc/resolv.conf"
chroot "$work/root" sh -ec '
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q install --yes --no-install-recommends {packages}
apt-get clean
mkdir /checkpatch
cd /checkpatch
apt-get -q download $(apt-cache depends linux-source | sed -n "s/^ *Depends: //p")
dpkg --fsys-tarfile *.deb | tar -xO --wildcards "./usr/src/linux-source-*.tar.xz" |
    tar -xJ --strip-components=1 --wildcards "*/scripts/checkpatch.pl" \
        "*/scripts/spelling.txt" "*/scripts/const_structs.checkpatch"
rm *.deb
rm -r /var/lib/apt/lists'
"""
# Where the kernel's modules are on a real machine; and the sources, not to be written to.
RUN = """\
release=$3 modules=$4 own=$5
mkdir "$work/modules" "$work/modules-work"
mount -t overlay overlay -o "lowerdir=$work/root/lib/modules/$release:$modules,\
upperdir=$work/modules,workdir=$work/modules-work" "$work/root/lib/modules/$release"
mkdir -p "$work/root/src"
mount --bind "$own" "$work/root/src"
mount -o remount,bind,ro "$work/root/src"
cp "$work/script" "$work/root/script"
PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$work/root" sh -ex /script "$release"
"""


def can_run() -> bool:
    """Say whether this process may mount, which takes more than to be root."""
    if os.geteuid() != 0:
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "probe", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fetch(kernel: kernels.Kernel) -> Path:
    """Return the layer with the tools, fetched if it is not in the cache.

    Raises:
        LabError: that failed.
    """
    key = recipe.digest([FORMAT, PACKAGES, MOUNT, FETCH])
    final = kernel.directory / f"tools-{key}"
    with kernels.exclusive(kernel.directory):
        if not final.exists():
            for older in kernel.directory.glob("tools-*"):
                shutil.rmtree(older)
            work = final.with_suffix(".new")
            work.mkdir()
            fetching = MOUNT + FETCH.format(packages=" ".join(PACKAGES))
            with step(f"{kernel.suite}: DKMS, checkpatch"):
                _unshared(fetching, str(kernel.tree), work, log=work / "build.log")
            work.rename(final)
    return final / "upper"


def run(kernel: kernels.Kernel, script: str, work: Path, log: Path) -> None:
    """Run a shell script as root of a machine that has that kernel, headers and the tools.

    Its argument is the kernel's release; the repository's ``kernel/udmabuf`` is ``/src``.

    Args:
        kernel: whose tree.
        script: what to run; it stops at the first command that fails.
        work: an empty directory; what the script wrote is then in ``upper`` there.
        log: where to append the output.

    Raises:
        LabError: it failed; the message has the end of its output.
    """
    layer = fetch(kernel)
    (work / "script").write_text(script)
    modules = f"{kernel.tree}/lib/modules/{kernel.release}:{kernel.modules}"
    arguments = (kernel.release, modules, str(kernels.SOURCE))
    # The tree may not change under the mount: compiling in it waits.
    with kernels.exclusive(kernel.directory):
        _unshared(MOUNT + RUN, f"{layer}:{kernel.tree}", work, *arguments, log=log)


def _unshared(script: str, lower: str, work: Path, *arguments: str, log: Path) -> None:
    shell = ["unshare", "--mount", "sh", "-ec", script, "sh"]
    kernels.run([*shell, lower, str(work), *arguments], log=log)
