"""The frames about launchers, who start commands in the guest for the host.

They need the feature EXEC.  `frames` has all others, and says what letters and numbers mean.
Normative: section 12 of `docs/channel-protocol.md`.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Pipe(Enum):
    """The pipes of a `Launch`, in the order of their streams."""

    REQUEST = "request"
    """What is to be started, and which signals it is sent."""
    ANSWERS = "answers"
    """What became of it."""
    STDIN = "stdin"
    STDOUT = "stdout"
    STDERR = "stderr"

    @property
    def from_host(self) -> bool:
        """Whether the host writes into it, and the guest reads."""
        return self in (Pipe.REQUEST, Pipe.STDIN)


PIPES: Final = tuple(Pipe)
"""In the order of their streams."""
LAST_STREAM: Final = 2 * (len(PIPES) - 1)
"""How much higher the id of the last pipe's stream is than that of the first."""


@dataclass(frozen=True, slots=True)
class LauncherOpened:
    """G: a user of the guest offers to have commands started as that user.

    It ends as a client does, has streams, and nothing else of a client's.

    Attributes:
        client_id: from the same numbers as those of clients.
        uid: of the user, as the guest's kernel says; a label.
        user: the user's name.
    """

    client_id: int
    uid: int
    user: str


@dataclass(frozen=True, slots=True)
class Launch:
    """H: give a launcher the ends of new pipes, which say what it is to start.

    Attributes:
        client_id: the launcher's.
        stream_id: of the first of PIPES, odd; the others follow, two more each.
    """

    client_id: int
    stream_id: int
