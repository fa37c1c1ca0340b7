import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.conftest import Weston
from wlproxy.host.desktop.probe import (
    PROBE_SECONDS,
    TRIED_FORMATS,
    probe_compositor,
    trial_memfd,
    try_shm_pool,
)
from wlproxy.host.desktop.udmabuf_device import UdmabufDevice, UdmabufLimits, seal_error
from wlproxy.host.errors import CompositorRefusedError, NoCompositorError
from wlproxy.relay.buffers.choice import BufferShape, Mode, PlaneShape, choose
from wlproxy.relay.capabilities import Preference
from wlproxy.relay.formats import LAYOUTS, drm_format, fourcc
from wlproxy.transport.fds import OwnedFd

SHAPE = BufferShape((PlaneShape(0, 2560),), shm_format=1, items=1, byte_length=4096)


def test_without_udmabuf_everything_is_copied(weston: Weston) -> None:
    found = probe_compositor(weston.socket, None, "the driver is not there")
    assert found.global_versions["xdg_wm_base"] >= 1
    choice = choose(SHAPE, found, Preference.AUTO, cycled=True)
    assert choice.mode is Mode.COPY
    assert choice.reason == "the driver is not there"


def test_no_compositor(tmp_path: Path) -> None:
    with pytest.raises(NoCompositorError):
        probe_compositor(tmp_path / "wl", None)


def test_trial_memory_is_what_udmabuf_wants() -> None:
    with trial_memfd() as memory:
        assert seal_error(memory.fileno()) is None


def test_compositor_takes_a_pool_it_can_map(weston: Weston) -> None:
    with trial_memfd() as memory:
        try_shm_pool(weston.socket, memory.fileno())


def test_pool_that_cannot_be_mapped_is_only_a_no(weston: Weston) -> None:
    read, write = (OwnedFd(number) for number in os.pipe())
    with read, write, pytest.raises(CompositorRefusedError):
        try_shm_pool(weston.socket, read.fileno())


def test_a_compositor_that_is_slow_throughout_is_an_error(
    weston: Weston, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer in time, and all of them too late: what was not asked is no "no"."""
    late = time.monotonic() + PROBE_SECONDS

    class Device(UdmabufDevice):
        def __init__(self) -> None:
            """Not opened."""

        def create(self, items: object) -> OwnedFd:
            monkeypatch.setattr(time, "monotonic", lambda: late + 1)
            return trial_memfd()

        def limits(self) -> UdmabufLimits:
            return UdmabufLimits(1024, 64)

    with pytest.raises(CompositorRefusedError, match="takes longer than 60 s"):
        probe_compositor(weston.socket, Device())


def test_every_tried_format_has_a_layout() -> None:
    assert {drm_format(0), drm_format(1)} <= TRIED_FORMATS <= LAYOUTS.keys()


def test_shm_formats_are_asked_for(weston: Weston) -> None:
    found = probe_compositor(weston.socket, None)
    assert {0, 1, fourcc("RG16")} <= found.shm_formats


WITHOUT_LIBRARIES = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pywayland", "cffi"):
            raise ImportError(f"{name} is not to be had here")

sys.meta_path.insert(0, Refuse())

from pathlib import Path
from wlproxy.host.desktop.probe import probe_compositor, trial_memfd, try_shm_pool
from wlproxy.host.desktop.security_context import SecurityContext
from wlproxy.host.errors import SecurityContextError
from wlproxy.host.server import run
from wlproxy.relay.policy import effective_policy

compositor = Path(sys.argv[1])
found = probe_compositor(compositor, None)
with trial_memfd() as memory:
    try_shm_pool(compositor, memory.fileno())
try:
    SecurityContext(compositor, "org.example", "vm")
except SecurityContextError as exc:
    assert "has no wp_security_context_manager_v1" in str(exc), exc
print(len(found.global_versions.keys() & effective_policy().keys()))
"""


def test_the_host_needs_no_wayland_library(weston: Weston) -> None:
    """Debian 13's python3-pywayland has the core protocol only; none is needed."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBRARIES, str(weston.socket)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(done.stdout) > 10


@pytest.mark.lab
def test_weston_pixman_takes_udmabufs_as_pools(
    lab_socket: Callable[[str], Path], udmabuf: UdmabufDevice
) -> None:
    found = probe_compositor(lab_socket("wl-pixman"), udmabuf)
    assert found.shm_udmabuf, found.shm_udmabuf_reason
    assert found.udmabuf_list_limit == udmabuf.limits().list_limit
    # pixman imports no dma-bufs
    assert not found.dmabuf_stride_alignment
    assert found.dmabuf_reason
    assert choose(SHAPE, found, Preference.AUTO, cycled=True).mode is Mode.SHM


@pytest.mark.lab
def test_weston_gl_takes_both(
    lab_socket: Callable[[str], Path], udmabuf: UdmabufDevice
) -> None:
    found = probe_compositor(lab_socket("wl-gl"), udmabuf)
    assert found.shm_udmabuf, found.shm_udmabuf_reason
    assert not found.dmabuf_reason
    # llvmpipe samples memory: any stride will do, and every trial was answered
    packed = {each for each in TRIED_FORMATS if len(LAYOUTS[each]) == 1}
    taken = found.dmabuf_stride_alignment
    assert taken.items() >= dict.fromkeys(packed - {fourcc("YUYV")}, 4).items()
    assert taken.keys() <= TRIED_FORMATS
    assert choose(SHAPE, found, Preference.AUTO, cycled=True).mode is Mode.DMABUF


@pytest.mark.lab
def test_wlroots_takes_udmabufs_as_pools(sway: Path, udmabuf: UdmabufDevice) -> None:
    found = probe_compositor(sway, udmabuf)
    assert found.shm_udmabuf, found.shm_udmabuf_reason


def test_driver_that_makes_nothing(weston: Weston) -> None:
    with UdmabufDevice(Path("/dev/null")) as device:
        found = probe_compositor(weston.socket, device)
    assert not found.udmabuf_list_limit
    assert "no udmabuf could be made" in found.shm_udmabuf_reason
