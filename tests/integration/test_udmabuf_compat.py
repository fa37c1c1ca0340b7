"""Our udmabuf driver in place of the kernel's: its users notice nothing.

Built with another name for its device, it is loaded beside the kernel's own, whose
device it then takes the place of.  How each of them answers each request is compared by
`kernel/udmabuf/selftests`; here are the programs: wlproxy, Mesa, which imports what it
made and exports what it draws, QEMU, and libcamera under GStreamer.
"""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import kernels, nested
from lab.guest import Guest
from tests.clients import egl_export, pattern
from tests.integration import harness
from tests.integration.harness import (
    GUEST_TREE,
    WESTON_PIXMAN,
    Compositor,
    GuestSide,
    PatternClient,
    Proxy,
    ProxySlot,
    eventually,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(240)]

MODULE = Path("/lab/modules", f"{kernels.RENAMED}.ko")
DEVICE = Path("/dev/udmabuf")
ASIDE = Path("/dev/udmabuf.kernel")
OURS = Path("/dev", kernels.RENAMED_DEVICE)
USERS = Path("/sys/module/udmabuf_compat/refcnt")


def users() -> int:
    """How many files of the driver's are open: its device, and dma-bufs."""
    return int(USERS.read_text())


@pytest.fixture(scope="module", autouse=True)
def compat() -> Iterator[None]:
    """Our driver, loaded and in place."""
    subprocess.run(["insmod", str(MODULE)], check=True)
    eventually(OURS.exists, "the device")
    DEVICE.rename(ASIDE)
    OURS.rename(DEVICE)
    yield
    DEVICE.unlink()
    ASIDE.rename(DEVICE)
    subprocess.run(["rmmod", "udmabuf_compat"], check=True)


@pytest.fixture
def weston_gl(tmp_path: Path) -> Iterator[Compositor]:
    """A weston of one's own: Mesa lets go of the last import only as it ends."""
    compositor = harness.start_weston(tmp_path, "wl-compat", "gl")
    yield compositor
    compositor.kill()


def test_a_window_of_a_guest(proxy_slot: ProxySlot, client: PatternClient) -> None:
    """Every pixel, on weston with pixman; nothing is left behind."""
    proxy_slot.stop()
    assert users() == 0
    proxy = proxy_slot.use(WESTON_PIXMAN)
    before = users()
    assert before > 0, "wlproxy has not opened it"
    show_in_turn(proxy, client)

    assert proxy.surface()["mode"] == "A", proxy.surface()["reason"]
    assert proxy.copied() == 0
    assert users() > before
    client.kill()
    proxy.wait_no_clients()
    eventually(lambda: users() == before, "the dma-bufs are gone")
    proxy_slot.stop()
    eventually(lambda: users() == 0, "the device is closed")


def test_mesa_imports_what_it_makes(
    proxy_slot: ProxySlot, client: PatternClient, weston_gl: Compositor
) -> None:
    """Mode B on llvmpipe, for shared memory and for a dumb buffer of virtio-gpu."""
    proxy = proxy_slot.use(weston_gl)
    show_in_turn(proxy, client)
    assert proxy.surface()["mode"] == "B", proxy.surface()["reason"]

    shape = {"width": 333, "height": 251}
    client.call("allocate", memory="one", exporter="virtio_gpu", **shape)
    made = client.call("import", buffer="one", planes=[{"memory": "one"}], **shape)
    assert made == "created"
    for frame in (1, 2):
        client.show("window", "one", frame)
        proxy.compositor.wait_shows(333, 251, frame)

    assert proxy.surface()["mode"] == "B", proxy.surface()["reason"]
    assert proxy.copied() == 0
    proxy_slot.stop()
    weston_gl.kill()
    eventually(lambda: users() == 0, "nothing is left")


def run_on(device: Path, directory: Path, command: str, *, timeout: float) -> bytes:
    """Run a shell command that has a driver's device as the one; returns its output.

    It must have made udmabufs, and none in vain.
    """
    trace = directory / "trace"
    script = f"mount --bind {device} /dev/udmabuf\n"
    script += f"exec strace -f -e trace=ioctl -o {trace} {command}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script],
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    made = re.findall(r"UDMABUF_CREATE, .*= (-?\d+)", trace.read_text())
    assert made
    assert all(int(fd) >= 0 for fd in made), made
    return done.stdout


def test_mesa_exports_what_it_draws(proxy_slot: ProxySlot, tmp_path: Path) -> None:
    """EGL_MESA_image_dma_buf_export of llvmpipe, as with the kernel's own driver."""
    proxy_slot.stop()
    assert users() == 0

    def export(device: Path) -> bytes:
        frames = tmp_path / "frames"
        command = f"python3 -m tests.clients.egl_export {frames}"
        facts = json.loads(run_on(device, tmp_path, command, timeout=100))
        assert "llvmpipe" in facts["renderer"]
        assert (facts["format"], facts["modifier"]) == ("AR24", 0)
        assert facts["is"].startswith("/dmabuf:")
        return frames.read_bytes()

    width, height = egl_export.SIZE
    first, second = (pattern.image(width, height, frame) for frame in (1, 2))
    expected = bytearray(first + second)
    left, top, across, down = egl_export.BOX
    for y in range(height + top, height + top + down):
        start = (y * width + left) * 4
        expected[start : start + across * 4] = egl_export.RED * across

    assert export(DEVICE) == expected
    assert export(ASIDE) == expected
    assert users() == 0


def show_in_turn(proxy: Proxy, client: PatternClient) -> None:
    """Show two buffers in turn, and see every frame on the screen."""
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=2 * 1536 * 251)
    for index in (0, 1):
        client.call(
            "buffer",
            buffer=f"b{index}",
            pool="pool",
            offset=index * 1536 * 251,
            width=333,
            height=251,
            stride=1536,
        )
    for frame in range(1, 7):
        client.show("window", f"b{frame % 2}", frame)
        proxy.compositor.wait_shows(333, 251, frame)


ALLOCATE = """\
from tests.clients.exporters import DrmCard
card = DrmCard("virtio_gpu")
card.create(640, 480, 32)
print("allocated", flush=True)
input()
"""


def test_qemu_maps_the_blobs_of_its_guest(
    proxy_slot: ProxySlot, tmp_path: Path
) -> None:
    """`-device virtio-gpu,blob=true`: what the guest allocates is a udmabuf of QEMU's."""
    proxy_slot.stop()
    machine = nested.in_lab()
    blob = machine.replace(
        directory=tmp_path, gpu="virtio-gpu-pci,blob=true", memory_mib=768
    )
    before = users()
    with Guest(blob) as guest:
        guest.boot()
        GuestSide(guest).ship()
        booted = users()
        assert booted > before, "QEMU has not opened it"
        log = "/run/allocate.log"
        # Its input never ends: it holds the buffer until it is killed.
        script = f"sleep 1000 | python3 -c '{ALLOCATE}'"
        pid = guest.spawn(["sh", "-c", script], env={"PYTHONPATH": GUEST_TREE}, log=log)
        eventually(lambda: b"allocated" in guest.get(log), "the guest has a buffer")
        eventually(lambda: users() > booted, "QEMU has a udmabuf of it")
        guest.kill(-pid, signal.SIGKILL)
        eventually(lambda: users() == booted, "QEMU has it no more")
        guest.power_off()
    eventually(lambda: users() == before, "QEMU has closed it")


VIRTUAL_CAMERAS = Path("/usr/share/libcamera/pipeline/virtual/virtual.yaml")
CAMERA = """\
"Virtual0":
  supported_formats:
  - width: 640
    height: 480
    frame_rates: [30, 60]
  test_pattern: "bars"
  location: "CameraLocationExternal"
"""
NV12_FRAME = 640 * 480 * 3 // 2
# libcamera takes the first allocator that there is, and dma-heaps before udmabuf.
CAPTURE = """\
sh -ec 'mount --bind {empty} /dev/dma_heap
exec gst-launch-1.0 libcamerasrc ! identity eos-after=6 ! filesink location={frames}'
"""


@pytest.fixture
def virtual_camera() -> Iterator[None]:
    """A camera of libcamera's that needs no hardware: what it shows are bars."""
    VIRTUAL_CAMERAS.parent.mkdir(parents=True, exist_ok=True)
    VIRTUAL_CAMERAS.write_text(CAMERA)
    yield
    VIRTUAL_CAMERAS.unlink()


@pytest.mark.usefixtures("virtual_camera")
def test_libcamera_captures_into_buffers_of_it(
    proxy_slot: ProxySlot, tmp_path: Path
) -> None:
    """GStreamer gets the same frames as with the kernel's own driver."""
    proxy_slot.stop()
    (tmp_path / "empty").mkdir()

    def capture(device: Path) -> bytes:
        files = {name: tmp_path / name for name in ("empty", "frames")}
        run_on(device, tmp_path, CAPTURE.format(**files), timeout=60)
        return files["frames"].read_bytes()

    frames = capture(DEVICE)

    assert len(frames) >= 4 * NV12_FRAME
    assert len(frames) % NV12_FRAME == 0
    assert len(set(frames[:640])) >= 8, "these are not bars"
    compared = 4 * NV12_FRAME
    assert capture(ASIDE)[:compared] == frames[:compared]
    assert users() == 0
