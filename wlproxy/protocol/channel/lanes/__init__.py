"""Lanes: what waits to cross the channel, in which order, and how much of it.

`bounds` says how much there may be of everything, `lane` is one queue, `clients` knows whose
they are, and `engine` joins them: frames in, frames out.
"""
