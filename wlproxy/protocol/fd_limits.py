"""How many fds one send over a Unix socket carries.

Both numbers are other people's: the kernel's and libwayland's.  They stand here because the
core, which does no I/O, has to keep to them as well as the sockets do.
"""

from typing import Final

MAX_FDS_OUT: Final = 28
"""Fds per sendmsg: what libwayland sends, and expects, at most (its MAX_FDS_OUT)."""

MAX_FDS_IN: Final = 253
"""Fds per recvmsg: the kernel's SCM_MAX_FD, so that none is ever cut off."""
