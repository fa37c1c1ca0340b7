"""The Wayland wire protocol, as values: used by the host alone.

`interface` says what a message looks like, `interfaces` holds the tables of every known
interface, `message` the decoded values, `wire` turns bytes into them and back.
"""
