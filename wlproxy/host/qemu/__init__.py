"""QEMU: its command line, its process, its monitor, its channel, the guest's RAM."""
