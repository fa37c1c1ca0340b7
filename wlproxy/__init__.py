"""Guest windows on the host's Wayland desktop, without copying a pixel.

The packages, from the bytes outwards: `protocol` (bytes <-> values), `memory` (where the
guest's bytes are), `relay` (decisions), `transport` (fds that others passed), `host`
(doing), `cli`. Each imports only those before it. This file stays free of imports. It
belongs to the distribution `wlproxy-channel`, on which those of both ends depend.
"""

__version__ = "0.1.0"
