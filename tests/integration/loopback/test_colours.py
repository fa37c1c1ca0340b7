"""What an app says of its colours, by numbers and by profiles of its own."""

import fcntl
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pywayland.protocol.color_management_v1 import WpColorManagerV1
from pywayland.protocol.wayland import WlOutput

from tests.guest_agent.hung_fuse import HungFile
from tests.integration.loopback.test_registry import (
    BOUND,
    REGISTRY,
    message,
    string,
)
from tests.peers.app import App, Disconnected
from tests.peers.libwayland import Resource
from tests.peers.loopback import Loopback
from wlproxy.relay.filters.colour import NO_PROFILE, UNREAD
from wlproxy.relay.policy_tree import Policy, Switch, Windows
from wlproxy.transport.fds import OwnedFd
from wlproxy_guest import workers

SRGB, GAMMA22 = 1, 2
PROFILE = b"a measured profile" * 500
MIB = 1 << 20
UNSUPPORTED, OPERATING_SYSTEM = 1, 2
WITH_PROFILES = Policy(windows=Windows(colour_profiles=Switch.ON))
CREATE = "wp_color_manager_v1.create_icc_creator"
CREATOR = "wp_image_description_creator_icc_v1"
ALL_SEALS = (
    fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
)


def introduce(manager: Resource) -> None:
    for feature in range(4):
        manager.send("supported_feature", feature)
    manager.send("done")


@pytest.fixture
async def app(loopback: Loopback) -> App:
    compositor = loopback.compositor
    compositor.add_global(WpColorManagerV1, 1, introduce)
    app = await loopback.app()
    await app.until(lambda: WpColorManagerV1.name in app.interfaces)
    return app


async def manager_of(app: App) -> tuple[Any, list[tuple[int, ...]]]:
    manager = app.bind(WpColorManagerV1)
    features = app.record(manager, "supported_feature")
    await app.roundtrip()
    return manager, features


async def test_an_app_describes_its_colours_by_numbers(
    loopback: Loopback, app: App
) -> None:
    manager, features = await manager_of(app)
    window = await app.window()
    creator = manager.create_parametric_creator()
    creator.set_tf_named(GAMMA22)
    creator.set_primaries_named(SRGB)
    image = app.keep(creator.create())
    ready = app.record(image, "ready")
    await app.roundtrip()
    [made] = loopback.compositor.called("wp_image_description_creator_params_v1.create")
    made.args[0].send("ready", 7)
    surface = app.keep(manager.get_surface(window.surface))
    surface.set_image_description(image, 0)
    await app.roundtrip()

    assert features == [(1,), (2,), (3,)]
    assert ready == [(7,)]
    [said] = loopback.compositor.called(
        "wp_color_management_surface_v1.set_image_description"
    )
    assert said.args == (made.args[0], 0)


async def test_a_profile_in_a_file_of_the_guest_is_refused_unless_policy_has_it_so(
    loopback: Loopback, app: App
) -> None:
    manager, features = await manager_of(app)
    app.keep(manager.create_icc_creator())

    with pytest.raises(Disconnected):
        await app.roundtrip()

    assert features == [(1,), (2,), (3,)]
    assert app.error is not None
    assert (app.error.interface, app.error.code) == (WpColorManagerV1.name, 0)
    assert not loopback.compositor.called("wp_color_manager_v1.create_icc_creator")


class Gallery:
    """An app whose profiles the compositor is given, and looks at."""

    def __init__(self, loopback: Loopback, app: App, manager: Any) -> None:
        self.app = app
        self.manager = manager
        self.profiles: list[tuple[bytes, int]] = []
        """What the compositor was given: the bytes that count, and seals of the file."""
        self.images: list[Resource] = []
        self.events: list[tuple[Any, ...]] = []
        compositor = loopback.compositor
        compositor.handlers[CREATOR, "set_icc_file"] = self._look
        compositor.handlers[CREATOR, "create"] = self._judge

    def _look(self, _creator: Resource, number: int, offset: int, length: int) -> None:
        with OwnedFd(number) as fd:
            contents = os.pread(fd.fileno(), length + 1, offset)
            seals = fcntl.fcntl(fd.fileno(), fcntl.F_GET_SEALS)
        assert len(contents) == length, "no more than that is in it"
        self.profiles.append((contents, seals))

    def _judge(self, _creator: Resource, image: Resource) -> None:
        self.images.append(image)
        if len(self.profiles[-1][0]) < 128:
            image.send("failed", UNSUPPORTED, "no profile")
        else:
            image.send("ready", len(self.profiles))

    def describe(self, fd: int, offset: int, length: int) -> Any:
        """Say where a profile is, and ask for its description."""
        creator = self.app.keep(self.manager.create_icc_creator())
        creator.set_icc_file(fd, offset, length)
        image = self.app.keep(creator.create())
        self.events = self.app.record(image, "ready", "failed")
        return image

    async def refused(self) -> int:
        """Wait for the error that ends the app, and return its code."""
        with pytest.raises(Disconnected):
            await self.app.roundtrip()
        assert self.app.error is not None
        assert not self.profiles
        return self.app.error.code


@pytest.fixture
async def galleries(bare: Loopback) -> Loopback:
    """Everything runs, and apps may have profiles."""
    await bare.start_compositor()
    bare.compositor.add_global(WpColorManagerV1, 1, introduce)
    await bare.start_agent()
    await bare.start_host(policy=WITH_PROFILES)
    return bare


@pytest.fixture
async def gallery(galleries: Loopback) -> Gallery:
    app = await galleries.app()
    await app.until(lambda: WpColorManagerV1.name in app.interfaces)
    manager, features = await manager_of(app)
    assert features == [(0,), (1,), (2,), (3,)]
    return Gallery(galleries, app, manager)


def memfd(contents: bytes) -> OwnedFd:
    fd = OwnedFd(os.memfd_create("icc", os.MFD_CLOEXEC))
    os.write(fd.fileno(), contents)
    return fd


@pytest.mark.parametrize("in_memory", [True, False])
async def test_a_profile_of_the_guests_reaches_the_compositor_sealed(
    gallery: Gallery, tmp_path: Path, *, in_memory: bool
) -> None:
    path = tmp_path / "profile.icc"
    path.write_bytes(b"before" + PROFILE + b"after")
    fd = (
        memfd(path.read_bytes())
        if in_memory
        else OwnedFd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    )
    with fd:
        gallery.describe(fd.fileno(), 6, len(PROFILE))
        await gallery.app.roundtrip()

    assert gallery.profiles == [(PROFILE, ALL_SEALS)]
    assert gallery.events == [(1,)]


async def test_the_largest_profile_is_copied_once(
    galleries: Loopback, gallery: Gallery
) -> None:
    size = 32 * MIB
    with memfd(PROFILE) as fd:
        os.ftruncate(fd.fileno(), size)
        image = gallery.describe(fd.fileno(), 0, size)
        await gallery.app.roundtrip()

    [(contents, _)] = gallery.profiles
    assert contents == PROFILE.ljust(size, b"\0")
    assert gallery.events == [(1,)]
    assert galleries.status()["metrics"]["pixel_bytes_copied"] == 0
    image.destroy()
    await gallery.app.roundtrip()
    assert gallery.app.error is None


async def test_many_profiles_and_what_is_drawn_between_them(gallery: Gallery) -> None:
    """Each is read in its turn, and the app's own order stays."""
    with memfd(PROFILE) as fd:
        for number in range(1, 41):
            gallery.describe(fd.fileno(), number, 500).destroy()
        await gallery.app.roundtrip()

    assert [contents for contents, _ in gallery.profiles] == [
        PROFILE[number : number + 500] for number in range(1, 41)
    ]
    assert gallery.app.error is None
    assert not any(image.alive for image in gallery.images)


@pytest.mark.parametrize("size", [100, 0])
async def test_a_file_that_shrinks_before_it_is_read(
    gallery: Gallery, size: int
) -> None:
    """The app is told that it has failed, and lives on."""
    with memfd(PROFILE) as fd:
        creator = gallery.app.keep(gallery.manager.create_icc_creator())
        creator.set_icc_file(fd.fileno(), 0, len(PROFILE))
        await gallery.app.roundtrip()
        os.ftruncate(fd.fileno(), size)
        events = gallery.app.record(gallery.app.keep(creator.create()), "failed")
        await gallery.app.roundtrip()
        gallery.describe(fd.fileno(), 0, size or 1)
        if size:
            await gallery.app.roundtrip()

    [(cause, why)] = events
    assert (cause, why) == (OPERATING_SYSTEM, UNREAD.decode())
    assert gallery.profiles[0][0] == NO_PROFILE, "nothing of the app's"


async def test_a_file_of_a_server_that_hangs(
    galleries: Loopback,
    gallery: Gallery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own app waits, and nobody else; the app can still leave."""
    monkeypatch.setattr(workers, "LAST_MOMENT", 0)
    number, _ = gallery.app.find(WpColorManagerV1.name)
    creator, image = BOUND + 1, BOUND + 2
    said = (
        message(1, 1, struct.pack("=I", REGISTRY))
        + message(
            REGISTRY,
            0,
            struct.pack("=I", number)
            + string(WpColorManagerV1.name)
            + struct.pack("=II", 1, BOUND),
        )
        + message(BOUND, 4, struct.pack("=I", creator))
        + message(creator, 1, struct.pack("=II", 0, 128))
        + message(creator, 0, struct.pack("=I", image))
    )
    # Not by libwayland, which would hang when it closes its copy of the fd.
    with HungFile(tmp_path) as file:
        hasty = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        hasty.connect(str(galleries.display))
        socket.send_fds(hasty, [said], [file.fd])
        await galleries.until(lambda: galleries.compositor.called(CREATE))
        with memfd(PROFILE) as fd:
            gallery.describe(fd.fileno(), 0, len(PROFILE))
            await gallery.app.roundtrip()
        assert gallery.events == [(1,)]
        assert galleries.clients() == 2

        hasty.close()
        await galleries.until(lambda: galleries.clients() == 1)

    assert gallery.profiles == [(PROFILE, ALL_SEALS)]


async def test_an_app_leaves_while_its_profile_is_read(
    galleries: Loopback, gallery: Gallery
) -> None:
    with memfd(bytes(32 * MIB)) as fd:
        gallery.describe(fd.fileno(), 0, 32 * MIB)
        gallery.app.display.flush()
        await galleries.until(lambda: galleries.compositor.called(CREATE))
        gallery.app.close()

    await galleries.quiet()
    assert not gallery.profiles
    assert galleries.status()["metrics"]["open_fds"] == 0


BAD_FD, BAD_SIZE, OUT_OF_FILE = 2, 3, 4


@pytest.mark.parametrize(
    ("offset", "length", "code"),
    [
        (0, 0, BAD_SIZE),
        (0, 32 * MIB + 1, BAD_SIZE),
        (0xFFFFFFFF, 0xFFFFFFFF, BAD_SIZE),
        (0, len(PROFILE) + 1, OUT_OF_FILE),
        (len(PROFILE), 1, OUT_OF_FILE),
        (0xFFFFFFFF, 128, OUT_OF_FILE),
    ],
)
async def test_what_a_file_has_not(
    gallery: Gallery, offset: int, length: int, code: int
) -> None:
    with memfd(PROFILE) as fd:
        gallery.describe(fd.fileno(), offset, length)
        assert await gallery.refused() == code


def a_fifo(path: Path) -> int:
    os.mkfifo(path / "fifo")
    return os.open(path / "fifo", os.O_RDWR | os.O_CLOEXEC)


def a_pipe(_path: Path) -> int:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.close(writer)
    return reader


def a_socket(_path: Path) -> int:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach()


def a_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def a_device(_path: Path) -> int:
    return os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)


def a_file_to_write(path: Path) -> int:
    (path / "profile").write_bytes(PROFILE)
    return os.open(path / "profile", os.O_WRONLY | os.O_CLOEXEC)


@pytest.mark.parametrize(
    "make", [a_fifo, a_pipe, a_socket, a_directory, a_device, a_file_to_write]
)
async def test_what_is_no_file(
    galleries: Loopback,
    gallery: Gallery,
    tmp_path: Path,
    make: Callable[[Path], int],
) -> None:
    other = await galleries.app()
    with OwnedFd(make(tmp_path)) as fd:
        gallery.describe(fd.fileno(), 0, 128)
        assert await gallery.refused() == BAD_FD
    await other.roundtrip()


async def test_thousands_of_creators(galleries: Loopback, gallery: Gallery) -> None:
    """Nothing is read for them, and no fd of the host's is held."""
    before = len(os.listdir("/proc/self/fd"))
    with memfd(PROFILE) as fd:
        for number in range(1, 2001):
            creator = gallery.app.keep(gallery.manager.create_icc_creator())
            creator.set_icc_file(fd.fileno(), 0, len(PROFILE))
            if not number % 100:
                await gallery.app.roundtrip()
        held = len(os.listdir("/proc/self/fd")) - before
        events = gallery.app.record(gallery.app.keep(creator.create()), "ready")
        await gallery.app.roundtrip()

    # The agent, which is this process, too, keeps some of the app's; see its quotas.
    assert held <= 2000 + 10
    assert len(gallery.profiles) == len(events) == 1
    assert galleries.status()["metrics"]["open_fds"] == 0


async def test_a_profile_of_the_hosts_arrives_as_a_file(
    loopback: Loopback, app: App
) -> None:
    manager, _ = await manager_of(app)
    output = app.keep(manager.get_output(app.bind(WlOutput)))
    image = app.keep(output.get_image_description())
    information = app.keep(image.get_information())
    told = app.record(information, "icc_file")
    await app.roundtrip()
    [asked] = loopback.compositor.called("wp_image_description_v1.get_information")

    with OwnedFd(os.memfd_create("icc", os.MFD_CLOEXEC)) as profile:
        os.write(profile.fileno(), PROFILE)
        asked.args[0].send("icc_file", profile.fileno(), len(PROFILE))
    await app.until(lambda: bool(told))

    [(number, size)] = told
    with OwnedFd(number) as received:
        assert size == len(PROFILE)
        assert os.pread(received.fileno(), size + 1, 0) == PROFILE
