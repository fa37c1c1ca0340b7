"""Wayland objects and messages of one client, translated.  Buffers are not known here.

* `objects`: both id spaces; `forwarding`: the way of a message from the one to the other;
* `passed_fds`: what the fd of a message is for; `forwarding` carries it;
* `timestamps`, `clock`: where messages tell times, and how far the guest's clock is ahead;
* `context`: what all of a client's code shares; `outbox`: what has come of it so far.
"""
