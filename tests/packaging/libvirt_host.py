"""A Debian 13 with systemd and libvirt that boots here, and the disk of a VM for it.

Both are what somebody has before wlproxy comes: the host with libvirt, a desktop and its user
`ada`; the VM, a Debian with some apps.  Nothing of ours is in the host's image.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from lab import images, initramfs, kernels, nested, paths, qemu, recipe
from lab.say import step

SUITE = "trixie"
USER = "ada"
"""Whose desktop it is; QEMU is libvirt-qemu."""
UID = 1000
DESKTOP = "wayland-0"
DOMAIN = "work"
IMAGES = "/var/lib/libvirt/images"

PACKAGES = (
    *("apparmor", "dbus", "dbus-user-session", "fonts-dejavu-core", "iproute2", "kmod"),
    *("libglib2.0-bin", "libpam-systemd", "libvirt-clients", "libvirt-daemon-system"),
    *("passwd", "polkitd", "procps", "python3", "qemu-system-x86", "sudo"),
    *("systemd-sysv", "udev", "weston", "xkb-data"),
)
"""A host with libvirt, weston as desktop, and what the lab's control agent runs with."""
LATER = ("python3-click", "python3-pyudev", "python3-rich", "python3-trio")
"""What apt would fetch for our packages.  The machine has no network: apt finds them in its cache."""
FORMAT = 1
"""Raise it when images in the cache would have to be others."""

FETCH = f"""\
chroot "$1" apt-get install --yes --download-only {" ".join(LATER)}"""

WESTON = f"""\
# What a display manager does: a session at the seat, for whoever has logged in.
[Unit]
Description=The desktop of {USER}
After=systemd-user-sessions.service dbus.service
Conflicts=getty@tty1.service
[Service]
User={USER}
PAMName=login
TTYPath=/dev/tty1
StandardInput=tty-fail
Environment=XDG_SESSION_TYPE=wayland XDG_SESSION_CLASS=user LIBGL_ALWAYS_SOFTWARE=1
ExecStart=weston --backend=headless --renderer=gl --width=1024 --height=768 \\
  --idle-time=0 --debug --socket={DESKTOP}
[Install]
WantedBy=multi-user.target
"""

HOST = f"""\
useradd --create-home --uid {UID} --shell /bin/bash --groups libvirt,sudo {USER}
echo '{USER} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{USER}
systemctl enable desktop.service
systemctl disable e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer || true
mkdir -p /lab /work
echo host >/etc/hostname
echo '127.0.1.1 host' >>/etc/hosts
# Else its first boot would do again what packages have done.
touch /etc/.updated /var/.updated
"""
"""Run in the host's tree."""

GUEST = """\
cd /build/0
yes | sh -ec "$(cat agent)"
sh -ec "$(cat as_root)"
runuser -u lab -- env HOME=/home/lab sh -ec "$(cat as_user)"
# Logged in, as far as systemd goes: `loginctl enable-linger` needs one that runs.
mkdir -p /var/lib/systemd/linger
touch /var/lib/systemd/linger/lab
"""
"""Run in the VM's tree, in which systemd does not run, so that it only notes what is enabled."""

DOMAIN_XML = f"""\
<domain type='{{kind}}'>
  <name>{DOMAIN}</name>
  <memory unit='MiB'>1024</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{IMAGES}/vmlinuz</kernel>
    <initrd>{IMAGES}/initrd</initrd>
    <cmdline>console=ttyS0 quiet mitigations=off nokaslr random.trust_cpu=on wlproxy.role=guest wlproxy.init=systemd systemd.show_status=1</cmdline>
  </os>
  <features><acpi/></features>
  {{cpu}}
  <devices>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/>
      <source dev='{{disk}}'/>
      <target dev='vda' bus='virtio'/>
      <readonly/>
      <serial>guest</serial>
    </disk>
    <controller type='usb' model='none'/>
    <serial type='file'>
      <source path='/var/log/libvirt/qemu/{DOMAIN}-console.log'/>
    </serial>
    <channel type='unix'>
      <target type='virtio' name='org.wlproxy.lab'/>
    </channel>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def host_image() -> images.Image:
    """Return the host's image from the cache, built first if it is not there.

    Raises:
        LabError: that failed.
    """
    key = recipe.digest([FORMAT, SUITE, sorted(PACKAGES), FETCH, WESTON, HOST])
    final = paths.cache() / "packages" / f"libvirt-{key}"
    final.parent.mkdir(exist_ok=True)
    with kernels.exclusive(final.parent):
        if not final.exists():
            for older in final.parent.glob("libvirt-*"):
                shutil.rmtree(older)
            _build_host(final)
    return images.Image(final, SUITE)


def _build_host(final: Path) -> None:
    kernel = kernels.find(SUITE)
    work = final.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    rootfs = work / "rootfs"
    with step(f"a host with libvirt: mmdebstrap, {len(PACKAGES)} packages"):
        fetch = f"--customize-hook={FETCH}"
        kernels.bootstrap(SUITE, "apt", PACKAGES, rootfs, fetch, "--skip=cleanup/apt")
    (rootfs / "etc/systemd/system/desktop.service").write_text(WESTON)
    kernels.run(["chroot", str(rootfs), "sh", "-ec", HOST])
    (rootfs / "etc/machine-id").write_text("0" * 31 + "2\n")
    busybox = images.find(recipe.GUEST_IMAGE).busybox
    shutil.copytree(kernel.modules, rootfs / "usr/lib/modules" / kernel.release)
    with step("a host with libvirt: file system image"):
        images.make_ext4(rootfs, work / "root.img")
    (work / images.KERNEL_IDENTITY).write_text(kernel.identity + "\n")
    shutil.copy(kernel.vmlinuz, work / "vmlinuz")
    shutil.copy(busybox, work / "busybox")
    shutil.copytree(kernel.modules, work / "modules")
    work.rename(final)


def guest_disk(
    packages: Path, *, agent: str, as_root: str, as_user: str, into: Path
) -> Path:
    """Make the VM's disk: the lab's guest, after these commands.

    Args:
        packages: a directory with ours, in which they are run.
        agent: installs the agent.
        as_root: lets commands be run from the host.
        as_user: has `lab` let them be run.
        into: a file.

    Raises:
        LabError: that failed.
    """
    guest = images.find(recipe.GUEST_IMAGE)
    with TemporaryDirectory(dir=paths.cache()) as directory:
        place = Path(directory)
        shutil.copytree(packages, place / "0")
        # Its next start is soon enough for a systemd that does not run.
        as_user = as_user.replace(" --now ", " ")
        commands = {"agent": agent, "as_root": as_root, "as_user": as_user}
        for name, text in commands.items():
            (place / "0" / name).write_text(text)
        place.chmod(0o755)
        with (
            step("the VM's disk: our packages in the lab's guest"),
            changed(guest.rootfs, GUEST, place) as root,
        ):
            images.make_ext4(root, into)
    return into


@contextlib.contextmanager
def changed(lower: Path, script: str, build: Path) -> Iterator[Path]:
    """Have a Debian as it is after a script was run in it; the one below stays as it was."""
    (build / "script").write_text(script)
    with TemporaryDirectory(dir=lower.parent) as directory:
        work = Path(directory)
        for name in ("root", "upper", "work"):
            (work / name).mkdir()
        root = work / "root"
        options = f"lowerdir={lower},upperdir={work}/upper,workdir={work}/work"
        kernels.run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)])
        try:
            shell = ["unshare", "--mount", "--pid", "--fork", "sh", "-ec", INSIDE, "sh"]
            kernels.run([*shell, str(root), str(build)], log=build / "log")
            yield root
        finally:
            subprocess.run(["umount", str(root)], check=True)


INSIDE = """\
mkdir -p "$1/build"
mount --bind "$2" "$1/build"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/run"
cp /etc/resolv.conf "$1/etc/resolv.conf"
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \\
    DEBIAN_FRONTEND=noninteractive HOME=/root SYSTEMD_IN_CHROOT=1 sh -eu /build/script
"""


def machine(directory: Path, disk: Path) -> nested.Machine:
    """Return the host, which has the VM's disk as a disk of its own.

    Args:
        directory: for its sockets.
        disk: as `guest_disk` makes it.
    """
    image = host_image()
    directory.mkdir(parents=True, exist_ok=True)
    initrd = directory / "initrd"
    initrd.write_bytes(initramfs.build(image, "guest-init", []))
    drive = f"if=none,id=vm,file={disk},format=raw,readonly=on"
    return nested.Machine(
        directory=directory,
        kernel=image.kernel,
        initrd=initrd,
        disk=image.root,
        accel=qemu.accelerator(),
        memory_mib=4096,
        cpus=2,
        init="systemd",
        gpu="virtio-rng-pci",
        append="kvm_amd.vgif=0",
        options=("-drive", drive, "-device", "virtio-blk-pci,drive=vm,serial=vm"),
    )


def domain_xml(*, kvm: bool) -> str:
    """Describe the VM as somebody has it who has never heard of wlproxy."""
    disk = "/dev/disk/by-id/virtio-vm"
    return DOMAIN_XML.format(
        kind="kvm" if kvm else "qemu",
        disk=disk,
        cpu="<cpu mode='host-passthrough'/>" if kvm else "",
    )


def guest_boot(image: images.Image) -> dict[str, bytes]:
    """Return what the VM is booted with, by name."""
    return {
        "vmlinuz": image.kernel.read_bytes(),
        "initrd": initramfs.build_guest(image),
    }
