"""Reads what /proc says about a process, here or in the guest: text in, numbers out."""

from typing import Final

USER_HZ: Final = 100
"""Ticks per second of /proc/PID/stat (proc_pid_stat(5)), on every x86 kernel."""

_UTIME, _STIME = 11, 12
"""Their places after the process's name, counted from 0."""


def cpu_seconds(stat: str) -> float:
    """Read the CPU time that a process has used from its /proc/PID/stat.

    All its threads count, even those that have ended: adding up task/*/schedstat would
    lose these, and run backwards.  The kernel rounds the exact sum down to 10 ms.
    """
    fields = stat.rpartition(")")[2].split()  # the name may hold anything
    return (int(fields[_UTIME]) + int(fields[_STIME])) / USER_HZ
