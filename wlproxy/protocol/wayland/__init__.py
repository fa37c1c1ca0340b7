"""The Wayland wire protocol, as values.  Only the host uses it.

`interface` says what a message looks like, `interface_table` holds the tables of every known
interface, `message` the decoded values, `wire` turns bytes into them and back.
"""
