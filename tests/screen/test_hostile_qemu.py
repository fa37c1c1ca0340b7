"""A QEMU that means no good, at both ends of real sockets: refused, bounded, said."""

import fcntl
import os
import re
import socket
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.screen.fake_qemu import call, memory, scanout, scanout_map, update_map
from tests.screen.viewer_stage import ViewerStage, staged
from wlproxy.protocol.dbus.messages import MessageKind
from wlproxy.screen.display import MAPS
from wlproxy.transport.fds import OwnedFd

MAY_GROW = 24
"""MiB."""


def sealed(*seals: int) -> int:
    number = os.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(number, bytes(4096))
    for seal in seals:
        fcntl.fcntl(number, fcntl.F_ADD_SEALS, seal)
    return number


def read_only() -> int:
    with memory(bytes(4096)) as file:
        return os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)


FDS: dict[str, tuple[Callable[[], int], str]] = {
    "terminal": (lambda: os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY), "neither"),
    "null": (lambda: os.open("/dev/null", os.O_RDWR), "neither"),
    "directory": (lambda: os.open("/", os.O_RDONLY), "neither"),
    "ordinary": (lambda: os.open(__file__, os.O_RDONLY), "neither"),
    "socket": (lambda: socket.socket(socket.AF_UNIX).detach(), "neither"),
    "event": (lambda: os.eventfd(0), "neither"),
    "sealed": (lambda: sealed(fcntl.F_SEAL_WRITE), "cannot be written to"),
    "later": (lambda: sealed(0x10), "cannot be written to"),
    "read-only": (read_only, "cannot be written to"),
    "empty": (lambda: memory(b"").detach(), "a file of 0 bytes"),
    "short": (lambda: memory(bytes(63)).detach(), "a file of 63 bytes"),
}


async def goes_on(stage: ViewerStage) -> None:
    await stage.show()
    assert not stage.ended


@pytest.mark.parametrize(("make", "why"), FDS.values(), ids=FDS.keys())
async def test_fds_that_are_no_picture(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[], int],
    why: str,
) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        await stage.qemu.say(scanout_map(OwnedFd(make()), 4, 4, 16))
        await stage.until(lambda: len(stage.qemu.answers) == 2)
        assert stage.qemu.answers[1].kind is MessageKind.ERROR
        assert why in caplog.text
        await goes_on(stage)


async def test_memory_that_is_sealed_as_it_may_be(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.until(lambda: stage.qemu.listener)
        file = OwnedFd(sealed(fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW))
        await stage.qemu.say(scanout_map(file, 4, 4, 16))
        await stage.until(lambda: stage.frames)


TOO_MUCH = 0xFFFFFFFC


@pytest.mark.parametrize(
    "changed",
    [
        {"stride": 0},
        {"stride": 12},
        {"stride": TOO_MUCH},
        {"width": 0},
        {"width": TOO_MUCH, "stride": TOO_MUCH},
        {"height": 0},
        {"height": TOO_MUCH},
        {"width": 16384, "height": 16384, "stride": 65536 * 8},
        {"offset": TOO_MUCH},
        {"offset": 1},
        {"pixman": 0},
        {"pixman": 0x12345678},
    ],
)
async def test_sizes_and_formats(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, int]
) -> None:
    shape = {"width": 4, "height": 4, "stride": 16, **changed}
    async with staged(tmp_path) as stage:
        await stage.show()
        await stage.qemu.say(scanout_map(memory(bytes(4096)), **shape))
        await stage.until(lambda: len(stage.qemu.answers) == 2)
        assert stage.qemu.answers[1].kind is MessageKind.ERROR
        assert "QEMU was refused ScanoutMap" in caplog.text
        await goes_on(stage)


async def test_the_65th_fd(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.show()
        assert stage.qemu.listener is not None
        header = update_map(0, 0, 1, 1)[0][:16]  # of a message that never comes
        with memory(b"x") as file:
            for sent in range(65):
                rights = array("i", [file.fileno()])
                stage.qemu.listener.socket.sendmsg(
                    [header if not sent else b"\0"],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)],
                )
        await stage.until(lambda: stage.ended)
        assert "65 fds that belong to no message" in stage.ended


def resident() -> int:
    """MiB of memory that this process has."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) // 1024


async def test_a_message_of_128_mib(tmp_path: Path) -> None:
    """Its header says it, and the rest is not waited for."""
    async with staged(tmp_path) as stage:
        await stage.show()
        before = resident()
        header = bytearray(scanout(2, 3, 8, bytes(24))[0])
        header[4:8] = (128 << 20).to_bytes(4, "little")
        await stage.qemu.say((bytes(header), []))
        await stage.until(lambda: stage.ended)
        assert "not understood: a message of" in stage.ended
        assert resident() < before + MAY_GROW


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_million_updates(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They come as fast as they can: who does not keep up is cut off, and shows the next picture."""
    async with staged(tmp_path) as stage:
        await stage.show()
        before, counts, cut_off = resident(), stage.viewer.counts, 0
        one, _ = call(MAPS, "UpdateMap", "iiii", 1, 1, 2, 2, flags=1)
        many = one * 500
        while counts.updates < 1_000_000:
            assert stage.qemu.listener is not None
            try:
                with trio.fail_after(60):
                    await stage.qemu.listener.send(many)
            # Closed, if the fake has read the end of it before it could send again.
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                cut_off += 1
                stage.qemu.hang_up()
                await stage.until(lambda: stage.qemu.listeners > cut_off)  # noqa: B023
                await stage.show()
            assert resident() < before + MAY_GROW
        assert not stage.ended
        assert bool(cut_off) == ("or did not keep up" in caplog.text)
