"""A vhost-user device whose only work is that the VMM tells where the guest's RAM is.

Any vhost-user device gets the files that back the guest's RAM, and the map from guest-physical
addresses to them, and again whenever the map changes: from QEMU under any user and by libvirt,
and from other VMMs.  This one is a disk without a sector: every guest has the driver, libvirt has the
element, and a VM with one can be saved and restored.

* `messages`: the protocol's messages; `backend`: the answers to them, and the table of RAM;
* `ring`: the disk's requests, each of which fails;
* `table`: the table, as the tap sends it to the proxy;
* `tap`: the process: it has no trio, and outlives the proxy, since the VMM waits for it.

Source: docs/interop/vhost-user.rst in QEMU; virtio 1.2, 2.7 (split virtqueues), 5.2 (block device).
"""
