"""A user's launcher: starts, as that user, what the host asks for.

It runs on the standard library, one process that waits and one for each command, so that
none costs another.  `service` is connected to the agent, which passes pipes; `command` does
what comes through them; `surroundings` says in which environment.
"""
