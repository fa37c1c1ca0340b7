"""Real dma-bufs of this kernel's exporters: for tests in the lab."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.clients import exporters

PAGE = exporters.PAGE


class MissingExporterError(Exception):
    """This kernel does not have it; the message says what."""


class DrmCard(exporters.DrmCard):
    """A primary node, and the dumb buffers that it makes."""

    def __init__(self, driver: str) -> None:
        # vgem has no hardware that udev would load it for.
        with suppress(FileNotFoundError):
            subprocess.run(["modprobe", "-q", driver], check=False)
        try:
            super().__init__(driver)
        except FileNotFoundError as exc:
            raise MissingExporterError(str(exc)) from exc

    def close(self) -> None:
        os.close(self.fd)

    def make(self, pages: int) -> tuple[int, int]:
        """Make a buffer; return its handle and a dma-buf of it."""
        handle, _, size = self.create(1024, pages, 32)
        assert size == pages * PAGE
        return handle, self.export(handle)


def make_udmabuf(memfd: int, offset: int, size: int) -> int:
    """Make a dma-buf of a memfd's pages."""
    try:
        return exporters.make_udmabuf(memfd, offset, size)
    except FileNotFoundError as exc:
        raise MissingExporterError(str(exc)) from exc


@contextmanager
def dmabuf_of(kind: str, pages: int) -> Iterator[int]:
    """Make a dma-buf by the exporter of that name."""
    if kind in ("udmabuf", "dma-heap"):
        try:
            made = exporters.Exporters().allocate(kind, 1024, pages, 32)
        except FileNotFoundError as exc:
            raise MissingExporterError(str(exc)) from exc
        made.memory.close()
        fd = made.fd
    else:
        card = DrmCard(kind)
        try:
            _, fd = card.make(pages)
        finally:
            card.close()
    try:
        yield fd
    finally:
        os.close(fd)
