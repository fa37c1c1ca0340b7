"""A domain that grants pages, without Xen: memory of the test's, by grant reference.

What it makes has the contents that the pages had then, and is mapped as often as one likes; only Xen
itself has pages that stay the other domain's.
"""

import os
import threading
from collections.abc import Sequence

from wlproxy.host.errors import GrantError
from wlproxy.host.xen.gntdev import Granted, Run, check_runs
from wlproxy.transport.fds import OwnedFd

PAGE = 4096


class FakeDomain(Granted):
    """Attributes:
    pages: by their references.
    asked: for which runs fds were made.
    fails: errno of the driver, if it is to refuse.
    hangs: what it waits for before it makes a fd; `reached` and `left` count who waits.
    most: pages of a fd.
    """

    at_once = 512

    def __init__(self) -> None:
        self.pages: dict[int, bytes] = {}
        self.asked: list[tuple[Run, ...]] = []
        self.fails = 0
        self.hangs: threading.Event | None = None
        self.reached, self.left = threading.Semaphore(0), threading.Semaphore(0)
        self.most = 65536

    def grant(self, reference: int, data: bytes) -> None:
        self.pages[reference] = data.ljust(PAGE, b"\0")

    def open(self, runs: Sequence[Run]) -> OwnedFd:
        check_runs(runs, self.most)
        self.asked.append(tuple(runs))
        if (hangs := self.hangs) is not None:
            self.reached.release()
            hangs.wait(10)
            self.left.release()
        if self.fails:
            raise GrantError("the driver takes no grants", errno=self.fails)
        references = [
            ref for first, count in runs for ref in range(first, first + count)
        ]
        if not all(each in self.pages for each in references):
            # As gntdev's: mmap fails, and nothing before it.
            reading, writing = os.pipe2(os.O_CLOEXEC)
            os.close(writing)
            return OwnedFd(reading)
        fd = OwnedFd(os.memfd_create("granted", os.MFD_CLOEXEC))
        os.write(fd.fileno(), b"".join(self.pages[each] for each in references))
        return fd

    def limit(self) -> int:
        if self.fails:
            raise GrantError("there is no gntdev", errno=self.fails)
        return self.most
