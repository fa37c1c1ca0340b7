"""Lanes: queues that decide which frame crosses the channel next, and how much may wait.

`bounds` holds the limits, `lane` is one queue, `clients` knows which client each lane belongs
to, and `engine` joins them: frames in, frames out.
"""
