"""The initramfs of both machines: find the disk, lay a tmpfs over it, go on.

It also carries the lab's own programs, as they are in the working tree: changing them
needs no new image.
"""

import lzma
from collections.abc import Mapping
from pathlib import Path

from lab import cpio, paths
from lab.images import Image

# What the initramfs itself needs, where the kernel does not have it built in.
MODULES = ("overlay", "virtio_blk", "virtio_pci", "virtio_console", "ext4")
# The lab's modules that run inside the machines: all import the standard library only.
PROGRAMS = (
    "__init__.py",
    "errors.py",
    "guest_control.py",
    "nested.py",
    "qemu.py",
    "wire.py",
    "zygote.py",
)


def build(image: Image, init: str, extra: Mapping[str, bytes] | None = None) -> bytes:
    """Build an initramfs for an image.

    Args:
        image: whose kernel modules and busybox to use.
        init: the name of the script in ``lab/vm`` that goes on in the real root.
        extra: further files for ``/lab`` there.
    """
    vm = paths.LAB / "vm"
    shared = ("common", "wlproxy-lab-control.service")
    extra = {**(extra or {}), **{name: (vm / name).read_bytes() for name in shared}}
    entries = {
        "bin/busybox": cpio.file(image.busybox.read_bytes(), executable=True),
        "init": cpio.file((vm / "initramfs-init").read_bytes(), executable=True),
        "lab/init": cpio.file((vm / init).read_bytes(), executable=True),
    }
    for number, module in enumerate(module_files(image.modules, MODULES)):
        path = f"modules/{number:02}-{module.name.partition('.')[0]}.ko"
        entries[path] = cpio.file(_unpacked(module))
    for name in PROGRAMS:
        entries[f"lab/python/lab/{name}"] = cpio.file((paths.LAB / name).read_bytes())
    for name, data in extra.items():
        entries[f"lab/{name}"] = cpio.file(data)
    for name in ("dev", "proc", "sys", "lower", "cow", "new"):
        entries[f"{name}/.keep"] = cpio.file(b"")
    return cpio.archive(entries)


def build_guest(image: Image) -> bytes:
    """Build the guest's initramfs."""
    return build(image, "guest-init")


def build_host(image: Image, guest: Image) -> bytes:
    """Build the outer VM's initramfs, which carries what boots the guest."""
    extra = {
        "guest/vmlinuz": guest.kernel.read_bytes(),
        "guest/initrd": build_guest(guest),
    }
    return build(image, "host-init", extra)


def module_files(modules: Path, names: tuple[str, ...]) -> list[Path]:
    """List the files of kernel modules and of what they need, in loading order.

    Modules that are built into the kernel have no file and need none.
    """
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        name = Path(path).name.partition(".")[0].replace("-", "_")
        needs[name] = (path, rest.split())
    result: list[Path] = []
    for wanted in names:
        if wanted in needs:
            path, before = needs[wanted]
            # modules.dep lists the nearest dependency first.
            for each in [*reversed(before), path]:
                if modules / each not in result:
                    result.append(modules / each)
    return result


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
