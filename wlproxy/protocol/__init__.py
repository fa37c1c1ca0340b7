"""Turns bytes into values and back: no sockets, no clocks, no state but a buffer or a handshake.

* `errors`: the exceptions that every package raises and the shells catch;
* `fd_limits`: how many fds one send carries; `quota`: how much of something is taken;
* `channel`: what host and guest say to each other (`docs/channel-protocol.md`);
* `dbus`: what QEMU's display and we say to each other. Host only;
* `wayland`: what clients and compositors say to each other. Host only.

These three do not know each other. The guest has all but `dbus` and
`wayland` too (distribution `wlproxy-channel`), so these import nothing but the standard
library.
"""
