"""The proxy's counters, for `wlproxy status` and the tests.

Each event is counted where it happens: pixel bytes by the code that copies them.  So a zero
means that nothing was copied, not that nobody looked.  A field added here is in
`wlproxy status --json`; what people see of it is `status_view`'s.
"""

from collections import Counter
from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Metrics:
    """Counters of a proxy since it started; nothing resets them.

    Attributes:
        frames_received: frames from the guest, all sessions.
        frames_sent: frames to the guest.
        bytes_received: bytes from the channel.
        bytes_sent: bytes to the channel.
        pixel_bytes_copied: bytes copied by mode C.
        client_pixel_bytes: the same, for each client of the present session.
        udmabufs_created: dma-bufs made of guest pages.
        udmabufs_failed: those that could not be made.
        udmabufs_alive: those whose fd is open here; the compositor may hold more.
        sessions: sessions begun.
        clients: clients opened.
        bugs: exceptions that nobody expected; each ended a client or a session.
    """

    frames_received: int = 0
    frames_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    pixel_bytes_copied: int = 0
    client_pixel_bytes: Counter[int] = field(default_factory=Counter)
    udmabufs_created: int = 0
    udmabufs_failed: int = 0
    udmabufs_alive: int = 0
    sessions: int = 0
    clients: int = 0
    bugs: int = 0

    def copied(self, client_id: int, amount: int) -> None:
        """Count pixel bytes that were copied for a client."""
        self.pixel_bytes_copied += amount
        self.client_pixel_bytes[client_id] += amount

    def totals(self) -> dict[str, int]:
        """Return, by name, the counters that are not kept per client."""
        # Not dataclasses.asdict: it takes a Counter apart into one of pairs.
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if type(value) is int}
