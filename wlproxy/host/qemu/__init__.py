"""QEMU: its command line, its process, its monitor, its channel, and the guest's RAM."""
