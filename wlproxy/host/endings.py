"""What is said of a session's end: to the guest, and in the log.

What a guest is told holds nothing of the host: `HostError.for_guest`.
"""

import logging

from wlproxy.host.errors import HostError
from wlproxy.host.link import Goodbyed
from wlproxy.protocol.channel.frames import CloseReason
from wlproxy.protocol.channel.session import SessionLost
from wlproxy.protocol.errors import RemoteProtocolError, WlproxyError


def farewell(cause: WlproxyError | None) -> tuple[CloseReason, str]:
    """Say to the guest and its clients what ended the session; None: we did."""
    match cause:
        case None:
            return CloseReason.NORMAL, "the host's proxy was stopped"
        case RemoteProtocolError():
            return CloseReason.PROTOCOL_ERROR, str(cause)
        case HostError():
            return CloseReason.FAILED, cause.for_guest
        case _:
            return CloseReason.FAILED, "the session ended"


def severity(cause: WlproxyError) -> int:
    """Say how much it matters: an agent that is restarted is nothing to worry about."""
    harmless = isinstance(cause, SessionLost | Goodbyed)
    return logging.INFO if harmless else logging.ERROR
