"""What the host can do with buffers, and what the user would like it to do.

The facts come from the compositor probe and the udmabuf limits (`host/desktop/probe`), or from
what takes udmabuf's place (`host/pages`); what follows from them for a buffer is `buffers/choice`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from wlproxy.relay.formats import SHM_ARGB8888, SHM_XRGB8888

PAGE_SIZE = 4096
"""Bytes of a host page; udmabuf items and mode A pools are made of these."""


class Preference(Enum):
    """What the user asked for on the command line."""

    AUTO = "auto"
    SHM = "a"
    DMABUF = "b"
    COPY = "c"


@dataclass(frozen=True, slots=True)
class CompositorCapabilities:
    """What the probe found.

    Attributes:
        shm_udmabuf: the compositor takes a udmabuf as a `wl_shm` pool (mode A).
        shm_udmabuf_reason: why not, for people; empty if it does.
        shm_once: a fd of pages can be mapped once, and so is for one pool only.
        dmabuf_stride_alignment: for each DRM format that the compositor imports
            as LINEAR (mode B), the smallest stride alignment it took, bytes.
        dmabuf_reason: why mode B is not to be had; empty if it is.
        shm_formats: what its `wl_shm` takes.
        udmabuf_list_limit: most items of one udmabuf; 0 without /dev/udmabuf.
        udmabuf_size_limit: most bytes of one udmabuf.
        global_versions: interface name to version, as the host advertises them.
    """

    shm_udmabuf: bool
    shm_udmabuf_reason: str = ""
    shm_once: bool = False
    dmabuf_stride_alignment: Mapping[int, int] = field(default_factory=dict)
    dmabuf_reason: str = ""
    shm_formats: frozenset[int] = frozenset({SHM_ARGB8888, SHM_XRGB8888})
    udmabuf_list_limit: int = 1024
    udmabuf_size_limit: int = 64 << 20
    global_versions: Mapping[str, int] = field(default_factory=dict)
