"""One client of the guest: its connection to the compositor, its fds, its copies.

`client` is its life, and carries out what the core decides about it; `compositor_queue` has
what waits for its compositor, `buffers` what it shows, `pixels` copies, `handles` names fds,
`streams` has pipes; `locates` notices when the agent does not answer, and `turns` says whose
requests are next (how long a turn is, `relay.client` says).
"""
