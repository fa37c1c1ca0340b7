"""Buffers of the guest: where they are, how they are shown, when they are let go of.

* `life`: the table of a buffer's states: when the host's is made, and when its pages are free;
* `client_buffers`: does what follows from the table, and wakes who waits; `room`: who goes first
  where a limit is in the way;
* `locations`, `pages`: where the pages are; `buffer`: the values;
* `choice`: which of the three modes; `present`: how it is carried out;
* `surfaces`: what is on which surface, damage and copies; `offer`: what guests are told of
  linux-dmabuf.
"""
