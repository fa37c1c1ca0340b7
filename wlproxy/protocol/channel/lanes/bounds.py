"""How much may wait and how much may be on its way: one policy for both ends of the channel.

Section 10 of `docs/channel-protocol.md` states the policy, and a test compares the two.
"""

from dataclasses import dataclass
from typing import Final

MAX_URGENT: Final = 65536
"""Urgent frames that wait.  A peer that makes us queue more (by asking, and never reading
the answers) breaks the session.  Not reading it would be kinder, but two ends that do so wait
for each other for ever."""
CLIENT_WINDOW: Final = 256 * 1024
"""Bytes that a peer may have outstanding per client: a burst at start-up, and at most what a
stalled connection makes us hold."""
STREAM_WINDOW: Final = 128 * 1024
"""Bytes that a peer may have outstanding on a stream: twice a pipe's capacity."""
MAX_STREAMS: Final = 512
"""Streams of one client: clipboard managers ask for every type of a selection at once, and
office programs offer dozens."""
MAX_ALL_STREAMS: Final = 1024
"""Streams of all clients, those that have gone included: each may make us hold a window, and
costs an fd or two."""
CHUNK: Final = 32 * 1024
"""Bytes of a file or stream in a frame: those of two clients fit one virtqueue pass."""


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How many streams there may be: of one client, and of all."""

    client: int = MAX_STREAMS
    total: int = MAX_ALL_STREAMS


STREAM_LIMITS: Final = StreamLimits()
