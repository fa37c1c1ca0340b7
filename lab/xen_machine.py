"""The machine that runs Xen: dom0 plays the host, and starts its guests itself.

Xen needs no hardware that emulation lacks: dom0 and paravirtualised domUs need nothing, and
PVH domUs have the SVM that QEMU emulates.  One image is the root disk of all of them.
"""

from dataclasses import dataclass
from pathlib import Path

from lab import debug_kernel, images, initramfs, kernels, qemu, recipe, xen_guest
from lab.errors import LabError
from lab.outer import MEMORY_MIB, Outer

DOM0_MIB = 1600
# Next to the model that the machine of KVM has, this one is several times faster: Xen and
# Linux then do without what is slow to emulate.
CPU = "Opteron_G3,+ssse3,+sse4.1,+sse4.2,+svm,+npt"


@dataclass(frozen=True, slots=True)
class XenOuter(Outer):
    """What that machine is made of: `host` and `guest` are the same image."""

    @property
    def name(self) -> str:
        """What to call it, for people and in the cache."""
        return "xen"

    def arguments(self) -> list[str]:
        """Return the part of the command line that needs no paths."""
        xen = "console=com1 com1=115200,8n1 noreboot=1 spec-ctrl=no"
        xen += f" dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M"
        cpu = qemu.cpu_options(self.accel)
        if self.accel == "tcg":
            cpu = ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", CPU]
        return [
            qemu.PROGRAM,
            *("-machine", "q35,usb=off,vmport=off,memory-backend=ram"),
            # One: with two, threads and whole domains stood still now and then.
            *(*cpu, "-smp", "1", "-m", str(MEMORY_MIB)),
            *(*qemu.BARE, *qemu.BARE_DEVICES, "-append", xen),
        ]

    def boots(self, initrd: Path) -> list[str]:
        """Return QEMU's options for what is booted: Xen, and for it the kernel of dom0."""
        words = self.words("console=hvc0 wlproxy.role=dom0")
        modules = f"{self.host.kernel} {words},{initrd}"
        return ["-kernel", str(self.host.hypervisor), "-initrd", modules]

    def disks(self) -> dict[str, Path]:
        """Return the disks by their serial numbers; none is written to."""
        return {"dom0": self.host.root, "deps": self.deps}


def prepare() -> XenOuter:
    """Put the machine together from the images in the cache.

    Raises:
        LabError: they have not been built.
    """
    image = images.find(recipe.XEN_IMAGE)
    deps = images.deps_path(recipe.XEN_IMAGE)
    if not deps.exists():
        raise LabError("no image of the PyPI packages: run python3 -m lab build")
    initrd = initramfs.build_dom0(image)
    return XenOuter(
        image, image, deps, initrd, with_guest=False, accel=qemu.accelerator()
    )


def debug_files() -> dict[str, bytes]:
    """Return what boots a PVH domU that looks for faults, by the paths that `xen_guest` knows.

    Raises:
        LabError: its kernel, or the image, could not be built.
    """
    images.build([recipe.XEN_IMAGE], [])
    kernel = debug_kernel.fetch()
    kernels.build(kernel)
    exporter = {"modules/gem_locate_exporter.ko": debug_kernel.exporter(kernel)}
    initrd = initramfs.build_domu(images.find(recipe.XEN_IMAGE), kernel, exporter)
    return {
        xen_guest.DEBUG_KERNEL: kernel.vmlinuz.read_bytes(),
        xen_guest.DEBUG_INITRD: initrd,
    }
