#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
# ruff: noqa: S603, T201
"""Build the modules for Debian's kernels, and run their selftests there, in QEMU.

``vmtest.py [--timeout S] [--rounds N] [--fuzz CALLS] [--swiotlb] KERNEL...`` with
``bookworm`` (Linux 6.1), ``trixie`` (6.12) and ``debug``: trixie's source, built here to
look for faults (``lab/debug_kernel.py``), where nothing may be leaked either.  As root, with mmdebstrap and QEMU
(``python3 -m lab setup``).  Kernels, headers and compilers are the lab's
(``lab/kernels.py``) and kept in its cache; the modules and programs are compiled anew each
time, by the suite's own compiler and under sparse.

Where the kernel has udmabuf itself, the module is built under another name; the programs
are run on both, and the module proper must refuse to load.

It does not boot the lab's machines, which have windows in them: only a kernel and an
initramfs.

An emulated machine can end by a fault of QEMU's: its assertions about what is mapped where
fail now and then.  Nothing is known about the modules then, so another one is started, twice
at most, and that is said.  Not where a test had failed before it ended, and not where the
kernel in it stopped: QEMU ends in an orderly way then.
"""

import argparse
import contextlib
import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from lab import debug_kernel, kernels  # noqa: E402
from lab.errors import LabError  # noqa: E402

# Raise it when what is in the cache would have to be another.
FORMAT = 2
IMAGE_PACKAGES = (
    "busybox-static",
    "libexpat1",
    "libffi8",
    "libpython3-stdlib",
    "python3",
    "zlib1g",
)
# The kernel's own modules that are needed: exporters of dma-bufs, and swap in memory.
MODULES = ("bochs", "vgem", "virtio_gpu", "virtio_pci", "zram")
BULKY = ("doc", "man", "locale", "perl", "perl5", "info", "i18n", "zoneinfo")
SOURCES = (*kernels.MODULE_SOURCES, "selftests")
# The name of lab/debug_kernel.py's here.
DEBUG = "debug"
KMEMLEAK = "/sys/kernel/debug/kmemleak"
TEST_NAME = kernels.RENAMED_DEVICE
# The last line but for the machine's own farewell.
VERDICT = re.compile(rb"^vmtest: status (\d+)\r?$", re.MULTILINE)
# What "gem_locate_addresses --hold" prints.
HELD = re.compile(rb"^([a-z][a-z0-9_-]+) (\d+)((?: \d+ \d+)+)\r?$", re.MULTILINE)
# With the end of its line: of what comes in pieces, "$" would match the end of a piece.
ALL_HELD = re.compile(rb"^# held\r?\n", re.MULTILINE)
# What is printed of a test that failed.
FAILED = re.compile(rb"^(not ok|## failed)", re.MULTILINE)
# What QEMU ends by on its own account; whoever ends it sends others.
FAULTS = frozenset(
    (signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
)
MACHINES = 3
# Small enough that QEMU has it in one piece: what is where in the file is where in memory.
MEMORY = 1536 << 20
PAGE = 4096
BAR = 16 << 20

INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root /etc
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t debugfs debug /sys/kernel/debug
mkdir -p /dev/shm; mount -t tmpfs shm /dev/shm; mount -t tmpfs tmp /tmp
ln -s /proc/self/fd /dev/fd
echo 1 > /proc/sys/kernel/panic_on_oops
sh /job; echo "vmtest: status $?"
sleep 0.2; poweroff -f
"""

# What happens in the machine. 4 is a test program's word for "nothing to test".
JOB = """\
bad=0
suite() {{
  echo "## $*"; shift
  "$@"; status=$?
  [ $status = 0 ] || [ $status = 4 ] || {{ bad=1; echo "## failed with $status"; }}
}}
read_log() {{
  if dmesg | grep -E -f complaints; then dmesg | tail -n 200; bad=1; fi
  dmesg -c >/dev/null
}}
excuse_log() {{
  if dmesg | grep -E -f complaints; then echo "## not counted: the kernel's own driver"; fi
  dmesg -c >/dev/null
}}
# What kmemleak has not seen any use of for some seconds, in two scans.
leaks={kmemleak}
scan() {{ for again in 1 2; do sleep 6; echo scan > $leaks; done; }}
nothing_leaked() {{
  [ ! -e $leaks ] || {{ scan; cat $leaks; [ -z "$(cat $leaks)" ] || bad=1; }}
}}
# Each of these is a fault of the test's own module, which must be seen.
fault() {{
  ./gem_locate_exporters --fault $1
  if [ $1 = 0 ]; then scan; fi
  if {{ cat $leaks; dmesg; }} | grep "$2"; then echo "ok - fault $1 is seen"; else echo "not ok - fault $1"; bad=1; fi
  dmesg -c >/dev/null
}}
uname -r
for m in {modules}; do modprobe $m 2>&1; done
if [ -e /sys/block/zram0 ]; then
  echo 256M > /sys/block/zram0/disksize; mkswap /dev/zram0 >/dev/null; swapon /dev/zram0
fi
cd /selftests
if [ -e $leaks ]; then
  # The kernel's own, from its start, are of no interest; but lockdep stops at its first.
  scan; echo clear > $leaks
  grep "debug_locks: *1" /proc/lockdep_stats || bad=1
  # It reports the first error alone otherwise.
  echo 1 > /sys/kernel/debug/dma-api/all_errors
fi
dmesg | grep -E -f complaints
export WLPROXY_SELFTEST_ARGS={rounds}
insmod /modules/gem_locate.ko || bad=1
# What it does is seen in Xen's domains only (tests/xen); here, that it knows where it is.
insmod /modules/gem_grant.ko 2>&1 | grep "No such device" || bad=1
dmesg | grep "gem_grant: this machine is no domain" || bad=1
[ ! -e /dev/gem-grant ] || bad=1
if grep -q swiotlb=force /proc/cmdline; then
  # Where all DMA bounces, there is nothing but refusals to be seen.
  insmod /modules/udmabuf_compat.ko 2>/dev/null
  ./gem_locate_addresses --hold < /dev/null > /tmp/held; cat /tmp/held
  grep -q "^# udmabuf: EXDEV" /tmp/held || bad=1
  grep -vE "^#|^TAP" /tmp/held && bad=1
  exit $bad
fi
insmod /modules/test/gem_locate_exporter.ko || bad=1
if [ -e /sys/class/misc/udmabuf ]; then
  if insmod /modules/udmabuf_compat.ko 2>/dev/null; then
    bad=1; echo "not ok - loaded in spite of the kernel's own driver"
  else
    dmesg | grep "use that, and do not load" || bad=1
  fi
  suite "the kernel's own driver" env UDMABUF_MODULE=udmabuf ./run
  calls={fuzz}
  # Fewer where each takes long; and what is found there is not ours to mend.
  [ ! -e $leaks ] || calls=$((calls / 10))
  [ $calls = 0 ] || suite "fuzz: kernel's own" python3 ./fuzz.py $calls 1
  if [ -e $leaks ]; then excuse_log; else read_log; fi
  insmod /modules/test/udmabuf_compat.ko || bad=1
  export UDMABUF_DEVICE=/dev/{test_name} UDMABUF_MODULE=udmabuf_compat
else
  insmod /modules/udmabuf_compat.ko || bad=1
fi
insmod /modules/udmabuf_compat.ko 2>/dev/null && bad=1
suite "udmabuf_compat" ./run
dmesg -c >/dev/null
[ {fuzz} = 0 ] || suite "fuzz" python3 ./fuzz.py {fuzz} 2
read_log
nothing_leaked
# Until a line arrives on the console: meanwhile memory is looked at from outside.
{{ read -r line < /dev/console; }} | suite "from outside" ./gem_locate_addresses --hold || bad=1
rmmod udmabuf_compat && rmmod gem_locate || bad=1
nothing_leaked
read_log
if [ -e $leaks ]; then
  grep "debug_locks: *1" /proc/lockdep_stats || bad=1
{faults}
fi
rmmod gem_locate_exporter || bad=1
exit $bad
"""


def image(kernel: kernels.Kernel) -> Path:
    """Return the tree that the machine has; as the kernel's tree is seen from inside."""
    return kernel.tree / f"vmtest-{FORMAT}"


def shell(kernel: kernels.Kernel, script: str) -> None:
    """Run a script in the kernel's tree."""
    kernels.run(["chroot", str(kernel.tree), "sh", "-ec", script])


def prepare(kernel: kernels.Kernel) -> None:
    """Make the machine's tree, without what is compiled, unless it is in the cache."""
    final = image(kernel)
    if final.exists():
        return
    print(f"# {kernel.suite}: unpacking", flush=True)
    work = final.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    kernels.bootstrap(kernel.suite, "extract", IMAGE_PACKAGES, work)
    for name in BULKY:
        shutil.rmtree(work / "usr/share" / name, ignore_errors=True)
    for test in work.glob("usr/lib/python3*/test"):
        shutil.rmtree(test)
    # Unpacked only: the links of a merged /usr are missing where they are new.
    for name in ("bin", "sbin", "lib", "lib64"):
        if not (work / name).exists():
            (work / "usr" / name).mkdir(parents=True, exist_ok=True)
            (work / name).symlink_to(f"usr/{name}")
    copy_modules(kernel, f"/{work.name}")
    work.rename(final)


def copy_modules(kernel: kernels.Kernel, target: str) -> None:
    """Give the machine those of the kernel's modules that it may need."""
    directory = f"lib/modules/{kernel.release}"
    script = f"""
        mkdir -p {target}/{directory}
        cd /kernel/{directory}
        for module in {" ".join(MODULES)}; do
            modprobe -d /kernel -S {kernel.release} --show-depends $module
        done | sed -n 's,^insmod /kernel/{directory}/,,p' | while read -r path rest; do
            cp --parents $path {target}/{directory}/
        done
        cp modules.[bo]* {target}/{directory}/
        cd {target}/{directory}
        find . -name '*.xz' -exec unxz {{}} +
        depmod -b {target} {kernel.release}
    """
    shell(kernel, script)


def compile_all(kernel: kernels.Kernel, source: Path) -> None:
    """Build the modules, under sparse, and the test programs; into the image."""
    modules = image(kernel) / "modules"
    shutil.rmtree(modules, ignore_errors=True)
    (modules / "test").mkdir(parents=True)
    if kernel.has_udmabuf:
        kernels.make(kernel, f"UDMABUF_NAME={TEST_NAME}", "modules")
        shutil.copy(source / "udmabuf_compat.ko", modules / "test")
        kernels.make(kernel, "clean")
    exporter = source / "selftests/exporter"
    kernels.make(kernel, "sparse", directory=f"/src/{exporter.relative_to(source)}")
    shutil.copy(exporter / "gem_locate_exporter.ko", modules / "test")
    kernels.make(kernel, "sparse")
    for name in kernels.MODULES:
        shutil.copy(source / f"{name}.ko", modules)
    kernels.make(kernel, "clean", "all", directory="/src/selftests")
    selftests = image(kernel) / "selftests"
    shutil.rmtree(selftests, ignore_errors=True)
    shutil.copytree(source / "selftests", selftests)


def pack(kernel: kernels.Kernel, job: str) -> bytes:
    """Make the initramfs."""
    tree = image(kernel)
    for name, text in (("init", INIT), ("job", job)):
        (tree / name).write_text(text)
        (tree / name).chmod(0o755)
    shell(kernel, f"cd /{tree.name}; find . | cpio --quiet -o -H newc >/initramfs")
    return (kernel.tree / "initramfs").read_bytes()


def put_together(suite: str, job: str) -> tuple[kernels.Kernel, bytes]:
    """Fetch and compile what it takes; returns the kernel and the initramfs."""
    kernel = debug_kernel.fetch() if suite == DEBUG else kernels.fetch(suite)
    with kernels.sources(kernel, SOURCES) as source:
        prepare(kernel)
        print(f"# {suite}: compiling for {kernel.release}", flush=True)
        compile_all(kernel, source)
        return kernel, pack(kernel, job)


def verify(memory: Path, output: bytes) -> int:
    """Compare what is at the addresses that gem_locate gave with what should be there.

    Returns the number of pages that hold something else.
    """
    wrong = 0
    with (
        memory.open("rb") as file,
        mmap.mmap(file.fileno(), MEMORY, prot=mmap.PROT_READ) as ram,
    ):
        for kind, first, numbers in HELD.findall(output):
            expected, bad = int(first), 0
            values = list(map(int, numbers.split()))
            for gpa, length in zip(values[::2], values[1::2], strict=True):
                for at in range(gpa, gpa + length, PAGE):
                    number = expected.to_bytes(8, "little")
                    ends = ram[at : at + 8], ram[at + PAGE - 8 : at + PAGE]
                    bad += ends != (number, number)
                    expected += 1
            pages = expected - int(first)
            extents = len(values) // 2
            print(f"# {kind.decode()}: {pages} pages in {extents} extents, {bad} wrong")
            wrong += bad
    sys.stdout.flush()
    return wrong


def watch(console: int, keyboard: int, memory: Path) -> tuple[bytes, int]:
    """Pass on what the machine prints, and look at its memory when it says so.

    Returns all of it, and the number of pages that were wrong.
    """
    output = bytearray()
    wrong, looked = 0, False
    while chunk := os.read(console, 65536):
        output += chunk
        sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
        if not looked and ALL_HELD.search(output):
            looked = True
            wrong = verify(memory, bytes(output))
            with contextlib.suppress(BrokenPipeError):  # it has just ended
                os.write(keyboard, b"\n")
    return bytes(output), wrong


def qemu_command(
    kernel: kernels.Kernel, directory: Path, arguments: argparse.Namespace
) -> list[str]:
    """Return the command line of a machine, its memory and initramfs in a directory."""
    append = "console=ttyS0 quiet panic=-1 mitigations=off"
    # For the debug kernel only: the others do not know them.
    append += " kasan_multi_shot page_poison=1 movablecore=512M"
    if arguments.swiotlb:
        append += " swiotlb=force"
    backend = f"memory-backend-file,id=ram,size={MEMORY},share=on,"
    machine = "q35,memory-backend=ram,accel="
    return [
        *("timeout", "--kill-after=5", str(arguments.timeout)),
        *("qemu-system-x86_64", "-nodefaults", "-no-reboot", "-nographic"),
        *("-machine", machine + ("kvm" if arguments.kvm else "tcg")),
        *("-m", str(MEMORY >> 20)),
        *("-object", f"{backend}mem-path={directory / 'memory'}"),
        *("-cpu", "max", "-smp", "2", "-serial", "stdio"),
        *("-device", "virtio-gpu-pci", "-device", "bochs-display"),
        # Memory of a device: what gem_locate_exporter has its buffers in.
        *("-object", f"memory-backend-ram,id=bar,size={BAR},share=on"),
        *("-device", "ivshmem-plain,memdev=bar", "-kernel", str(kernel.vmlinuz)),
        *("-initrd", str(directory / "initramfs"), "-append", append),
    ]


def boot(
    kernel: kernels.Kernel, initramfs: bytes, arguments: argparse.Namespace
) -> int:
    """Run a machine, another if QEMU fails; its console goes to standard output.

    Returns the status.
    """
    for number in range(1, MACHINES + 1):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
            directory = Path(name)
            (directory / "initramfs").write_bytes(initramfs)
            with subprocess.Popen(
                qemu_command(kernel, directory, arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as process:
                assert process.stdout is not None  # noqa: S101
                assert process.stdin is not None  # noqa: S101
                console, keyboard = process.stdout.fileno(), process.stdin.fileno()
                output, wrong = watch(console, keyboard, directory / "memory")
        verdict = VERDICT.search(output)
        if (
            verdict
            or wrong
            or FAILED.search(output)
            or -process.returncode not in FAULTS
        ):
            break
        fault = signal.Signals(-process.returncode).name
        said = f"QEMU ended by {fault}: machine {number} is lost"
        # The console's last line may not have ended.
        print(f"\n# {kernel.suite}: {said}", flush=True)
    if verdict is None:
        print(f"# {kernel.suite}: no verdict: it crashed, or took too long")
        return 1
    # With --swiotlb nothing is held.
    if wrong or (not arguments.swiotlb and not HELD.search(output)):
        print(f"# {kernel.suite}: gem_locate's addresses are wrong")
        return 1
    return int(verdict[1])


def main() -> int:
    """Do it for each suite; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("suites", nargs="+", choices=("bookworm", "trixie", DEBUG))
    parser.add_argument("--timeout", type=int, default=1800, help="seconds, for each")
    parser.add_argument(
        "--rounds", default="", help="of the programs that repeat things"
    )
    parser.add_argument("--fuzz", type=int, default=0, help="random calls")
    parser.add_argument("--kvm", action="store_true", help="where that works")
    parser.add_argument(
        "--swiotlb",
        action="store_true",
        help="only see that gem_locate refuses where all DMA bounces",
    )
    arguments = parser.parse_args()
    status = 0
    for name in arguments.suites:
        job = JOB.format(
            modules=" ".join(MODULES),
            rounds=arguments.rounds,
            fuzz=arguments.fuzz,
            test_name=TEST_NAME,
            kmemleak=KMEMLEAK,
            faults="\n".join(
                f'  fault {number} "{said}"'
                for number, said in debug_kernel.FAULTS.items()
            ),
        )
        try:
            kernel, initramfs = put_together(name, job)
        except LabError as error:
            print(f"# {name}: {error}")
            status = 1
            continue
        result = boot(kernel, initramfs, arguments)
        print(f"# {name}: {'passed' if result == 0 else 'FAILED'}", flush=True)
        status |= result
    return status


if __name__ == "__main__":
    sys.exit(main())
