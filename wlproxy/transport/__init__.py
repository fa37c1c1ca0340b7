"""What both ends of the channel do with fds that others passed.

trio and the standard library, nothing else, since the guest carries it too.
`stream_end` reads and writes one end of a stream; what goes through it, and when, is the
business of the two shells.
"""
