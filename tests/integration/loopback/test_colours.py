"""What an app says of its colours, and what it may not."""

import os
from typing import Any

import pytest
from pywayland.protocol.color_management_v1 import WpColorManagerV1
from pywayland.protocol.wayland import WlOutput

from tests.peers.app import App, Disconnected
from tests.peers.libwayland import Resource
from tests.peers.loopback import Loopback
from wlproxy.transport.fds import OwnedFd

SRGB, GAMMA22 = 1, 2
PROFILE = b"a measured profile" * 500


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


async def test_a_profile_in_a_file_of_the_guest_is_refused(app: App) -> None:
    manager, _ = await manager_of(app)
    app.keep(manager.create_icc_creator())

    with pytest.raises(Disconnected):
        await app.roundtrip()

    assert app.error is not None
    assert (app.error.interface, app.error.code) == (WpColorManagerV1.name, 0)


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
