"""The machine's own screen as a window, which no guest has to ask for.

QEMU tells over D-Bus (`-display dbus,p2p=on`) where the picture is, and is told of keys and the
pointer.  There are two connections: we call the `console`, and QEMU calls the `display`, which
makes `commands` of it.  These do no I/O, nor does what is of Wayland.

`qemu_files` and `connecting` do: they know what an fd is, and how one gets to QEMU.
"""
