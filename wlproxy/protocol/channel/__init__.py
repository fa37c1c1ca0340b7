"""The channel protocol: all that the host proxy and the guest agent share.

`frames` holds the values, `codec` turns them into bytes and back, `session` decides which
frame is legal when, `lanes` in which order they leave, and `flow` counts credit.  The
normative text is
`docs/channel-protocol.md`.
"""
