"""D-Bus between two peers, with no bus: what QEMU's display speaks.

It follows the D-Bus specification 0.43 (signatures, marshalling, messages, SASL), as far as two
peers on a socket of their own need it.  `signatures`, `values`, `messages`, `auth` and, above
them, `connection`, which is all that others use.

jeepney does the same and does it well.  It is not used at run time because it sets no bounds to what
a peer may have it allocate, and because it takes five times as long to read one small message: 23 us
to 5 on an idle machine, and there is one for every update of a screen.  The tests read
with it what this writes, and the other way round.
"""
