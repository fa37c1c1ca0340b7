"""The initramfs of both machines: finds the disk, lays a tmpfs over it, and goes on.

It also carries the lab's own programs and the modules of ``kernel/udmabuf``, as they are
in the working tree.  So changing them takes no new image.
"""

import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import cpio, kernels, paths
from lab.images import Image

# What the initramfs itself needs, where the kernel does not have it built in.  ext4 asks
# for a checksum by name, which no modprobe is there to look up.
MODULES = (
    *("crc32c_generic", "overlay", "virtio_blk", "virtio_pci", "virtio_console"),
    *("virtio_mmio", "ext4"),
)
# DRM devices of a machine without a GPU, in the order of their nodes' numbers.
GUEST_MODULES = ("virtio_gpu", "vgem")
# The lab's modules that run inside the machines: all import the standard library only.
PROGRAMS = (
    "__init__.py",
    "errors.py",
    "guest_control.py",
    "nested.py",
    "progress.py",
    "qemu.py",
    "weston.py",
    "wire.py",
    "zygote.py",
)


def build(
    image: Image,
    init: str,
    own: Sequence[str],
    modules: Sequence[str] = (),
    extra: Mapping[str, bytes] | None = None,
    kernel: kernels.Kernel | None = None,
) -> bytes:
    """Build an initramfs for an image.

    Args:
        image: whose kernel modules and busybox to use.
        init: the name of the script in ``lab/vm`` that goes on in the real root.
        own: the modules of ``kernel/udmabuf`` to load; all of them are in ``/lab/modules``.
        modules: which of the kernel's to load besides those that are needed anyway.
        extra: further files for ``/lab`` there.
        kernel: another kernel than the image's, for which our modules have been built.

    Raises:
        LabError: the modules of ``kernel/udmabuf`` have not been built.
    """
    vm = paths.LAB / "vm"
    shared = ("common", "wlproxy-lab-control.service")
    extra = {**(extra or {}), **{name: (vm / name).read_bytes() for name in shared}}
    if kernel is None:
        built = kernels.built(image.suite, image.release)
    else:
        built = kernels.built_for(kernel)
    extra |= {f"modules/{name}.ko": path.read_bytes() for name, path in built.items()}
    for rules in (vm / "70-lab.rules", *kernels.SOURCE.glob("udev/*.rules")):
        extra[f"udev/{rules.name}"] = rules.read_bytes()
    entries = {
        "bin/busybox": cpio.file(image.busybox.read_bytes(), executable=True),
        "init": cpio.file((vm / "initramfs-init").read_bytes(), executable=True),
        "lab/init": cpio.file((vm / init).read_bytes(), executable=True),
    }
    drivers = image.modules if kernel is None else kernel.modules
    files = module_files(drivers, (*MODULES, *modules))
    contents = [(module.name, unpacked(module)) for module in files]
    contents += [(f"{name}.ko", built[name].read_bytes()) for name in own]
    for number, (name, data) in enumerate(contents):
        path = f"modules/{number:02}-{name.partition('.')[0]}.ko"
        entries[path] = cpio.file(data)
    for name in PROGRAMS:
        entries[f"lab/python/lab/{name}"] = cpio.file((paths.LAB / name).read_bytes())
    for name, data in extra.items():
        entries[f"lab/{name}"] = cpio.file(data)
    for name in ("dev", "proc", "sys", "lower", "cow", "new"):
        entries[f"{name}/.keep"] = cpio.file(b"")
    return cpio.archive(entries)


def build_guest(image: Image) -> bytes:
    """Build the guest's initramfs."""
    return build(image, "guest-init", ["gem_locate"], GUEST_MODULES)


def build_host(image: Image, guest: Image) -> bytes:
    """Build the outer VM's initramfs, which carries what boots the guest."""
    extra = {
        "guest/vmlinuz": guest.kernel.read_bytes(),
        "guest/initrd": build_guest(guest),
    }
    own = ["gem_locate"]
    if not kernels.find(image.suite).has_udmabuf:
        own.append("udmabuf_compat")
    return build(image, "host-init", own, extra=extra)


def build_domu(
    image: Image,
    kernel: kernels.Kernel | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """Build the initramfs of Xen's guests, with another kernel than the image's perhaps."""
    own, modules = ["gem_grant"], ["xen_blkfront"]
    return build(image, "xen-init", own, modules, extra, kernel)


def build_dom0(image: Image) -> bytes:
    """Build the initramfs of Xen's domain 0, which carries what boots the others."""
    vm = paths.LAB / "vm"
    extra = {
        "guest/vmlinuz": image.kernel.read_bytes(),
        "guest/initrd": build_domu(image),
        "xen-block": (vm / "xen-block").read_bytes(),
    }
    return build(image, "xen-init", [], extra=extra)


def module_files(modules: Path, names: Sequence[str]) -> list[Path]:
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


def unpacked(path: Path) -> bytes:
    """Read a kernel module, which may be compressed."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
