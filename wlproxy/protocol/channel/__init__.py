"""The channel protocol: all that the host proxy and the guest agent share.

`frames` holds the values, `extents` packs the longest of them, `layouts` says how each
is packed, `rules` what its values must be, and `codec` turns them into bytes and back.
`handshake` finds where a session begins, `session` decides which frame is legal when,
`lanes` in which order they leave, and `flow` counts credit.  The normative text is
`docs/channel-protocol.md`.
"""
