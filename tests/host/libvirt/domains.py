"""Domains as libvirt prints them."""

import os
from dataclasses import replace

from wlproxy.host.libvirt.domain import Domain
from wlproxy.host.libvirt.markup import parse
from wlproxy.host.libvirt.virsh import Virsh

PLAIN = """\
<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <!-- kept -->
  <name>vm.1</name>
  <memory unit='KiB'>65536</memory>
  <currentMemory unit='KiB'>65536</currentMemory>
  <vcpu placement='static'>1</vcpu>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <target dev='vda' bus='virtio'/>
    </disk>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <memballoon model='none'/>
  </devices>
  <qemu:commandline/>
</domain>
"""
SHARED = """\
  <memoryBacking>
    <source type='memfd'/>
    <access mode='shared'/>
  </memoryBacking>
"""


def with_elements(*, domain: str = "", devices: str = "", text: str = PLAIN) -> str:
    """Add elements to a domain, and to its devices."""
    text = text.replace("  <vcpu", f"{domain}  <vcpu")
    return text.replace("    <memballoon", f"{devices}    <memballoon")


def domain_of(text: str, **changes: object) -> Domain:
    """The domain of a user's own libvirt; or as the changes say."""
    own = (os.geteuid(), os.getegid())
    domain = Domain(
        "vm.1",
        Virsh("qemu:///session"),
        parse(text.encode()),
        False,
        own,
    )
    return replace(domain, **changes)  # type: ignore[arg-type]
