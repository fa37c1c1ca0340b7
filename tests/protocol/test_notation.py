"""State in plain values: what is written is read again, and nothing else is."""

import json
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import NamedTuple, NewType, cast

import pytest
from hypothesis import given

from tests.strategies import damaged, plain_values
from wlproxy.protocol.errors import LocalProtocolError, SnapshotError
from wlproxy.protocol.notation import Notation, Plain, Spelling

Number = NewType("Number", int)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Rights(IntFlag):
    READ = 1
    WRITE = 2


class Place(NamedTuple):
    x: int
    y: int = 0


class Kind:
    """What may be one of several."""


@dataclass(frozen=True)
class Round(Kind):
    radius: int


@dataclass
class Square(Kind):
    side: int


@dataclass(frozen=True)
class Stranger(Kind):
    """That nobody has listed."""


@dataclass(frozen=True)
class Config:
    name: str


@dataclass(slots=True, eq=False)
class Node:
    """One that others refer to."""

    name: str
    _next: "Node | None" = None
    kind: Kind | None = None
    role: object = None
    either: Round | Square = Round(1)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.name)

    def join(self, other: "Node") -> "Node":
        self._next = other
        return other

    @property
    def next(self) -> "Node | None":
        return self._next


@dataclass(slots=True, eq=False)
class World:
    """One of each."""

    first: Node
    config: Config
    point: complex = 2j
    number: Number = Number(7)
    colour: Colour = Colour.RED
    rights: Rights = Rights.READ | Rights.WRITE
    data: bytes = b"\0\1"
    buffer: bytearray = field(default_factory=lambda: bytearray(b"buf"))
    row: tuple[int, str] = (1, "a")
    several: tuple[int, ...] = (1, 2, 3)
    place: Place = field(default_factory=lambda: Place(3, 4))
    seen: set[Place] = field(default_factory=lambda: {Place(2), Place(1)})
    always: frozenset[int] = frozenset({1, 2})
    waiting: deque[Node] = field(default_factory=deque)
    by_name: dict[str, Node] = field(default_factory=dict)
    ordered: OrderedDict[int, list[int]] = field(default_factory=OrderedDict)
    versions: Mapping[str, int] = field(default_factory=dict)
    squares: list[Square] = field(default_factory=list)
    parts: Sequence[int] = ()
    all: dict[Node, None] = field(default_factory=dict)
    on: bool = True


CONFIG = Config("vm")
NOTATION = Notation(
    "world 1",
    World,
    listed=(Node, Round, Square),
    spelled={complex: Spelling(str, lambda plain: complex(str(plain)))},
    given=(Config,),
)


def world() -> World:
    """With a circle in it."""
    one, two = Node("one", kind=Round(5)), Node("two", role=Square(2), either=Square(3))
    one.join(two).join(one)
    two.role = one
    made = World(one, CONFIG)
    made.waiting.extend([two, one, two])
    made.by_name["two"] = two
    made.ordered[9], made.ordered[3] = [1, 2], []
    made.versions = {"wl_shm": 2}
    made.squares = [Square(1), Square(1)]
    made.all[two] = None
    return made


def carried(snapshot: object) -> object:
    return json.loads(json.dumps(snapshot))


def test_what_is_written_is_read() -> None:
    written = NOTATION.write(world())

    again = NOTATION.read(carried(written), {Config: CONFIG})

    assert NOTATION.write(again) == written
    one, two = again.first, again.waiting[0]
    assert one.next is two
    assert two.next is one
    assert two.role is one
    assert again.by_name["two"] is again.waiting[2] is two
    assert list(again.all) == [two]
    assert (one.size, one.kind, two.either) == (3, Round(5), Square(3))
    assert again.config is CONFIG
    assert list(again.ordered.items()) == [(9, [1, 2]), (3, [])]
    for name in ("point", "number", "colour", "rights", "data", "buffer", "row"):
        assert getattr(again, name) == getattr(world(), name)
    for name in ("several", "place", "seen", "always", "versions", "squares", "parts"):
        assert getattr(again, name) == getattr(world(), name)
        assert type(getattr(again, name)) is type(getattr(world(), name))


def test_what_others_refer_to_is_written_once() -> None:
    written = NOTATION.write(world())

    objects = cast("dict[str, list[dict[str, Plain]]]", written["objects"])
    assert [node["name"] for node in objects["Node"]] == ["one", "two"]
    assert objects["World"][0]["waiting"] == [1, 0, 1]
    assert objects["Node"][0] == {
        "name": "one",
        "next": 1,
        "kind": {"Round": {"radius": 5}},
        "role": None,
        "either": {"Round": {"radius": 1}},
    }


def test_bytes_may_be_left_out() -> None:
    objects = cast("dict[str, Plain]", NOTATION.write(world(), lengths=True)["objects"])
    (written,) = cast("list[dict[str, Plain]]", objects["World"])
    assert (written["data"], written["buffer"]) == ("2 bytes", "3 bytes")


def test_what_two_have_and_may_change_is_not_written() -> None:
    made = world()
    made.squares *= 2
    with pytest.raises(LocalProtocolError, match="Square is shared"):
        NOTATION.write(made)


@pytest.mark.parametrize(
    ("name", "value"),
    [("number", True), ("number", "7"), ("first", Square(1)), ("row", [1, "a"])],
)
def test_what_annotations_do_not_say_is_not_written(name: str, value: object) -> None:
    made = world()
    setattr(made, name, value)
    with pytest.raises(LocalProtocolError, match="is to be written here"):
        NOTATION.write(made)


def test_what_nobody_has_listed_is_not_written() -> None:
    made = world()
    made.first.kind = Stranger()
    with pytest.raises(LocalProtocolError, match="no Stranger"):
        NOTATION.write(made)


def test_an_annotation_that_cannot_be_written() -> None:
    @dataclass(eq=False)
    class Odd:
        value: "list"  # type: ignore[type-arg]
        odd: "Odd | None" = None

    with pytest.raises((LocalProtocolError, NameError)):
        Notation("odd", Odd).write(Odd([1]))
    with pytest.raises(LocalProtocolError, match="nobody knows"):
        NOTATION.form("World")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "world 2"}, "no snapshot of the format 'world 1'"),
        ({"objects": []}, "no dict"),
        ({"objects": {}}, "there is no World 0"),
    ],
)
def test_what_was_written_by_another(change: dict[str, Plain], why: str) -> None:
    with pytest.raises(SnapshotError, match=why):
        NOTATION.read({**NOTATION.write(world()), **change}, {Config: CONFIG})


@pytest.mark.parametrize(
    ("name", "plain", "why"),
    [
        ("first", 2, r"World.first: there is no Node 2"),
        ("first", -1, "there is no Node -1"),
        ("first", True, "no int"),
        ("point", "x", "'x' means nothing"),
        ("number", "7", "World.number: .*no int"),
        ("colour", "GREEN", "'GREEN' means nothing"),
        ("colour", 1, "no str"),
        ("rights", "READ", "no int"),
        ("data", "0g", "'0g' means nothing"),
        ("data", 1, "no str"),
        ("row", [1], "1 values where 2 belong"),
        ("place", [1, 2, 3], "3 values where 2 belong"),
        ("several", {}, "no list"),
        ("by_name", [["a"]], "1 values where 2 belong"),
        (
            "squares",
            [{"side": 1, "more": 2}],
            r"Square lacks, or has too much: \['more'",
        ),
        ("squares", [{}], r"\['side'\]"),
        ("all", [[0, 1]], "no dict"),
        ("all", [[0, {"int": 1}]], r"one of \[\]"),
        ("on", 1, "no bool"),
    ],
)
def test_what_is_damaged(name: str, plain: Plain, why: str) -> None:
    written = NOTATION.write(world())
    objects = cast("dict[str, list[dict[str, Plain]]]", written["objects"])
    objects["World"][0][name] = plain
    with pytest.raises(SnapshotError, match=why):
        NOTATION.read(written, {Config: CONFIG})


@pytest.mark.parametrize("kind", [{"Stranger": {}}, {"World": 0}, {}, 3, "Round"])
def test_what_is_of_no_class_that_may_be_there(kind: Plain) -> None:
    written = NOTATION.write(world())
    objects = cast("dict[str, list[dict[str, Plain]]]", written["objects"])
    objects["Node"][1]["kind"] = kind
    with pytest.raises(SnapshotError, match=r"Node\.kind"):
        NOTATION.read(written, {Config: CONFIG})


@given(plain_values | damaged(NOTATION.write(world())))
def test_garbage(plain: object) -> None:
    try:
        read = NOTATION.read(plain, {Config: CONFIG})
    except SnapshotError:
        return
    NOTATION.write(read)
