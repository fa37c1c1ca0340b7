"""Decisions: frames and Wayland bytes in, commands out.  No I/O, no fds, no clock."""
