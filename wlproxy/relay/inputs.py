"""What the shell tells the core, as values, for `Relay.receive`.

Frames of the guest are told as they are (`protocol.channel.frames`); the rest is here.
What the core says in return is in `commands`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from wlproxy.protocol.channel.frames import (
    ClientClosed,
    ClientOpened,
    CloseReason,
    Data,
    Located,
    Released,
)
from wlproxy.relay.capabilities import CompositorCapabilities
from wlproxy.relay.commands import Direction
from wlproxy.relay.handles import Handle
from wlproxy.relay.look import WindowFrame
from wlproxy.relay.policy_tree import Policy


class FdKind(Enum):
    """What an fd from the compositor looks like; what it is for, its message says."""

    FILE = "file"
    """A regular file or a memfd: its contents can be carried."""
    STREAM = "stream"
    """A pipe, a socket, a file that is only open for writing."""
    OTHER = "other"
    """A terminal, a device, a dma-buf, a file that is too large."""


@dataclass(frozen=True, slots=True)
class ReceivedFd:
    """An fd that the compositor sent.

    Attributes:
        handle: the shell's name for it.
        kind: what it is.
        size: bytes of a FILE (at most MAX_FILE_SIZE), else 0.
        direction: the only way in which data can go through it: the write end of a
            pipe is for the guest's app to write into (TO_COMPOSITOR).  None if it is
            open both ways.
    """

    handle: Handle
    kind: FdKind
    size: int = 0
    direction: Direction | None = None


@dataclass(frozen=True, slots=True)
class FromCompositor:
    """Bytes and fds came from a client's compositor; its events have a turn with that."""

    client_id: int
    data: bytes
    fds: Sequence[ReceivedFd] = ()


@dataclass(frozen=True, slots=True)
class RequestsTurn:
    """A client's requests, taken with `Data` before, have a turn."""

    client_id: int


@dataclass(frozen=True, slots=True)
class EventsTurn:
    """The events for a client have another turn."""

    client_id: int


@dataclass(frozen=True, slots=True)
class TimerEnded:
    """The time of a `StartTimer` with this number is over."""

    client_id: int
    number: int


@dataclass(frozen=True, slots=True)
class UserAnswered:
    """What the user says to an `AskUser` with this number; no answer in time is a no."""

    client_id: int
    number: int
    allowed: bool


@dataclass(frozen=True, slots=True)
class BufferCreated:
    """The shell made what a handle names: answers `CreateUdmabuf`, `CreateCopyBuffer`."""

    client_id: int
    handle: Handle


@dataclass(frozen=True, slots=True)
class BufferFailed:
    """It could not; `error` is the errno, 0 if it was no system call."""

    client_id: int
    handle: Handle
    error: int
    message: str


@dataclass(frozen=True, slots=True)
class FileRead:
    """The shell has read what a handle names: answers `ReadFile`.

    If it is not `whole`, since the guest did not send all of it, or not in time, there is no
    such handle.
    """

    client_id: int
    handle: Handle
    whole: bool


@dataclass(frozen=True, slots=True)
class Copied:
    """The shell copied so many bytes into the memfd that a handle names."""

    client_id: int
    handle: Handle
    amount: int


@dataclass(frozen=True, slots=True)
class ClientFailed:
    """The shell could not do what a client cannot go on without.

    What was decided for the client and not returned yet is dropped: the shell may have
    met a bug of ours half-way.

    Attributes:
        client_id: whom that ends.
        reason: why.
        message: what the guest is told.
    """

    client_id: int
    reason: CloseReason
    message: str


@dataclass(frozen=True, slots=True)
class CompositorClosed:
    """The compositor hung up on a client, or could not be reached.

    Attributes:
        client_id: whose.
        message: tells the app; unless it knows a better reason, by an error.
    """

    client_id: int
    message: str


@dataclass(frozen=True, slots=True)
class CompositorAway:
    """There is no compositor: clients yet to come wait for `CompositorFound`."""


@dataclass(frozen=True, slots=True)
class CompositorFound:
    """The host can do this from now on, for clients that wait and those to come."""

    capabilities: CompositorCapabilities


class ClockSample(NamedTuple):
    """What one ping tells: our clock, the guest's, ours."""

    sent: int
    clock: int
    received: int


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The user has decided anew.

    Attributes:
        policy: what the guest may do.
        frame: how windows are framed, as the policy says; None: they are not.
    """

    policy: Policy
    frame: WindowFrame | None = None


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is over: close every client."""

    reason: CloseReason
    message: str


ClientInput = (
    Data
    | Located
    | FromCompositor
    | RequestsTurn
    | EventsTurn
    | TimerEnded
    | UserAnswered
    | BufferCreated
    | BufferFailed
    | FileRead
)
"""What is for one client that goes on; an input of one that has ended says nothing."""

Input = (
    ClientInput
    | ClientOpened
    | ClientClosed
    | Released
    | Copied
    | ClientFailed
    | CompositorClosed
    | CompositorAway
    | CompositorFound
    | ClockSample
    | PolicyChanged
    | SessionEnded
)
