"""Decisions: frames and Wayland bytes in, commands out.  No I/O, no fds, no clock.

* `relay`: all clients of a guest; who ends for whose error, and what the app is told;
* `client`: one of them; handles its messages in turns, and has its requests wait;
* `inputs`, `commands`: what the core is told, and what it has the shell do;
* `filters`: the messages that are not simply forwarded; `state` is what they work on;
* `buffers`: the life of buffers, and on which surfaces they are;
* `wire`: object ids, fds and times, translated;
* `policy`: which globals a guest may see; `capabilities` and `formats`: what the host can do;
* `quotas`: what a client, and a VM, may take up; `holdings`: what is left of whom;
* `labels`: what titles and app ids look like; `handles`: names of fds;
* `snapshot`: all of that written down.
"""
