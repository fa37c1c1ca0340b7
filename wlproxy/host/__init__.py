"""Doing: trio, sockets, fds, /dev/udmabuf.  The only package of the proxy's that does I/O.

* `server`: one session after the other, and what follows when one ends;
* `link`: the socket to the agent and its frames: greeting, proof of the RAM, goodbye;
* `session`: what comes in goes to the core in steps, and leaves at their end;
* `conductor`: inputs to the core, its commands to the clients, answers back;
* `client`: one client: its connection, its fds, its copies, its pipes;
* `pages`: the seam to the hypervisor: pages found, and fds made of them; `page_sources`: which;
* `desktop`, `qemu`: the compositor and the VMM; `report`: log, counters and status;
* `status`: the status document; `doctor`: what is missing on this machine;
* `config`, `errors`, `fd_limit`, `pings`.
"""
