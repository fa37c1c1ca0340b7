"""`wl_shm` and its pools: the errors are libwayland's, and all else costs nothing."""

import pytest

from tests.relay.compositor import FORMATS
from tests.relay.playbook import Playbook, Stage
from tests.relay.shell import PAGE
from wlproxy.protocol.channel.frames import (
    Attachment,
    AttachmentFlags,
    AttachmentKind,
)


def test_a_format_that_was_not_offered() -> None:
    play = Stage()
    pool = play.pool(play.shm, PAGE)

    play.buffer(pool, 0, 8, 8, 32, 0x34325259)

    assert play.app.error == (pool.id, 0, "invalid format 0x34325259")


def test_a_format_whose_offer_the_app_did_not_wait_for() -> None:
    play = Playbook()
    play.deliver = False
    pool = play.pool(play.app.bind("wl_shm"), PAGE)

    play.buffer(pool, 0, 8, 8, 32, 0x3231564E)
    play.flush()

    assert play.app.error is None


@pytest.mark.parametrize("size", [0, -1, -(1 << 31)])
def test_a_pool_without_a_size(size: int) -> None:
    play = Stage()

    play.app.request(play.shm, "create_pool", size, attach=[play.memory(PAGE)])

    assert play.app.error == (play.shm.id, 1, f"invalid size ({size})")


@pytest.mark.parametrize(
    "attachment",
    [
        Attachment(AttachmentKind.OTHER, AttachmentFlags.NONE, 1, 0),
        Attachment(AttachmentKind.STREAM, AttachmentFlags.HOLDER_READS, 2, 0),
    ],
)
def test_a_pool_of_what_is_no_memory(attachment: Attachment) -> None:
    play = Stage()

    play.app.request(play.shm, "create_pool", PAGE, attach=[attachment])

    assert play.app.error is not None
    assert play.app.error[:2] == (play.shm.id, 2)


def test_a_pool_without_an_fd() -> None:
    play = Stage()

    play.app.request(play.shm, "create_pool", PAGE)

    assert play.app.error == (
        *(1, 1),
        "wl_shm.create_pool: 1 fds needed, 0 received",
    )


@pytest.mark.parametrize(
    ("offset", "width", "height", "stride", "fmt"),
    [
        (-4, 8, 8, 32, 0),
        (0, 0, 8, 32, 0),
        (0, -1, 8, 32, 0),
        (0, 8, 0, 32, 0),
        (0, 8, -8, 32, 0),
        (0, 8, 8, 7, 0),
        (0, 8, 8, 31, 0),  # shorter than a row of pixels
        (0, 8, 8, -32, 0),
        (0, 8, 1 << 27, 32, 0),
        (0, 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF, 0x20203852),
        (PAGE, 8, 8, 32, 0),
        (PAGE - 255, 8, 8, 32, 0),
        (0x7FFFFFFF, 8, 8, 32, 0),
    ],
)
def test_a_buffer_that_is_not_in_its_pool(
    offset: int, width: int, height: int, stride: int, fmt: int
) -> None:
    play = Stage()
    pool = play.pool(play.shm, PAGE)

    play.buffer(pool, offset, width, height, stride, fmt)

    assert play.app.error == (
        *(pool.id, 1),
        f"invalid width, height or stride ({width}x{height}, {stride})",
    )


def test_a_buffer_that_just_fits() -> None:
    play = Stage()
    pool = play.pool(play.shm, PAGE)

    play.buffer(pool, PAGE - 256, 8, 8, 32)

    assert play.app.error is None


def test_a_pool_grows() -> None:
    play = Stage()
    pool = play.pool(play.shm, PAGE)
    before = play.buffer(pool, 0, 8, 8, 32)
    memory = play.shell.files[1]
    memory.extend(play.shell.files[play.memory(2 * PAGE).object_id])
    play.app.request(pool, "resize", 3 * PAGE)
    after = play.buffer(pool, PAGE + 128, 32, 32, 128)

    for byte, buffer in enumerate((before, after, before), 1):
        play.paint(buffer, byte)
        play.show(play.surface, buffer)
        assert play.host_pixels() == play.pixels(buffer)


def test_a_pool_does_not_shrink() -> None:
    play = Stage()
    pool = play.pool(play.shm, PAGE)
    play.app.request(pool, "resize", PAGE)

    play.app.request(pool, "resize", PAGE - 1)

    assert play.app.error == (pool.id, 2, "shrinking pool invalid")


def test_a_pool_that_is_gone() -> None:
    play = Stage()
    pool = play.pool(play.shm, PAGE)
    play.app.request(pool, "destroy")

    play.send(pool_destroy := bytes([pool.id, 0, 0, 0, 1, 0, 8, 0]))

    assert pool_destroy
    assert play.app.error == (1, 0, f"invalid object {pool.id}")


def test_formats_are_the_hosts() -> None:
    play = Stage()
    assert play.app.bind("wl_shm") is not play.shm

    assert play.said_by("app") == [f"wl_shm@6.format({each})" for each in FORMATS]
