"""What both ends of the channel do with fds and sockets.

Only trio and the standard library are used here, since the guest has this package too.
`closable` lets a with block close things; `fds` owns an fd and closes it once; `fd_stream` is
a Unix socket that carries fds; `frame_writer` sends at once what is due, and has one task send
what was not taken; `stream_end` reads and writes one end of a stream that somebody
passed; `lane_tasks` lets tasks wait at the lanes of the channel; `pumps` carries bytes between
such an end and its lane, and says what ends a stream; `notify` and `journal` talk to systemd.
What the bytes mean is the business of the two shells.
"""
