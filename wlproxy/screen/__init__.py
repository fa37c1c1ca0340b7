"""The machine's own screen as a window, which no guest has to ask for.

QEMU tells over D-Bus (`-display dbus,p2p=on`) where the picture is, and is told of keys and the
pointer.  There are two connections: we call the `console`, and QEMU calls the `display`, which
makes `commands` of it.  `window` shows that on a `wayland_connection`, as large as `sizing` says;
`seat` has `keyboard` and `pointer`.  These do no I/O.

`viewer` does, and decides little: it has the sockets and the tasks.  `connecting` gets it to QEMU,
`qemu_files` knows what an fd is, and `canvas` has the pixels that QEMU sends as bytes.
"""
