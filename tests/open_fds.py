"""The open fds of a process, as /proc tells of them (proc_pid_fd(5))."""

from collections.abc import Iterator
from pathlib import Path


def open_fds(pid: int | None = None) -> dict[int, str]:
    """List what each fd of process `pid` (without it, of this one) is: {fd: link}."""
    process = "self" if pid is None else str(pid)
    return dict(_links(Path(f"/proc/{process}/fd")))


def _links(directory: Path) -> Iterator[tuple[int, str]]:
    for entry in directory.iterdir():
        try:
            yield int(entry.name), str(entry.readlink())
        except FileNotFoundError:  # closed meanwhile: a running process has its own way
            continue
