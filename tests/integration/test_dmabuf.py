"""Dma-bufs of the guest's kernel through the whole path: every pixel, two modes, no copy.

The agent runs as its own user, without any capability: `gem_locate` tells it where
everything is.  What the objects of linux-dmabuf must do and must not is tested closer
to the code (tests/relay, tests/integration/loopback).
"""

from collections.abc import Callable
from typing import Any

import pytest

from lab import guest_agent
from tests.clients.capture import Picture
from tests.clients.dmabuf_client import DmabufClient
from tests.integration import harness
from tests.integration.harness import (
    WESTON_GL,
    WESTON_PIXMAN,
    GuestSide,
    PatternClient,
    Proxy,
    ProxySlot,
    eventually,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(240)]

NewClient = Callable[[], PatternClient]

MODES = {"A": WESTON_PIXMAN, "B": WESTON_GL}
EXPORTERS = ("virtio_gpu", "vgem", "dma-heap", "udmabuf")
INVALID = (1 << 56) - 1
"""DRM_FORMAT_MOD_INVALID."""
INVALID_FORMAT = 4
"""`zwp_linux_buffer_params_v1.error`."""


def fourcc(code: str) -> int:
    return int.from_bytes(code.encode(), "little")


@pytest.fixture(scope="module", autouse=True)
def agent(guest_side: GuestSide) -> int:
    """The agent, with no right that its udev rules do not give it."""
    guest_side.stop_agent()
    pid = guest_side.start_agent(privileged=False)

    def dropped() -> bool:
        uid, capabilities = guest_agent.privileges(guest_side.guest, pid)
        return uid != 0 and capabilities == 0

    eventually(dropped, "the agent has no rights")
    return pid


@pytest.fixture(params=["A", "B"])
def mode(request: pytest.FixtureRequest) -> str:
    """How the proxy is to present."""
    return str(request.param)


@pytest.fixture
def proxy(proxy_slot: ProxySlot, mode: str) -> Proxy:
    """A proxy on the compositor with which it presents in that mode."""
    running = proxy_slot.use(MODES[mode])
    running.wait_no_clients()
    return running


@pytest.fixture
def on_gl(proxy_slot: ProxySlot) -> Proxy:
    """A proxy on the compositor that imports dma-bufs."""
    running = proxy_slot.use(WESTON_GL)
    running.wait_no_clients()
    return running


def make(
    client: PatternClient,
    name: str,
    width: int,
    height: int,
    exporter: str = "virtio_gpu",
    **options: Any,
) -> str:
    """Allocate a dma-buf and make a buffer of it; returns what became of that."""
    client.call("allocate", memory=name, exporter=exporter, width=width, height=height)
    planes = [{"memory": name}]
    geometry: dict[str, Any] = {"planes": planes, "width": width, "height": height}
    return str(client.call("import", buffer=name, **geometry, **options))


def locked(guest_side: GuestSide, agent: int) -> int:
    """Return the KiB that the agent keeps in place."""
    status = guest_side.guest.get(f"/proc/{agent}/status").decode()
    (line,) = [each for each in status.splitlines() if each.startswith("VmLck:")]
    return int(line.split()[1])


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_every_pixel_of_a_dmabuf_is_shown(
    proxy: Proxy, client: PatternClient, mode: str, exporter: str
) -> None:
    """An odd size in the exporter's stride; one buffer, drawn into again and again."""
    client.call("toplevel", surface="window")
    assert make(client, "one", 333, 251, exporter) == "created"
    for frame in (1, 2, 3):
        client.show("window", "one", frame)
        proxy.compositor.wait_shows(333, 251, frame)

    surface = proxy.surface()
    assert surface["mode"] == mode, surface["reason"]
    assert surface["frames"] == 3
    assert proxy.copied() == surface["bytes_copied"] == 0


@pytest.mark.parametrize("version", [3, 5])
def test_a_buffer_may_be_there_at_once(
    proxy: Proxy, client: PatternClient, mode: str, version: int
) -> None:
    client.call("toplevel", surface="window")
    for name in ("one", "two"):
        made = make(client, name, 256, 192, immediate=True, version=version)
        assert made == ""
    for frame in range(1, 5):
        client.show("window", ("one", "two")[frame % 2], frame)
        proxy.compositor.wait_shows(256, 192, frame)

    assert proxy.surface()["mode"] == mode, proxy.surface()["reason"]
    assert client.call("wait_release", buffer="two")
    assert proxy.copied() == 0


def test_the_whole_output(proxy: Proxy, client: PatternClient, mode: str) -> None:
    client.call("toplevel", surface="window")
    make(client, "one", 1024, 768)
    make(client, "two", 1024, 768, "vgem")
    for frame in range(1, 5):
        client.show("window", ("one", "two")[frame % 2], frame)
        proxy.compositor.wait_shows(1024, 768, frame)

    assert proxy.surface()["mode"] == mode, proxy.surface()["reason"]
    assert proxy.copied() == 0


@pytest.mark.parametrize(
    ("offset", "stride", "in_b"),
    [(8192, 1332, "B"), (8192 + 256, 1408, "B"), (5000, 1336, "A")],
)
def test_a_buffer_may_begin_anywhere(
    proxy: Proxy,
    client: PatternClient,
    mode: str,
    offset: int,
    stride: int,
    in_b: str,
) -> None:
    """Two in one dma-buf; where a GPU may not take an offset, it is shown in mode A."""
    width, height = 333, 200
    other = offset + stride * height
    client.call("toplevel", surface="window")
    client.call(
        "allocate", memory="m", exporter="virtio_gpu", width=stride // 4, height=420
    )
    for name, where in (("one", offset), ("two", other)):
        plane = {"memory": "m", "offset": where, "stride": stride}
        geometry: dict[str, Any] = {"width": width, "height": height}
        geometry["planes"] = [plane]
        assert client.call("import", buffer=name, **geometry) == "created"
    for frame in range(1, 5):
        client.show("window", ("one", "two")[frame % 2], frame)
        proxy.compositor.wait_shows(width, height, frame)
        if frame % 2 == 0:
            expected = "A" if mode == "A" else in_b
            assert proxy.surface()["mode"] == expected, proxy.surface()["reason"]
    assert proxy.copied() == 0


NV12 = (320, 240)


def nv12_planes(names: tuple[str, str]) -> list[dict[str, Any]]:
    width, height = NV12
    chroma = 0 if names[0] != names[1] else width * height
    return [
        {"memory": names[0], "offset": 0, "stride": width},
        {"memory": names[1], "offset": chroma, "stride": width},
    ]


def show_nv12(call: Callable[..., Any], exporter: str, names: tuple[str, str]) -> None:
    """Show a picture of noise, the same whoever shows it."""
    width, height = NV12
    if names[0] == names[1]:
        rows = {names[0]: height * 3 // 2}
    else:
        rows = {names[0]: height, names[1]: height // 2}
    call("toplevel", surface="window")
    for seed, (name, count) in enumerate(rows.items()):
        # virtio-gpu's pixels have 32 bits.
        allocation = {"memory": name, "exporter": exporter, "width": width // 4}
        call("allocate", height=count, **allocation)
        call("fill", memory=name, seed=seed)
    geometry = {"width": width, "height": height, "drm_format": "NV12"}
    # What a compositor without a device of its own has.
    planes = {"planes": nv12_planes(names), "version": 3}
    made = call("import", buffer="video", **planes, **geometry)
    assert made == "created"
    call("show", surface="window", buffer="video")


@pytest.mark.parametrize("names", [("m", "m"), ("luma", "chroma")])
def test_video_is_what_the_compositor_itself_makes_of_it(
    on_gl: Proxy, new_client: NewClient, names: tuple[str, str]
) -> None:
    """NV12 in one dma-buf, and in two: as if an app of the host had passed it."""
    compositor = on_gl.compositor

    def of_one_colour() -> bytes | None:
        shown = compositor.capture().data
        return shown if shown == shown[:4] * (len(shown) // 4) else None

    # What was shown before may still be, though its app has gone.
    empty = eventually(of_one_colour, "nothing is shown")
    direct = DmabufClient(str(compositor.display))

    def of_the_host(operation: str, **arguments: Any) -> Any:
        return direct.execute({"op": operation, **arguments})

    def changed() -> bytes | None:
        shown = compositor.capture().data
        return shown if shown != empty else None

    try:
        show_nv12(of_the_host, "udmabuf", names)
        expected = eventually(changed, "the host's own is shown")
    finally:
        direct.close()
    eventually(lambda: compositor.capture().data == empty, "it is gone")
    show_nv12(new_client().call, "virtio_gpu", names)
    eventually(lambda: compositor.capture().data == expected, "the same picture")

    assert on_gl.surface()["mode"] == "B"
    assert on_gl.copied() == 0


def test_told_to_copy_it_copies_what_is_damaged(
    proxy_slot: ProxySlot, client: PatternClient
) -> None:
    """Mode C reads a dma-buf's pages as it does a pool's."""
    proxy = proxy_slot.use(WESTON_PIXMAN, "--present", "c")
    proxy.wait_no_clients()
    began = proxy.copied()
    client.call("toplevel", surface="window")
    assert make(client, "one", 333, 251, "vgem") == "created"
    client.show("window", "one", 1)
    proxy.compositor.wait_shows(333, 251, 1)
    client.call("draw", buffer="one", frame=2)
    client.call("show", surface="window", buffer="one", damage=(0, 0, 333, 100))
    proxy.compositor.wait_shows(333, 100, 2)

    assert proxy.surface()["mode"] == "C"
    assert proxy.copied() - began == (251 + 100) * 333 * 4


def test_pools_need_no_capability_either(
    proxy: Proxy, client: PatternClient, mode: str
) -> None:
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=2 * 512 * 384 * 4, scatter=3)
    for index in (0, 1):
        client.call(
            "buffer",
            buffer=f"b{index}",
            pool="pool",
            width=512,
            height=384,
            offset=index * 512 * 384 * 4,
        )
    for frame in range(1, 7):
        client.show("window", f"b{frame % 2}", frame)
        proxy.compositor.wait_shows(512, 384, frame)

    assert proxy.surface()["mode"] == mode, proxy.surface()["reason"]
    assert proxy.copied() == 0


# ---------------------------------------------------------------- what is offered


def test_the_device_is_the_guests(
    proxy: Proxy, client: PatternClient, mode: str
) -> None:
    """And there is nothing but LINEAR, whatever version an app binds.

    What has no modifier is LINEAR, too: no driver of the guest's knows anything else.
    """
    names = {interface for _, interface, _ in client.call("connect")}
    assert "zwp_linux_dmabuf_v1" in names
    assert "wl_drm" not in names
    device = client.call("device", path="/dev/dri/renderD128")
    client.call("toplevel", surface="window")
    offer = client.call("offer")

    assert offer["main_device"] == device
    assert {fourcc("XR24"), fourcc("AR24")} <= {code for code, _ in offer["formats"]}
    assert {modifier for _, modifier in offer["formats"]} == {0, INVALID}
    (tranche,) = offer["tranches"]
    assert (tranche["device"], tranche["flags"]) == (device, 0)
    assert tranche["formats"] == offer["formats"]
    assert client.call("offer", surface="window") == offer
    assert client.call("offer", version=3)["formats"] == offer["formats"]
    # What no pool can have takes a compositor that imports dma-bufs.
    offered = fourcc("NV12") in {code for code, _ in offer["formats"]}
    assert offered == (mode == "B")


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_every_pixel_of_what_has_no_modifier(
    proxy: Proxy, client: PatternClient, mode: str, exporter: str
) -> None:
    shape = {"width": 333, "height": 251}
    client.call("toplevel", surface="window")
    client.call("allocate", memory="one", exporter=exporter, **shape)
    planes = [{"memory": "one", "modifier": INVALID}]
    made = client.call("import", buffer="one", planes=planes, version=5, **shape)
    assert made == "created"
    client.show("window", "one", 1)
    proxy.compositor.wait_shows(333, 251, 1)

    assert proxy.surface()["mode"] == mode, proxy.surface()["reason"]
    assert proxy.copied() == 0


WINDOW, SQUARE = 128, 64
CORNERS = {(0, 0): "g", (1, 0): "gr", (0, 1): "r", (1, 1): "b"}
"""What weston-simple-dmabuf-egl draws: a square, and the colours of its corners."""


def lit(pixel: bytes) -> str:
    """Say which channels of a pixel are lit, if the others are dark."""
    return "".join(
        name if value >= 240 else "" if value < 16 else "?"
        for name, value in zip("bgr", pixel[:3], strict=True)
    )


def drawn(picture: Picture) -> tuple[int, int, int, int]:
    """Return what is not black of a picture: x, y, width, height; zeros if all is."""
    black = b"\0\0\0\xff"
    rows = picture.rows(0, 0, picture.width, picture.height)
    found = [y for y, row in enumerate(rows) if row != black * picture.width]
    if not found:
        return 0, 0, 0, 0
    columns = [
        x
        for x in range(picture.width)
        if any(rows[y][x * 4 : x * 4 + 4] != black for y in found)
    ]
    width, height = columns[-1] - columns[0] + 1, found[-1] - found[0] + 1
    return columns[0], found[0], width, height


@pytest.mark.timeout(400)
def test_an_app_draws_with_mesa_into_buffers_of_gbm(
    proxy: Proxy, guest_side: GuestSide, mode: str
) -> None:
    """EGL on llvmpipe, in dumb buffers of virtio-gpu, which have no modifier.

    The first start of Mesa in a guest takes a minute and a half on a busy machine.
    """
    log = f"/run/app-gbm-{mode}.log"
    options = ("--drm-render-node=/dev/dri/card0", f"--size={WINDOW}")
    # It does not wait for what it has drawn, and of threads of llvmpipe nobody else can.
    threads = {"LP_NUM_THREADS": "0"}
    pid = guest_side.app("weston-simple-dmabuf-egl", *options, log=log, env=threads)
    try:
        guest_side.wait_app(pid, log, lambda: proxy.surfaces(2), 300)
        surface = proxy.surface()
        assert surface["mode"] == mode, surface["reason"]

        def look() -> Picture | None:
            # That a frame was taken is not that it is seen: there may be another window yet.
            picture = proxy.compositor.capture()
            picture.save(harness.OUT / f"gbm-{mode}.ppm")
            return picture if drawn(picture)[2:] == (SQUARE, SQUARE) else None

        picture = eventually(look, "the square, and nothing else", timeout=90)
        assert picture is not None
        x, y, width, height = drawn(picture)
        for (right, down), colour in CORNERS.items():
            corner = (x + right * (width - 1), y + down * (height - 1))
            (row,) = picture.rows(*corner, 1, 1)
            assert lit(row) == colour, (right, down)
        assert proxy.copied() == surface["bytes_copied"] == 0
        assert "protocol error" not in proxy.log()
    finally:
        guest_side.kill_app(pid)
    eventually(lambda: not proxy.surfaces(), "it is gone")


def test_every_pixel_of_a_texture_of_mesas_is_shown(
    proxy: Proxy, client: PatternClient, mode: str
) -> None:
    """EGL without a device: llvmpipe draws into udmabufs, and exports them."""
    client.call("toplevel", surface="window")
    for name in ("one", "two"):
        assert make(client, name, 333, 251, "llvmpipe") == "created"
    for frame in range(1, 5):
        name = ("one", "two")[frame % 2]
        client.call("render", memory=name, frame=frame)
        client.call("show", surface="window", buffer=name)
        proxy.compositor.wait_shows(333, 251, frame)

    assert proxy.surface()["mode"] == mode, proxy.surface()["reason"]
    assert proxy.copied() == 0


def test_a_format_that_was_not_offered_ends_its_app(
    proxy: Proxy, new_client: NewClient
) -> None:
    guilty = new_client()
    guilty.call("allocate", memory="m", exporter="virtio_gpu", width=64, height=64)
    geometry: dict[str, Any] = {"width": 64, "height": 64, "drm_format": "XYZ7"}
    plane = {"memory": "m"}
    error = guilty.expect_error("import", buffer="one", planes=[plane], **geometry)
    assert error.kind == "wayland"
    assert f"code {INVALID_FORMAT}" in error.text

    shows_itself(proxy, new_client())


def shows_itself(proxy: Proxy, client: PatternClient) -> None:
    client.call("toplevel", surface="window")
    assert make(client, "good", 200, 150) == "created"
    client.show("window", "good", 9)
    proxy.compositor.wait_shows(200, 150, 9)


# ---------------------------------------------------------------- what cannot be shown


@pytest.mark.parametrize("immediate", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "null"])
def test_what_is_no_memory_fails_and_its_app_lives(
    proxy: Proxy, client: PatternClient, kind: str, *, immediate: bool
) -> None:
    plane = {"kind": kind, "stride": 256}
    geometry: dict[str, Any] = {"width": 64, "height": 64, "immediate": immediate}
    assert client.call("import", buffer="bad", planes=[plane], **geometry) == "failed"

    shows_itself(proxy, client)


@pytest.mark.parametrize("immediate", [False, True])
def test_what_the_module_refuses_fails_and_its_app_lives(
    proxy: Proxy, client: PatternClient, guest_side: GuestSide, *, immediate: bool
) -> None:
    limit = "/sys/module/gem_locate/parameters/max_mb"
    before = guest_side.guest.get(limit)
    client.call("toplevel", surface="window")
    guest_side.guest.put(limit, b"1")
    try:
        made = make(client, "bad", 1024, 768, immediate=immediate)
        if immediate:  # it is located when it is shown, and handed back
            client.call("show", surface="window", buffer="bad", wait=False)
            made = client.call("outcome", buffer="bad", wait=True)
            client.call("wait_release", buffer="bad")
        assert made == "failed"
    finally:
        guest_side.guest.put(limit, before)

    assert make(client, "good", 1024, 768) == "created"
    client.show("window", "good", 4)
    proxy.compositor.wait_shows(1024, 768, 4)
    assert proxy.copied() == 0


# ---------------------------------------------------------------- lives


def test_what_is_destroyed_is_let_go(
    proxy: Proxy, client: PatternClient, guest_side: GuestSide, agent: int
) -> None:
    """Made, shown, destroyed and made anew: at the end one is kept, as at the start."""
    client.call("toplevel", surface="window")
    make(client, "b0", 300, 200)
    client.show("window", "b0", 0)
    eventually(lambda: proxy.status()["metrics"]["udmabufs_alive"] == 1, "it is alone")
    kept = locked(guest_side, agent)
    assert kept >= 300 * 200 * 4 // 1024
    for frame in range(1, 9):
        make(client, f"b{frame}", 300, 200, ("virtio_gpu", "vgem")[frame % 2])
        client.show("window", f"b{frame}", frame)
        client.call("destroy_buffer", buffer=f"b{frame - 1}")
        client.call("destroy_params", buffer=f"b{frame - 1}")
        client.call("free", memory=f"b{frame - 1}")
    proxy.compositor.wait_shows(300, 200, 8)
    eventually(lambda: proxy.status()["metrics"]["udmabufs_alive"] == 1, "one is left")
    eventually(lambda: locked(guest_side, agent) == kept, "so is one pin")
    assert proxy.copied() == 0


def test_an_app_dies_with_its_buffers_in_flight(
    proxy: Proxy, new_client: NewClient, guest_side: GuestSide, agent: int
) -> None:
    idle = locked(guest_side, agent)
    dying, other = new_client(), new_client()
    dying.call("toplevel", surface="window", fullscreen=False)
    for name in ("one", "two"):
        make(dying, name, 320, 200, immediate=True)
    dying.call("animate", surface="window", buffers=["one", "two"])
    eventually(lambda: proxy.surfaces(3), "it animates")
    make(dying, "unanswered", 512, 512, wait=False)
    dying.expect_error("exit")

    shows_itself(proxy, other)
    other.kill()
    proxy.wait_no_clients()
    eventually(
        lambda: proxy.status()["metrics"]["udmabufs_alive"] == 0, "no udmabuf is left"
    )
    eventually(lambda: locked(guest_side, agent) == idle, "no app has anything pinned")


# ---------------------------------------------------------------- fences


def test_a_frame_waits_until_it_is_drawn(
    proxy: Proxy, new_client: NewClient, mode: str
) -> None:
    """vgem's fence stands for a GPU that is still drawing.  Nobody else waits."""
    other, waiting = new_client(), new_client()
    other.call("toplevel", surface="window", title="other")
    make(other, "one", 320, 240)
    other.show("window", "one", 11)
    waiting.call("toplevel", surface="window", title="waiting")  # above the other
    for name in ("one", "two"):
        make(waiting, name, 256, 192, "vgem")
    waiting.show("window", "two", 0)
    waiting.show("window", "one", 1)

    def frames(title: str) -> int:
        (found,) = [each for each in proxy.surfaces() if each["title"].endswith(title)]
        return int(found["frames"])

    waiting.call("begin_write", memory="two")
    waiting.call("show", surface="window", buffer="two", wait=False)
    for shown in (2, 3, 4):
        other.call("show", surface="window", buffer="one", wait=False)
        other.call("roundtrip")
        assert frames("other") == shown
    proxy.compositor.wait_shows(256, 192, 1)
    assert frames("waiting") == 2
    waiting.call("draw", buffer="two", frame=2)
    waiting.call("end_write", memory="two")  # an error if the kernel gave up before
    proxy.compositor.wait_shows(256, 192, 2)
    assert frames("waiting") == 3
    assert {each["mode"] for each in proxy.surfaces()} == {mode}
    assert proxy.copied() == 0


def test_an_app_may_die_while_it_draws(
    proxy: Proxy, new_client: NewClient, guest_side: GuestSide, agent: int
) -> None:
    waiting = new_client()
    waiting.call("toplevel", surface="window")
    make(waiting, "one", 256, 192, "vgem")
    waiting.show("window", "one", 1)
    waiting.call("begin_write", memory="one")
    waiting.call("show", surface="window", buffer="one", wait=False)
    waiting.expect_error("exit")

    shows_itself(proxy, new_client())
    assert guest_side.guest.alive(agent)
