"""The channel protocol, which the host proxy and the guest agent share.

`frames` holds the values, and `extents` packs the longest of them. `layouts` says how each
frame is packed, `rules` what its values must be, and `codec` turns frames into bytes and
back. `hello_scanner` finds where one begins, `session` decides which frame is legal when,
`lanes` decides in which order frames leave, and `flow` counts credit. The normative text is
`docs/channel-protocol.md`.
"""
