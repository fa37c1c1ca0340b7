"""A dma-buf of QEMU's as the window takes it: its files, and whether they can be mapped."""

from wlproxy.screen.commands import File, ShowDmabuf
from wlproxy.screen.dmabuf_import import ImportedPlane
from wlproxy.screen.qemu_files import QemuFile
from wlproxy.screen.window import DmabufSource
from wlproxy.transport.fds import OwnedFd

Identity = tuple[tuple[int, int], ...]
"""Tells the files from others, as long as they are open."""


def dmabuf_source(command: ShowDmabuf) -> tuple[DmabufSource[OwnedFd], Identity]:
    """Return what the window is to show; the files are its own then."""
    planes, layout = command.planes, command.layout
    first = planes[0].file
    source = DmabufSource[OwnedFd](
        tuple(
            ImportedPlane(_owned(plane.file), plane.offset, plane.stride)
            for plane in planes
        ),
        command.modifier,
        command.flipped,
        lambda: layout.end <= first.size and first.mappable,
    )
    return source, tuple(plane.file.identity for plane in planes)


def _owned(file: File) -> QemuFile:
    assert isinstance(file, QemuFile)  # as the stream makes them
    return file
