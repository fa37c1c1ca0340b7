"""What both ends of the channel do with fds and sockets.

trio and the standard library, nothing else, since the guest has it too.  `closing` is
what a with block closes; `fds` owns an fd, and closes it once; `fd_stream` is a Unix socket
that carries fds; `stream_end` reads and writes one end of a stream that somebody passed;
`lane_tasks` lets tasks wait at the lanes of the channel; `pumps` carries bytes between an end
and its lane; `notify` talks to systemd.  What goes through them is the business of the two
shells.
"""
