"""How much of the host each client may take up, and all clients of a VM together.

`protocol.quota` counts.  When there is no room for a request, what is not in use is given up
first; a buffer that still finds no room is not shown (`buffers`).  What the guest may hold of
its own memory is for its agent to say: this is about the host's.
"""

from dataclasses import dataclass, fields
from typing import Final

from wlproxy.protocol.quota import Quota, Share

MAX_COPY_BYTES: Final = 1 << 30
"""Bytes of host memory that mode C copies of one client may take; all else is the guest's."""

MAX_VM_COPY_BYTES: Final = 2 << 30
"""The same of all clients together."""

MAX_LOCATIONS: Final = 4096
"""Locations of one client: each is a mapping of the compositor's, which may have 65530."""

MAX_VM_LOCATIONS: Final = 16384
"""The same of all clients together."""

MAX_FDS: Final = 1 << 20
"""For buffers of all clients, unless the process may have less."""

FDS_PER_LOCATION: Final = 2
"""Fds that a location costs us: a udmabuf, and where that is refused, a copy."""

MAX_RUNS: Final = 1 << 20
"""Runs of pages in one client's locations.  We keep 16 bytes for each."""

MAX_VM_RUNS: Final = 4 << 20
"""The same of all clients together."""

MAX_RAM_LOCATED: Final = 2
"""How many times over all clients together may have the guest's RAM located: we and the
kernel keep a list of the pages of each location.  One client may have it once."""


@dataclass(slots=True, init=False)
class Shares:
    """The shares of one client.

    Attributes:
        copy_bytes: of mode C's buffers, and of colour profiles.
        locations: their number.
        located_bytes: their lengths.
        runs: of the pages in them.
    """

    copy_bytes: Share
    locations: Share
    located_bytes: Share
    runs: Share

    def __init__(
        self,
        quotas: "Quotas",
        copy_bytes: int = MAX_COPY_BYTES,
        locations: int = MAX_LOCATIONS,
        runs: int = MAX_RUNS,
    ) -> None:
        """Nothing is taken yet.

        Args:
            quotas: of the VM.
            copy_bytes: that the client may take, and so on.
            locations: likewise.
            runs: likewise.
        """
        self.copy_bytes = Share(quotas.copy_bytes, copy_bytes)
        self.locations = Share(quotas.locations, locations)
        self.located_bytes = Share(quotas.located_bytes, quotas.ram_bytes)
        self.runs = Share(quotas.runs, runs)

    def used(self) -> dict[str, int]:
        """How much of each is taken."""
        return {each.name: getattr(self, each.name).used for each in fields(self)}

    def close(self) -> None:
        """Give back everything: the client is gone."""
        for each in fields(self):
            getattr(self, each.name).close()


@dataclass(slots=True, init=False)
class Quotas:
    """The quotas of one VM."""

    ram_bytes: int
    fds: int
    copy_bytes: Quota
    locations: Quota
    located_bytes: Quota
    runs: Quota

    def __init__(self, ram_bytes: int, fds: int = MAX_FDS) -> None:
        """Nothing is taken yet.

        Args:
            ram_bytes: of the VM.
            fds: how many the process may open for buffers.
        """
        self.ram_bytes, self.fds = ram_bytes, fds
        self.copy_bytes, self.locations = Quota(0), Quota(0)
        self.located_bytes, self.runs = Quota(0), Quota(0)
        self.limit()

    def limit(
        self,
        copy_bytes: int = MAX_VM_COPY_BYTES,
        locations: int = MAX_VM_LOCATIONS,
        runs: int = MAX_VM_RUNS,
        ram_times: int = MAX_RAM_LOCATED,
    ) -> None:
        """Say how much there is from now on; what is taken beyond that stays until it is given back.

        Args:
            copy_bytes: of mode C.
            locations: their number, fds permitting.
            runs: of the pages in them.
            ram_times: how many times over the RAM may be located.
        """
        self.copy_bytes.limit = copy_bytes
        self.locations.limit = min(locations, self.fds // FDS_PER_LOCATION)
        self.located_bytes.limit = ram_times * self.ram_bytes
        self.runs.limit = runs

    def used(self) -> dict[str, int]:
        """How much of each is taken, by all clients together."""
        return {each.name: getattr(self, each.name).used for each in fields(Shares)}
