from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.screen.fake_qemu import (
    AR24,
    XR24,
    XRGB,
    FakeFile,
    Heard,
    call,
    scanout,
    scanout_dmabuf,
    scanout_dmabuf2,
    scanout_map,
    update,
    update_dmabuf,
    update_map,
)
from tests.strategies import chunked
from wlproxy.protocol.dbus.connection import PROPERTIES, UNKNOWN_METHOD
from wlproxy.protocol.dbus.messages import MAX_WAITING_FDS, MessageKind
from wlproxy.protocol.dbus.values import Variant
from wlproxy.protocol.errors import DBusError
from wlproxy.screen import display
from wlproxy.screen.commands import (
    Command,
    Cursor,
    CursorVisible,
    Damage,
    FileKind,
    Layout,
    Plane,
    Rectangle,
    Refused,
    ShowBytes,
    ShowDmabuf,
    ShowMap,
    UpdateBytes,
    files_of,
)
from wlproxy.screen.display import (
    DMABUF2,
    MAPS,
    MAX_OWED,
    MAX_REFUSALS,
    UPDATE_DMABUF,
    Display,
)
from wlproxy.screen.doorman import LISTENER

Sent = tuple[bytes, list[Any]]


class Stage:
    """A display, and QEMU that calls it."""

    def __init__(self, *importable: tuple[int, int]) -> None:
        self.display = Display(importable=importable)
        self.heard = Heard()

    def answered(self, sent: Sent) -> tuple[list[Command], MessageKind]:
        """What a call is to do, and what it is answered."""
        commands = self.display.receive(*sent)
        self.display.answer_updates()  # as if it were seen at once
        (answer,) = self.heard(self.display.take_answers())
        assert answer.fields.reply_to == 1
        return commands, answer.kind

    def refusal(self, sent: Sent) -> str:
        """Why a call is refused."""
        commands, answer = self.answered(sent)
        assert answer is MessageKind.ERROR
        (refused,) = commands
        assert isinstance(refused, Refused)
        return refused.why


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_who_we_are_is_answered_at_once(stage: Stage) -> None:
    stage.display.receive(*call(PROPERTIES, "GetAll", "s", LISTENER))
    (answer,) = stage.heard(stage.display.take_answers())
    assert answer.body == ({"Interfaces": Variant("as", [MAPS, DMABUF2])},)


def test_other_properties_are_none(stage: Stage) -> None:
    stage.display.receive(*call(PROPERTIES, "GetAll", "s", "a.b"))
    (answer,) = stage.heard(stage.display.take_answers())
    assert answer.body == ({},)
    stage.display.receive(*call(PROPERTIES, "Get", "ss", "a.b", "C"))
    (answer,) = stage.heard(stage.display.take_answers())
    assert answer.kind is MessageKind.ERROR


def test_a_map_is_shown(stage: Stage) -> None:
    file = FakeFile(size=2560 * 480)
    commands, answer = stage.answered(scanout_map(file))
    assert commands == [ShowMap(file, Layout(640, 480, 2560, 1))]
    assert answer is MessageKind.METHOD_RETURN
    assert not file.closed


def test_a_dma_buf_may_be_a_map(stage: Stage) -> None:
    file = FakeFile(FileKind.DMABUF)
    commands, _ = stage.answered(scanout_map(file))
    layout = Layout(640, 480, 2560, 1)
    assert commands == [ShowDmabuf((Plane(file, 0, 2560),), layout, 0)]


@pytest.mark.parametrize(
    ("file", "changed", "why"),
    [
        (FakeFile(FileKind.OTHER), {}, "neither a memfd"),
        (FakeFile(size=2560 * 480 - 1), {}, "a file of"),
        (FakeFile(size=2560 * 480), {"offset": 4}, "a file of"),
        (FakeFile(), {"width": 0}, "a picture of"),
        (FakeFile(), {"height": 0}, "a picture of"),
        (FakeFile(), {"stride": 0}, "a picture of"),
        (FakeFile(), {"stride": 2556}, "a picture of"),
        (FakeFile(), {"stride": 2561}, "no pool"),
        (FakeFile(), {"offset": 2}, "no pool"),
        (FakeFile(), {"width": 16385, "stride": 1 << 20}, "a picture of"),
        (FakeFile(), {"height": 0xFFFFFFFF}, "a picture of"),
        (FakeFile(size=1 << 40), {"stride": 0xFFFFFFFC}, "no pool"),
        (FakeFile(size=1 << 40), {"offset": 0xFFFFFFFC}, "no pool"),
        (FakeFile(), {"pixman": 0}, "format"),
        (FakeFile(), {"pixman": 0x20030888}, "format"),
    ],
)
def test_maps_that_are_refused(
    stage: Stage, file: FakeFile, changed: dict[str, int], why: str
) -> None:
    file.closed = False
    assert why in stage.refusal(scanout_map(file, **changed))
    assert file.closed


TILED = 0x0100000000000002
"""DRM_FORMAT_MOD: Intel's Y tiling."""


def dmabuf(size: int = 2560 * 480) -> FakeFile:
    return FakeFile(FileKind.DMABUF, size)


@pytest.mark.parametrize("fourcc", [XR24, AR24])
def test_a_dma_buf_is_shown_without_its_alpha(stage: Stage, fourcc: int) -> None:
    file = dmabuf()
    commands, answer = stage.answered(scanout_dmabuf(file, fourcc=fourcc))
    plane, layout = Plane(file, 0, 2560), Layout(640, 480, 2560, 1)
    assert commands == [ShowDmabuf((plane,), layout, 0)]
    assert answer is MessageKind.METHOD_RETURN
    assert not file.closed


def test_a_compositor_may_import_no_format_without_alpha() -> None:
    stage = Stage((AR24, TILED))
    sent = scanout_dmabuf(dmabuf(), fourcc=AR24, modifier=TILED)
    commands, _ = stage.answered(sent)
    assert isinstance(commands[0], ShowDmabuf)
    assert (commands[0].layout.shm_format, commands[0].modifier) == (0, TILED)


@pytest.mark.parametrize(
    ("file", "changed", "why"),
    [
        (FakeFile(), {}, "no dma-buf"),  # a memfd
        (FakeFile(FileKind.OTHER), {}, "no dma-buf"),
        (dmabuf(2560 * 480 - 1), {}, "a dma-buf of 1228799"),
        (dmabuf(0), {}, "a dma-buf of 0"),
        (dmabuf(), {"width": 0}, "a picture of"),
        (dmabuf(), {"height": 0}, "a picture of"),
        (dmabuf(), {"stride": 0}, "a picture of"),
        (dmabuf(), {"stride": 2556}, "a picture of"),
        (dmabuf(), {"stride": 2562}, "no pool"),
        (dmabuf(1 << 60), {"height": 0xFFFFFFFF}, "a picture of"),
        (dmabuf(1 << 60), {"stride": 0xFFFFFFFC}, "no pool"),
        (dmabuf(), {"fourcc": 0}, "format 0x0"),
        (dmabuf(), {"fourcc": 0x3231564E}, "format 0x3231564e"),  # NV12
        (dmabuf(), {"modifier": TILED}, "modifier 0x100000000000002"),
        (dmabuf(), {"modifier": (1 << 56) - 1}, "modifier"),  # none that is known
    ],
)
def test_dma_bufs_that_are_refused(
    stage: Stage, file: FakeFile, changed: dict[str, int], why: str
) -> None:
    file.closed = False
    assert why in stage.refusal(scanout_dmabuf(file, **changed))  # type: ignore[arg-type]
    assert file.closed
    assert stage.answered(update_dmabuf(0, 0, 1, 1))[0] == []


def test_tiled_dma_bufs_are_for_those_who_import_them() -> None:
    stage = Stage((XR24, TILED))
    file = dmabuf()
    commands, _ = stage.answered(scanout_dmabuf(file, modifier=TILED))
    assert isinstance(commands[0], ShowDmabuf)
    short = dmabuf(2560 * 480 - 1)
    assert "a dma-buf of" in stage.refusal(scanout_dmabuf(short, modifier=TILED))
    wide = scanout_dmabuf(dmabuf(), width=16385, modifier=TILED)
    assert "a picture" in stage.refusal(wide)
    assert "a dma-buf of" in stage.refusal(
        scanout_dmabuf(dmabuf(), stride=0, modifier=TILED)
    )


def test_updates_are_answered_when_they_are_seen(stage: Stage) -> None:
    stage.answered(scanout_dmabuf(dmabuf()))
    for serial in range(2, 2 + MAX_OWED):
        sent = call(LISTENER, UPDATE_DMABUF, "iiii", 0, 0, 1, 1, serial=serial)
        assert len(stage.display.receive(*sent)) == 1
        assert stage.display.owes
        assert not stage.display.take_answers()
    stage.display.receive(*update_dmabuf(0, 0, 1, 1))  # one too many to wait
    assert stage.heard(stage.display.take_answers())
    stage.display.answer_updates()
    answers = stage.heard(stage.display.take_answers())
    assert [each.fields.reply_to for each in answers] == [*range(2, 2 + MAX_OWED)]
    assert not stage.display.owes


def test_flipped_damage_is_in_the_order_of_the_rows(stage: Stage) -> None:
    stage.answered(scanout_dmabuf(dmabuf()))
    commands, _ = stage.answered(update_dmabuf(3, 10, 20, 30))
    assert commands == [Damage(Rectangle(3, 10, 20, 30))]
    (command,), _ = stage.answered(scanout_dmabuf(dmabuf(), y0_top=True))
    assert isinstance(command, ShowDmabuf)
    assert command.flipped
    commands, _ = stage.answered(update_dmabuf(3, 10, 20, 30))
    assert commands == [Damage(Rectangle(3, 440, 20, 30))]


WHOLE = 640, 480


def test_newer_qemus_tell_of_offsets(stage: Stage) -> None:
    file = dmabuf(2560 * 480 + 4096)
    sent = scanout_dmabuf2([file], (0, 0, *WHOLE), WHOLE, [4096], [2560])
    commands, _ = stage.answered(sent)
    layout = Layout(640, 480, 2560, 1, 4096)
    assert commands == [ShowDmabuf((Plane(file, 4096, 2560),), layout, 0)]
    short = dmabuf(2560 * 480 + 4095)
    sent = scanout_dmabuf2([short], (0, 0, *WHOLE), WHOLE, [4096], [2560])
    assert "a dma-buf of" in stage.refusal(sent)


@pytest.mark.parametrize(("y0_top", "row"), [(False, 20), (True, 480 - 20 - 100)])
def test_a_part_of_a_dma_buf(stage: Stage, row: int, *, y0_top: bool) -> None:
    part = 8, 20, 300, 100
    sent = scanout_dmabuf2([dmabuf()], part, WHOLE, [0], [2560], y0_top=y0_top)
    (command,), _ = stage.answered(sent)
    assert isinstance(command, ShowDmabuf)
    assert command.layout == Layout(300, 100, 2560, 1, row * 2560 + 8 * 4)


def test_planes_may_share_a_file() -> None:
    stage = Stage((XR24, TILED))
    one, two = dmabuf(), dmabuf()
    places = [0, 64, 128], [2560, 64, 64]
    sent = scanout_dmabuf2([one, two], (0, 0, *WHOLE), WHOLE, *places, modifier=TILED)
    (command,), _ = stage.answered(sent)
    assert isinstance(command, ShowDmabuf)
    planes = Plane(one, 0, 2560), Plane(two, 64, 64), Plane(two, 128, 64)
    assert command.planes == planes
    assert not one.closed | two.closed


@pytest.mark.parametrize(
    ("files", "part", "places", "modifier", "count", "why"),
    [
        (0, (0, 0, *WHOLE), ([0], [2560]), 0, 1, "0 fds"),
        (2, (0, 0, *WHOLE), ([0], [2560]), 0, 1, "2 fds"),
        (1, (0, 0, *WHOLE), ([0], [2560]), 0, 0, "0 planes"),
        (1, (0, 0, *WHOLE), ([0], [2560]), 0, 2, "2 planes"),
        (1, (0, 0, *WHOLE), ([0, 0], [2560]), 0, 1, "1 planes"),
        (5, (0, 0, *WHOLE), ([0] * 5, [2560] * 5), 0, 5, "5 planes"),
        (2, (0, 0, *WHOLE), ([0] * 2, [2560] * 2), 0, 2, "of several planes"),
        (1, (1, 0, *WHOLE), ([0], [2560]), 0, 1, "beyond"),
        (1, (0, 1, *WHOLE), ([0], [2560]), 0, 1, "beyond"),
        (1, (0, 0, 10, 481), ([0], [2560]), 0, 1, "beyond"),
        (1, (0, 0, 10, 10), ([0], [2560]), TILED, 1, "not LINEAR"),
        (2, (0, 0, *WHOLE), ([0, 1 << 31], [2560, 4]), TILED, 2, "a dma-buf of"),
    ],
)
def test_planes_that_are_refused(
    files: int,
    part: tuple[int, int, int, int],
    places: tuple[list[int], list[int]],
    modifier: int,
    count: int,
    why: str,
) -> None:
    stage = Stage((XR24, TILED))
    sent = [dmabuf() for _ in range(files)]
    body = scanout_dmabuf2(sent, part, WHOLE, *places, modifier=modifier, count=count)
    assert why in stage.refusal(body)
    assert all(file.closed for file in sent)


def test_bytes_take_a_dma_bufs_place(stage: Stage) -> None:
    stage.answered(scanout_dmabuf(dmabuf()))
    stage.answered(scanout(2, 3, 8, bytes(24)))
    assert stage.answered(update_dmabuf(0, 0, 1, 1))[0] == []


def test_formats_are_the_compositors() -> None:
    stage = Stage()
    stage.display = Display({0x34324258})
    commands, _ = stage.answered(scanout_map(FakeFile(), pixman=0x20030888))
    assert isinstance(commands[0], ShowMap)
    assert "format" in stage.refusal(scanout_map(FakeFile()))


def test_damage_is_of_the_map(stage: Stage) -> None:
    stage.answered(scanout_map(FakeFile()))
    commands, _ = stage.answered(update_map(600, -5, 100, 20))
    assert commands == [Damage(Rectangle(600, 0, 40, 15))]
    outside: tuple[tuple[int, int, int, int], ...] = (
        (640, 0, 1, 1),
        (0, 0, 0, 5),
        (5, 5, -3, 2),
        (-(2**31), 0, 2**31 - 1, 5),
    )
    for nothing in outside:
        assert stage.answered(update_map(*nothing))[0] == []


def test_damage_without_a_map_is_nothing(stage: Stage) -> None:
    assert stage.answered(update_map(0, 0, 1, 1)) == ([], MessageKind.METHOD_RETURN)


def test_bytes_are_shown_and_updated(stage: Stage) -> None:
    commands, _ = stage.answered(scanout(2, 3, 12, bytes(36)))
    assert commands == [ShowBytes(Layout(2, 3, 12, 1), bytes(36))]
    commands, _ = stage.answered(update((1, 1, 1, 2), 8, bytes(12)))
    assert commands == [UpdateBytes(Rectangle(1, 1, 1, 2), 8, bytes(12))]


@pytest.mark.parametrize(
    ("part", "stride", "size", "pixman"),
    [
        ((1, 1, 2, 2), 8, 16, XRGB),
        ((-1, 0, 1, 1), 4, 4, XRGB),
        ((0, 0, 0, 1), 4, 4, XRGB),
        ((0, 0, 1, 2), 4, 7, XRGB),
        ((0, 0, 1, 1), 0, 4, XRGB),
        ((0, 0, 1, 1), 4, 4, 0x20028888),
        ((0, 0, 1, 1), 4, 4, 5),
    ],
)
def test_updates_that_are_refused(
    stage: Stage, part: tuple[int, int, int, int], stride: int, size: int, pixman: int
) -> None:
    stage.answered(scanout(2, 3, 8, bytes(24)))
    assert stage.refusal(update(part, stride, bytes(size), pixman))


def test_updates_of_what_is_not_shown(stage: Stage) -> None:
    assert "no bytes" in stage.refusal(update((0, 0, 1, 1), 4, bytes(4)))
    stage.answered(scanout(2, 3, 8, bytes(24)))
    stage.answered(scanout_map(FakeFile()))
    assert "no bytes" in stage.refusal(update((0, 0, 1, 1), 4, bytes(4)))


def test_too_few_bytes(stage: Stage) -> None:
    assert "23 bytes" in stage.refusal(scanout(2, 3, 8, bytes(23)))


def test_the_pointer(stage: Stage) -> None:
    defined = call(LISTENER, "CursorDefine", "iiiiay", 2, 2, 1, 0, bytes(16))
    assert stage.answered(defined)[0] == [Cursor(2, 2, 1, 0, bytes(16))]
    hidden = call(LISTENER, "MouseSet", "iii", 5, 5, 0)
    assert stage.answered(hidden)[0] == [CursorVisible(visible=False)]


@pytest.mark.parametrize(
    "body",
    [
        (0, 2, 0, 0, b""),
        (2, -2, 0, 0, bytes(16)),
        (2, 2, 2, 0, bytes(16)),
        (2, 2, 0, -1, bytes(16)),
        (2, 2, 0, 0, bytes(15)),
        (1 << 30, 1, 0, 0, b""),
    ],
)
def test_pointers_that_are_refused(stage: Stage, body: tuple[Any, ...]) -> None:
    assert "pointer" in stage.refusal(call(LISTENER, "CursorDefine", "iiiiay", *body))


def test_disable_keeps_what_is_shown(stage: Stage) -> None:
    stage.answered(scanout_map(FakeFile()))
    commands, answer = stage.answered(call(LISTENER, "Disable"))
    assert (commands, answer) == ([], MessageKind.METHOD_RETURN)
    assert stage.answered(update_map(0, 0, 1, 1))[0]


def test_what_is_unknown_is_answered(stage: Stage) -> None:
    stage.display.receive(*call(LISTENER, "Sing"))
    (answer,) = stage.heard(stage.display.take_answers())
    assert answer.fields.error_name == UNKNOWN_METHOD


def test_fds_of_what_is_unknown_are_closed(stage: Stage) -> None:
    file = FakeFile()
    assert "such fds" in stage.refusal(call(LISTENER, "ScanoutHologram", "h", file))
    assert file.closed


def test_other_arguments_are_refused(stage: Stage) -> None:
    file = FakeFile()
    assert "arguments" in stage.refusal(call(MAPS, "ScanoutMap", "hu", file, 1))
    assert file.closed


def test_who_wants_no_answer_has_none(stage: Stage) -> None:
    stage.display.receive(*call(LISTENER, "Disable", flags=1))
    assert stage.display.take_answers() == b""


def test_what_is_refused_too_often_ends_it(stage: Stage) -> None:
    for _ in range(MAX_REFUSALS):
        stage.refusal(scanout_map(FakeFile(FileKind.OTHER)))
    file = FakeFile(FileKind.OTHER)
    with pytest.raises(DBusError, match="at last: the fd"):
        stage.display.receive(*scanout_map(file))
    assert file.closed


def test_what_came_with_a_mistake_is_closed(stage: Stage) -> None:
    shown, waiting = FakeFile(), FakeFile()
    data, fds = scanout_map(shown)
    with pytest.raises(DBusError):
        stage.display.receive(
            data + b"garbage, of which there is enough", [*fds, waiting]
        )
    assert shown.closed
    assert waiting.closed


def test_the_65th_fd(stage: Stage) -> None:
    files = [FakeFile() for _ in range(MAX_WAITING_FDS + 1)]
    stage.display.receive(b"", files[1:])
    with pytest.raises(DBusError, match="65 fds"):
        stage.display.receive(b"", files[:1])
    assert all(file.closed for file in files)


def test_a_message_of_128_mib(stage: Stage) -> None:
    header = bytearray(scanout(2, 3, 8, bytes(24))[0][:16])
    header[4:8] = (128 << 20).to_bytes(4, "little")
    with pytest.raises(DBusError, match="bytes"):
        stage.display.receive(bytes(header), ())


def test_a_million_updates_are_nothing_that_piles_up(stage: Stage) -> None:
    stage.answered(scanout_map(FakeFile()))
    many = update_map(0, 0, 640, 480)[0] * 500
    for _ in range(4):
        assert len(stage.display.receive(many, ())) == 500
        stage.display.take_answers()
    assert stage.display.receive(b"", ()) == []


numbers = st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 700)
unsigned = st.integers(0, 2**32 - 1) | st.integers(0, 3000) | st.just(XRGB)
pixels = st.binary(max_size=100)
files = st.builds(
    FakeFile, st.sampled_from(FileKind), st.integers(0, 1 << 23), closed=st.just(False)
)
fourccs = st.just(XR24) | st.just(AR24) | unsigned
modifiers = st.just(0) | st.just(TILED) | st.integers(0, 2**64 - 1)
calls = st.one_of(
    st.builds(scanout_map, files, *[unsigned] * 3, st.just(XRGB) | unsigned, unsigned),
    st.builds(update_map, *[numbers] * 4),
    st.builds(update_dmabuf, *[numbers] * 4),
    st.builds(
        scanout_dmabuf,
        files,
        *[unsigned] * 3,
        fourccs,
        modifiers,
        y0_top=st.booleans(),
    ),
    st.builds(
        scanout_dmabuf2,
        st.lists(files, max_size=5),
        st.tuples(*[unsigned] * 4),
        st.tuples(*[unsigned] * 2),
        st.lists(unsigned, max_size=5),
        st.lists(unsigned, max_size=5),
        fourccs,
        modifiers,
        count=st.none() | unsigned,
        y0_top=st.booleans(),
    ),
    st.builds(scanout, *[unsigned] * 3, pixels, st.just(XRGB) | unsigned),
    st.builds(update, st.tuples(*[numbers] * 4), unsigned, pixels),
    st.builds(
        lambda *body: call(LISTENER, "CursorDefine", "iiiiay", *body),
        *[numbers] * 4,
        pixels,
    ),
)


def holds(command: Command) -> bool:
    """Whether what a command says can be done with what it has."""
    match command:
        case ShowMap(file, layout):
            return layout.end <= min(file.size, display.MAX_POOL)
        case ShowDmabuf(planes, layout):
            assert planes[0].offset == layout.offset
            assert layout.end <= min(planes[0].file.size, display.MAX_POOL)
            return all(
                plane.file.kind is FileKind.DMABUF
                and plane.offset + plane.stride <= plane.file.size
                for plane in planes
            )
        case ShowBytes(layout, data):
            return layout.end <= len(data)
        case UpdateBytes(part, stride, data):
            return stride * (part.height - 1) + part.width * 4 <= len(data)
        case Damage(part):
            return min(part.x, part.y) >= 0 < min(part.width, part.height)
        case Cursor(width, height, hot_x, hot_y, data):
            inside = 0 <= hot_x < width and 0 <= hot_y < height
            return inside and len(data) == width * height * 4
        case _:
            return True


@given(st.lists(calls, max_size=12), st.data())
def test_whatever_is_called(sent: list[Sent], data: st.DataObject) -> None:
    stage = Stage((XR24, 0), (XR24, TILED))
    commands = []
    fds = [file for _, files in sent for file in files]
    stage.display.receive(b"", fds)
    for chunk in data.draw(chunked(b"".join(each for each, _ in sent))):
        commands += stage.display.receive(chunk, ())
    assert all(map(holds, commands))
    stage.display.answer_updates()
    answers = stage.heard(stage.display.take_answers())
    assert len(answers) == len(sent)
    shown = [file for command in commands for file in files_of(command)]
    for file in fds:
        assert file.closed != any(file is each for each in shown)


def unanswered(part: tuple[int, int, int, int], serial: int) -> bytes:
    """An update as QEMU spells it, which wants no answer."""
    return call(MAPS, "UpdateMap", "iiii", *part, serial=serial, flags=1)[0]


@given(
    st.lists(st.tuples(*[numbers] * 4), min_size=2, max_size=6),
    st.integers(1, 3),
    st.none() | st.tuples(st.integers(0, 200), st.integers(0, 255)),
)
def test_updates_that_are_spelled_alike_mean_what_each_does(
    parts: list[tuple[int, int, int, int]], at_once: int, wrong: tuple[int, int] | None
) -> None:
    """One display gets them whole, which is quicker; the other one in pieces."""
    messages = [unanswered(part, serial) for serial, part in enumerate(parts, 1)]
    if wrong is not None:
        last = bytearray(messages[-1])
        last[wrong[0] % len(last)] = wrong[1]
        messages[-1] = bytes(last)
    starts = range(1, len(messages), at_once)
    rest = [b"".join(messages[start : start + at_once]) for start in starts]
    chunks = messages[:1] + rest

    def heard(chunks: list[bytes]) -> tuple[list[Command], bytes, str]:
        shown = Display()
        commands = shown.receive(*scanout_map(FakeFile()))
        shown.take_answers()
        try:
            for chunk in chunks:
                commands += shown.receive(chunk, ())
        except DBusError:
            return [], b"", "no D-Bus"
        return commands[1:], shown.take_answers(), ""

    whole = heard(chunks)
    assert whole == heard([part for each in chunks for part in (each[:9], each[9:])])


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_garbage(chunks: list[bytes]) -> None:
    stage = Stage()
    file = FakeFile()
    stage.display.receive(b"", (file,))
    try:
        for chunk in chunks:
            stage.display.receive(chunk, ())
    except DBusError:
        assert file.closed
