"""Colour management: described by numbers, not by files."""

from tests.relay.playbook import Stage
from wlproxy.protocol.channel.frames import AttachmentKind
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FdKind, ReceivedFd


def test_profiles_are_not_offered() -> None:
    play = Stage()
    play.plug("wp_color_manager_v1")
    manager = play.host_thing("wp_color_manager_v1")
    play.said()

    for feature in (0, 1, 7):
        play.host.event(manager, "supported_feature", feature)
    play.host.event(manager, "supported_intent", 0)
    play.host.event(manager, "done")
    play.flush()

    assert [line.split(".", 1)[1] for line in play.said_by("app")] == [
        "supported_feature(1)",
        "supported_feature(7)",
        "supported_intent(0)",
        "done()",
    ]


def test_who_uses_them_all_the_same_is_in_error() -> None:
    play = Stage()
    manager = play.plug("wp_color_manager_v1")
    play.said()

    play.app.request(manager, "create_icc_creator")

    assert play.app.error == (manager.id, 0, "ICC profiles are not supported")
    assert not [line for line in play.said_by("host") if "icc" in line]


def test_a_surface_says_what_its_colours_mean() -> None:
    play = Stage()
    manager = play.plug("wp_color_manager_v1")
    play.said()

    surface = play.app.request(manager, "get_surface", play.surface.id)
    creator = play.app.request(manager, "create_parametric_creator")
    play.app.request(creator, "set_tf_named", 2)
    play.app.request(creator, "set_primaries_named", 1)
    image = play.app.request(creator, "create")
    play.app.request(surface, "set_image_description", image.id, 0)

    assert [line.split(".", 1)[1].split("(")[0] for line in play.said_by("host")] == [
        "get_surface",
        "create_parametric_creator",
        "set_tf_named",
        "set_primaries_named",
        "create",
        "set_image_description",
    ]
    assert play.app.error is None


def test_a_profile_of_the_hosts_goes_to_the_guest_as_a_file() -> None:
    play = Stage()
    manager = play.plug("wp_color_manager_v1")
    feedback = play.app.request(manager, "get_surface_feedback", play.surface.id)
    image = play.app.request(feedback, "get_preferred")
    play.app.request(image, "get_information")
    told = play.host_thing("wp_image_description_info_v1")
    profile = ReceivedFd(Handle(1), FdKind.FILE, 3000)

    play.host.event(told, "icc_file", 3000, fds=[profile])
    play.flush()

    [attachment] = play.app.received
    assert (attachment.kind, attachment.size) == (AttachmentKind.FILE, 3000)
