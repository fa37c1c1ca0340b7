import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from wlproxy.screen import qemu_files
from wlproxy.screen.commands import FileKind
from wlproxy.screen.qemu_files import QemuFile
from wlproxy.transport.fds import OwnedFd


def test_a_memfd() -> None:
    number = os.memfd_create("x", os.MFD_CLOEXEC)
    os.ftruncate(number, 12345)
    with QemuFile(number) as file:
        found = os.fstat(number)
        assert (file.kind, file.size) == (FileKind.MEMORY, 12345)
        assert file.identity == (found.st_dev, found.st_ino)


def pipe_end() -> int:
    read, write = map(OwnedFd, os.pipe())
    write.close()
    return read.detach()


OTHERS: dict[str, Callable[[], int]] = {
    "/dev/null": lambda: os.open("/dev/null", os.O_RDWR),
    "/dev/zero": lambda: os.open("/dev/zero", os.O_RDONLY),
    "directory": lambda: os.open("/", os.O_RDONLY | os.O_DIRECTORY),
    "/proc": lambda: os.open("/proc/self/status", os.O_RDONLY),
    "terminal": lambda: os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY),
    "pipe": pipe_end,
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_no_memory(make: Callable[[], int]) -> None:
    file = QemuFile(make())
    assert (file.kind, file.size) == (FileKind.OTHER, 0)
    file.close()


def test_an_ordinary_file_is_no_memory() -> None:
    path = Path(__file__)
    file = QemuFile(os.open(path, os.O_RDONLY))
    assert file.kind is FileKind.OTHER
    file.close()


def test_nobody_waits_for_what_takes_its_time_to_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self))  # noqa: PLW0108 - a method gets self
    file = QemuFile(os.open("/dev/null", os.O_RDONLY))
    number = file.fileno()
    file.close()
    os.fstat(number)  # is still open: somebody else closes it
    started[0].run()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_dma_buf_is_more_than_a_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that is called so may be anybody's, in a file system that answers nobody."""
    monkeypatch.setattr(qemu_files, "_DMABUF", f"{tmp_path}/dmabuf:")
    (tmp_path / "dmabuf:").touch()
    with QemuFile(os.open(tmp_path / "dmabuf:", os.O_RDWR)) as file:
        assert file.kind is FileKind.OTHER
        assert not file.mappable


def test_what_can_be_mapped() -> None:
    number = os.memfd_create("x", os.MFD_CLOEXEC)
    with QemuFile(number) as empty:
        assert not empty.mappable
        os.ftruncate(number, 12345)
        path = f"/proc/self/fd/{number}"
        with QemuFile(os.open(path, os.O_RDWR)) as file:
            assert file.mappable
        with QemuFile(os.open(path, os.O_RDONLY)) as file:
            assert not file.mappable
