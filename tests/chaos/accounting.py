"""Counts what processes hold, to find what they still hold when it should be nothing.

Everything is compared with what the same process held at rest, before anything was done
to it: fds by kind (the agent's pipes and gem_locate's are its pins), threads, memory, and
what is in its directory.
"""

import re
from collections import Counter
from dataclasses import dataclass

from tests.chaos.places import Place

MEMORY_SLACK = 16 << 20
"""Bytes that a process's own memory may grow by, whatever was done to it: its heap's
pages are not given back for the sake of an object or two."""

KINDS = (
    (re.compile(r"(socket|pipe):\["), r"\1"),
    (re.compile(r"/memfd:"), "memfd"),
    (re.compile(r"/dmabuf:"), "dmabuf"),
    (re.compile(r"anon_inode:\[?([^\]]*)"), r"\1"),
    (re.compile(r"/dev/(udmabuf|gem-locate)"), r"\1"),
)
"""What /proc's links say, and what it is called here."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds.

    Attributes:
        fds: how many of each kind.
        threads: how many.
        memory: bytes of its own, not of files that it has mapped.
        address_space: bytes.
        files: what is in its directory, names without their random parts.
    """

    fds: Counter[str]
    threads: int
    memory: int
    address_space: int
    files: Counter[str]

    def above(self, rest: "Usage") -> Counter[str]:
        """What there is more of than at rest; threads take their time, so not they."""
        more = Counter({f"fd {kind}": n for kind, n in (self.fds - rest.fds).items()})
        more += Counter({f"file {f}": n for f, n in (self.files - rest.files).items()})
        if self.memory > rest.memory + MEMORY_SLACK:
            more["MiB"] = (self.memory - rest.memory) >> 20
        return more


def kind_of(link: str) -> str:
    """Name the kind of fd that a link in /proc/PID/fd stands for."""
    for pattern, kind in KINDS:
        if found := pattern.match(link):
            return found.expand(kind)
    return "device" if link.startswith("/dev/") else "file"


def name_of(path: str) -> str:
    """Name a file, without what `tempfile` adds to our own names."""
    return re.sub(r"(wlproxy-(?:context-)?)\w{8}\b", r"\1*", path)


def usage(place: Place, pid: int, directory: str, named: str = "*") -> Usage:
    """Look at a process, and at the files in its directory that are named like that."""
    text = place.shell(
        f"ls -l /proc/{pid}/fd; cat /proc/{pid}/status;"
        f" cd {directory} && find . -mindepth 1 -name '{named}'"
    )
    fds: Counter[str] = Counter()
    files: Counter[str] = Counter()
    fields: dict[str, int] = {}
    for line in text.splitlines():
        if " -> " in line:
            fds[kind_of(line.partition(" -> ")[2])] += 1
        elif line.startswith("./"):
            files[name_of(line[2:])] += 1
        elif found := re.match(r"(\w+):\s+(\d+)", line):
            fields[found[1]] = int(found[2])
    return Usage(
        fds,
        fields.get("Threads", 0),
        fields.get("RssAnon", 0) << 10,
        fields.get("VmSize", 0) << 10,
        files,
    )
