"""Guest windows on the host's Wayland desktop, without copying a pixel.

The packages, from the bytes outwards: `protocol` (bytes <-> values), `memory` (where the
guest's bytes are), `relay` (decisions), `transport` (fds that others passed), `host`
(I/O), `cli`. Each imports only those before it. This file imports nothing. It belongs to
the distribution `wlproxy-channel`, on which the distributions of both ends depend.
"""

__version__ = "0.1.0"
