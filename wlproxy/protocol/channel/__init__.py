"""The channel protocol: all that the host proxy and the guest agent share.

`frames` holds the values, `codec` turns them into bytes and back, `flow` counts
credit, `session` decides which frame is legal when.  The normative text is
`docs/channel-protocol.md`.
"""
