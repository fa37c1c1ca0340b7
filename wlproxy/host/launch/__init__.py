"""Commands in the guest: who may be asked for them, by whom, and how one asks.

`launchers` knows the guest's launchers in one session; `serving` is the proxy's socket at
which this user's programs ask; `asking` is such a program.  The proxy passes bytes between
pipes, and reads none.
"""
