"""The exceptions of wlproxy, arranged by who broke the rules: that decides who is dropped.

`CloseReason` says why something ended.  It is a field of frames as well, and is here because
errors carry it.  Not here: `HostError` (the host cannot do something: a limit, a missing
device), which carries an errno and so belongs to `wlproxy.host`.
"""

from enum import IntEnum
from typing import ClassVar


class CloseReason(IntEnum):
    """Why a client, a stream or a session ended."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    """The client broke the Wayland protocol, or the peer the channel protocol."""
    LIMIT_EXCEEDED = 2
    """A quota: memories, pinned bytes, streams, clients."""
    COMPOSITOR_GONE = 3
    REFUSED = 4
    """The host does not serve this guest or this client; the message says why."""
    FAILED = 5
    """The peer could not go on; the message says why."""


class WlproxyError(Exception):
    """Whatever wlproxy raises on purpose."""


class RemoteProtocolError(WlproxyError):
    """A peer broke the rules: drop that peer and keep running."""


class ChannelError(RemoteProtocolError):
    """The other end of the virtio channel broke the channel protocol: end the session."""


class DBusError(RemoteProtocolError):
    """The other end of a D-Bus connection broke D-Bus, or our bounds of it: hang up."""


class WaylandError(RemoteProtocolError):
    """A guest's client broke the Wayland protocol: drop it.

    The fields are the arguments of `wl_display.error`, by which the client is told.

    Attributes:
        object_id: the object that the error is about, as the offender numbers it.
        code: a value of that object's interface's `error` enum.
        message: for people; names interface and request.
        reason: why it is dropped, for the agent.
    """

    reason: ClassVar[CloseReason] = CloseReason.PROTOCOL_ERROR

    def __init__(self, object_id: int, code: int, message: str) -> None:
        super().__init__(object_id, code, message)
        self.object_id = object_id
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"object {self.object_id}, error {self.code}: {self.message}"


class LimitExceededError(WaylandError):
    """A client wants more of us than one may have: drop it."""

    reason = CloseReason.LIMIT_EXCEEDED


class CompositorError(RemoteProtocolError):
    """The compositor broke the Wayland protocol: drop the client, whose fault it is not.

    What is wrong is for the host's log; the client is told no more than whose fault.
    """

    reason: ClassVar[CloseReason] = CloseReason.FAILED


class SnapshotError(WlproxyError):
    """What a core is to be put together from was not written by this version of it."""


class LocalProtocolError(WlproxyError):
    """Our own code used a state machine wrongly: a bug, met by the last line of defence."""
