"""The exception tree: who broke the rules decides who is dropped.

Not here: `HostError` (the host could not: a limit, a missing device), which carries an
errno and so belongs to `wlproxy.host`.
"""


class WlproxyError(Exception):
    """Whatever wlproxy raises on purpose."""


class RemoteProtocolError(WlproxyError):
    """A peer broke the rules: drop that peer and keep running."""


class ChannelError(RemoteProtocolError):
    """The other end of the virtio channel broke the channel protocol: end the session."""


class WaylandError(RemoteProtocolError):
    """A guest's client broke the Wayland protocol: drop it.

    The fields are the arguments of `wl_display.error`, by which the client is told.

    Attributes:
        object_id: the object that the error is about, as the offender numbers it.
        code: a value of that object's interface's `error` enum.
        message: for people; names interface and request.
    """

    def __init__(self, object_id: int, code: int, message: str) -> None:
        super().__init__(object_id, code, message)
        self.object_id = object_id
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"object {self.object_id}, error {self.code}: {self.message}"


class LimitExceededError(WaylandError):
    """A client wants more of us than one may have: drop it, as LIMIT_EXCEEDED."""


class CompositorError(RemoteProtocolError):
    """The compositor broke the Wayland protocol: drop the client, whose fault it is not.

    What is wrong is for the host's log; the client is told no more than whose fault.
    """


class LocalProtocolError(WlproxyError):
    """Our own code used a state machine wrongly: a bug, met by the last line of defence."""
