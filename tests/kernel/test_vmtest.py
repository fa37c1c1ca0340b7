"""`kernel/udmabuf/vmtest.py` itself: what it makes of what a machine prints."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from lab import paths

VMTEST = paths.REPOSITORY / "kernel" / "udmabuf" / "vmtest.py"
PAGE = 4096
CONSOLE = b"udmabuf 7 4096 8192 16384 4096\r\ncard0 90 32768 4096\r\n# held\r\n"
SAID = b"# udmabuf: 3 pages in 2 extents, 0 wrong\n# card0: 1 pages in 1 extents, 1 wrong\n"


@pytest.fixture(scope="module")
def vmtest() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vmtest", VMTEST)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def memory(tmp_path: Path, vmtest: ModuleType) -> Path:
    """A machine's: the three pages of the one are where they should be."""
    path = tmp_path / "memory"
    with path.open("wb") as file:
        file.truncate(vmtest.MEMORY)
        for number, at in ((7, 1), (8, 2), (9, 4)):
            for end in (at * PAGE, (at + 1) * PAGE - 8):
                file.seek(end)
                file.write(number.to_bytes(8, "little"))
    return path


def test_memory_is_looked_at_once_the_line_is_whole(
    vmtest: ModuleType, memory: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    for split in range(1, len(CONSOLE)):
        # Packets: what is written at once is read at once.
        console, machine = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
        answer, keyboard = os.pipe2(os.O_CLOEXEC)
        for piece in (CONSOLE[:split], CONSOLE[split:], b"vmtest: status 0\r\n"):
            os.write(machine, piece)
        os.close(machine)

        output, wrong = vmtest.watch(console, keyboard, memory)

        assert (output, wrong) == (CONSOLE + b"vmtest: status 0\r\n", 1)
        printed = capfdbinary.readouterr().out
        assert printed == CONSOLE + SAID + b"vmtest: status 0\r\n"
        assert os.read(answer, 16) == b"\n"
        for fd in (console, answer, keyboard):
            os.close(fd)
