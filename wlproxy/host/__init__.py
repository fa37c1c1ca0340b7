"""Doing: trio, sockets, fds, /dev/udmabuf.  The only package that makes syscalls."""
