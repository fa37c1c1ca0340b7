"""Says what the relay still holds for each client: for leak tests, and for people."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClientHoldings:
    """What the core keeps of one client.

    Attributes:
        guest_objects: interfaces of the objects that the guest knows.
        host_objects: the same of those that the compositor knows.
        buffers: states of its buffers, those included that only a surface has yet.
        creating: `create`s of linux-dmabuf that are not answered.
        surfaces: how many there are.
        memories: files of the guest.
        locations: pinned ranges of them.
        handles: udmabufs and memfds that it has the shell keep.
        used: of its quotas, by their name.
        stalled: a request of it waits for something.
    """

    guest_objects: tuple[str, ...]
    host_objects: tuple[str, ...]
    buffers: tuple[str, ...]
    creating: int
    surfaces: int
    memories: int
    locations: int
    handles: int
    used: Mapping[str, int]
    stalled: bool


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the core keeps.

    Attributes:
        clients: by their id.
        used: of the VM's quotas, by their name.
    """

    clients: Mapping[int, ClientHoldings]
    used: Mapping[str, int]
