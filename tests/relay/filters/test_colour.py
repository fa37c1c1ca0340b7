"""Colour management: numbers, and profiles in files of the guest's."""

import pytest

from tests.relay.playbook import Stage
from tests.relay.things import Thing
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
)
from wlproxy.relay.filters.colour import MAX_PROFILE, UNREAD
from wlproxy.relay.handles import Handle
from wlproxy.relay.inputs import FdKind, FileRead, PolicyChanged, ReceivedFd
from wlproxy.relay.policy_tree import Limits, Policy, Switch, Windows
from wlproxy.relay.wire.context import RelayConfig

ON, OFF = Switch
MIB = 1 << 20
MEMORY_DMABUF = AttachmentFlags.MEMORY_DMABUF
READS, WRITES = AttachmentFlags.HOLDER_READS, AttachmentFlags.HOLDER_WRITES
NO_FLAGS = AttachmentFlags.NONE


class Gallery(Stage):
    """An app that may describe colours by profiles."""

    def __init__(
        self,
        profiles: Switch = ON,
        limits: Limits | None = None,
        *,
        reads_files: bool = True,
    ) -> None:
        self.decided = Policy(
            windows=Windows(colour_profiles=profiles), limits=limits or Limits()
        )
        super().__init__(
            config=RelayConfig(policy=self.decided, reads_files=reads_files)
        )
        self.manager = self.plug("wp_color_manager_v1")
        self.said()

    def features(self) -> list[str]:
        """What the app is told that the compositor can do."""
        manager = self.host_thing("wp_color_manager_v1")
        for feature in (0, 1, 7):
            self.host.event(manager, "supported_feature", feature)
        self.host.event(manager, "supported_intent", 0)
        self.host.event(manager, "done")
        self.flush()
        return [line.split(".", 1)[1] for line in self.said_by("app")]

    def creator(self, size: int = 3000, offset: int = 0, length: int = 0) -> Thing:
        """Have the app say where a profile is."""
        creator = self.app.request(self.manager, "create_icc_creator")
        self.set_file(creator, self.memory(size), offset, length or size)
        return creator

    def set_file(
        self, creator: Thing, file: Attachment, offset: int, length: int
    ) -> None:
        self.app.request(creator, "set_icc_file", offset, length, attach=[file])

    def profile(self, size: int = 3000) -> Thing:
        """Have the app make an image description of a profile."""
        return self.app.request(self.creator(size), "create")

    def heard(self) -> list[str]:
        """What the compositor has heard since, without names of objects."""
        return [line.split(".", 1)[1] for line in self.said_by("host")]

    def taken(self) -> int:
        return self.relay.holdings().used["copy_bytes"]

    @property
    def error_code(self) -> tuple[str, int]:
        assert self.app.error is not None
        culprit, code, _ = self.app.error
        return self.app.things[culprit].interface.name, code


NO_PROFILES = [
    "supported_feature(1)",
    "supported_feature(7)",
    "supported_intent(0)",
    "done()",
]


def test_profiles_are_offered_where_policy_has_it_so() -> None:
    assert Gallery().features() == ["supported_feature(0)", *NO_PROFILES]


@pytest.mark.parametrize(
    ("profiles", "reads_files"), [(OFF, True), (ON, False), (OFF, False)]
)
def test_profiles_that_are_not_offered_are_an_error(
    profiles: Switch, *, reads_files: bool
) -> None:
    """By policy, or since the agent is one of earlier days."""
    play = Gallery(profiles, reads_files=reads_files)
    assert play.features() == NO_PROFILES

    play.app.request(play.manager, "create_icc_creator")

    assert play.app.error == (play.manager.id, 0, "ICC profiles are not supported")
    assert not play.heard()


def test_a_profile_is_read_once_its_description_is_asked_for() -> None:
    play = Gallery()

    creator = play.creator(size=5000, offset=1000, length=3000)
    assert play.heard() == [
        "create_icc_creator(new wp_image_description_creator_icc_v1@7)"
    ]
    play.app.request(creator, "create")
    play.host.event(play.host_thing("wp_image_description_v1"), "ready", 7)
    play.flush()

    assert [line.split(" -> ")[0] for line in play.said()] == [
        "agent: ReadMemory(1, 1, 1000+3000)",
        "shell: ReadFile(1, 3000)",
        "host: wp_image_description_creator_icc_v1@7.set_icc_file(fd 2, 0, 3000)",
        "shell: CloseHandle(2)",
        "host: wp_image_description_creator_icc_v1@7.create(new wp_image_description_v1@8)",
        "app: wp_image_description_v1@8.ready(7)",
    ]
    assert play.app.error is None


def test_requests_wait_for_a_profile_and_events_do_not() -> None:
    play = Gallery()
    play.holds_read = True
    creator = play.creator()
    play.said()

    play.app.request(creator, "create")
    play.app.request(play.surface, "commit")
    play.host.event(play.host_thing("wl_surface"), "preferred_buffer_scale", 2)
    play.flush()
    assert not play.heard()
    assert play.relay.holdings().clients[1].stalled

    play.answer_read()

    assert [line.split("(")[0] for line in play.heard()] == [
        "set_icc_file",
        "create",
        "commit",
    ]


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (AttachmentKind.OTHER, NO_FLAGS),  # a directory
        (AttachmentKind.OTHER, WRITES),  # a file that is open for writing alone
        (AttachmentKind.OTHER, READS | WRITES),  # a socket, a FIFO
        (AttachmentKind.STREAM, READS),
        (AttachmentKind.STREAM, WRITES),
        (AttachmentKind.MEMORY, MEMORY_DMABUF),
    ],
)
def test_what_is_no_file(kind: AttachmentKind, flags: AttachmentFlags) -> None:
    play = Gallery()
    creator = play.app.request(play.manager, "create_icc_creator")
    size = 4096 if kind is AttachmentKind.MEMORY else 0

    play.set_file(creator, Attachment(kind, flags, 2, size), 0, 128)

    assert play.error_code == ("wp_image_description_creator_icc_v1", 2)
    assert not any("icc_file" in line for line in play.heard())


@pytest.mark.parametrize(
    ("size", "offset", "length", "code"),
    [
        (4096, 0, 0, 3),
        (1 << 40, 0, MAX_PROFILE + 1, 3),
        (1 << 40, 0, 0xFFFFFFFF, 3),
        (4096, 0, 4097, 4),
        (4096, 4096, 1, 4),
        (4096, 0xFFFFFFFF, 128, 4),
        (0, 0, 128, 4),
    ],
)
def test_a_part_that_the_file_has_not(
    size: int, offset: int, length: int, code: int
) -> None:
    play = Gallery()
    creator = play.app.request(play.manager, "create_icc_creator")
    file = Attachment(AttachmentKind.MEMORY, NO_FLAGS, 1, size)

    play.set_file(creator, file, offset, length)

    assert play.error_code == ("wp_image_description_creator_icc_v1", code)
    assert not any("icc_file" in line for line in play.heard())


def test_the_largest_profile() -> None:
    play = Gallery()
    play.holds_read = True
    file = Attachment(AttachmentKind.MEMORY, NO_FLAGS, 1, 1 << 40)
    play.shell.open_memories.add(1)
    creator = play.app.request(play.manager, "create_icc_creator")

    play.set_file(creator, file, 0xFFFFFFFF, MAX_PROFILE)
    play.app.request(creator, "create")
    assert play.taken() == MAX_PROFILE
    play.answer_read()

    assert play.app.error is None


def test_there_is_one_profile() -> None:
    play = Gallery()
    creator = play.creator()
    play.set_file(creator, play.memory(3000), 0, 3000)
    assert play.error_code == ("wp_image_description_creator_icc_v1", 1)

    play = Gallery()
    creator = play.app.request(play.manager, "create_icc_creator")
    play.app.request(creator, "create")
    assert play.error_code == ("wp_image_description_creator_icc_v1", 0)


def test_a_profile_that_cannot_be_read_has_failed() -> None:
    """What stands for it is refused by the compositor, in its own words."""
    play = Gallery()
    play.holds_read = True
    image = play.profile()
    play.said()

    play.answer_read(whole=False)
    host_image = play.host_thing("wp_image_description_v1")
    play.host.event(host_image, "failed", 1, b"no profile")
    play.flush()

    said = play.said()
    assert "shell: CreateFile(4, 1)" in said
    assert any(line.endswith("set_icc_file(fd 4, 0, 1)") for line in said)
    assert said[-1] == f"app: wp_image_description_v1@8.failed(2, {UNREAD.decode()!r})"
    assert play.warnings() == ["a colour profile cannot be read"]
    assert not play.taken()
    play.app.request(image, "destroy")
    play.flush()
    assert play.app.error is None


def test_a_profile_that_is_none_is_for_the_compositor_to_judge() -> None:
    play = Gallery()
    play.profile()
    play.said()

    host_image = play.host_thing("wp_image_description_v1")
    play.host.event(host_image, "failed", 1, b"no profile")
    play.flush()

    assert play.said() == ["app: wp_image_description_v1@8.failed(1, 'no profile')"]


def test_policy_may_change_before_it_is_read() -> None:
    """Who was told that there are profiles is in no error, and its file stays unread."""
    play = Gallery()
    play.features()
    play.creator()
    play.run(play.relay.receive(PolicyChanged(Policy())))
    play.said()

    play.app.request(play.creator(), "create")

    said = play.said()
    assert "agent: CloseMemory(2)" in said
    assert not any("Read" in line for line in said)
    assert any(line.endswith("set_icc_file(fd 2, 0, 1)") for line in said)
    assert play.app.error is None
    assert play.features() == NO_PROFILES


def test_profiles_count_until_they_are_destroyed() -> None:
    """For what they are, and the smallest for what compositors make of it."""
    play = Gallery(limits=Limits(app_copy_bytes=4 * MIB))
    small, large = play.profile(128), play.profile(3 * MIB - 4096 * 500)
    assert play.taken() == MIB + 3 * MIB - 4096 * 500

    left = 4096 * 500 - 1
    refused = [play.profile() for _ in range(3)][left // MIB :]
    assert len(play.warnings()) == len(refused) == 2
    assert "one too many" in play.warnings()[0]

    for each in (small, large):
        play.app.request(each, "destroy")
    play.flush()
    assert play.taken() == MIB
    play.profile()
    assert len(play.warnings()) == 2
    assert play.app.error is None


def test_thousands_of_creators_have_nothing_read() -> None:
    play = Gallery()
    for _ in range(2000):
        creator = play.app.request(play.manager, "create_icc_creator")
        play.set_file(
            creator, Attachment(AttachmentKind.MEMORY, NO_FLAGS, 1, 99), 0, 99
        )

    assert not play.taken()
    assert not any("ReadFile" in line for line in play.said())
    assert play.app.error is None


@pytest.mark.parametrize("whole", [True, False])
def test_an_app_that_leaves_while_its_profile_is_read(*, whole: bool) -> None:
    play = Gallery()
    play.holds_read = True
    play.profile()
    (command,) = play.reads

    play.leave()

    assert not play.relay.receive(FileRead(1, command.handle, whole))
    assert not play.taken()


def test_an_answer_that_nobody_waits_for() -> None:
    play = Gallery()

    assert not play.relay.receive(FileRead(1, Handle(98), whole=True))
    assert play.app.error is None


def test_a_surface_says_what_its_colours_mean() -> None:
    play = Gallery(OFF)

    surface = play.app.request(play.manager, "get_surface", play.surface.id)
    creator = play.app.request(play.manager, "create_parametric_creator")
    play.app.request(creator, "set_tf_named", 2)
    play.app.request(creator, "set_primaries_named", 1)
    image = play.app.request(creator, "create")
    play.app.request(surface, "set_image_description", image.id, 0)
    play.app.request(image, "destroy")

    assert [line.split("(")[0] for line in play.heard()] == [
        "get_surface",
        "create_parametric_creator",
        "set_tf_named",
        "set_primaries_named",
        "create",
        "set_image_description",
        "destroy",
    ]
    assert play.app.error is None


def test_a_description_by_numbers_that_fails() -> None:
    play = Gallery(OFF)
    creator = play.app.request(play.manager, "create_parametric_creator")
    play.app.request(creator, "create")
    play.said()

    host_image = play.host_thing("wp_image_description_v1")
    play.host.event(host_image, "failed", 1, b"no")
    play.flush()

    assert play.said() == ["app: wp_image_description_v1@8.failed(1, 'no')"]


def test_a_profile_of_the_hosts_goes_to_the_guest_as_a_file() -> None:
    play = Gallery(OFF)
    feedback = play.app.request(play.manager, "get_surface_feedback", play.surface.id)
    image = play.app.request(feedback, "get_preferred")
    play.app.request(image, "get_information")
    told = play.host_thing("wp_image_description_info_v1")
    profile = ReceivedFd(Handle(1), FdKind.FILE, 3000)

    play.host.event(told, "icc_file", 3000, fds=[profile])
    play.flush()

    [attachment] = play.app.received
    assert (attachment.kind, attachment.size) == (AttachmentKind.FILE, 3000)
