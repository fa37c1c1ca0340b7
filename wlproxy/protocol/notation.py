"""State written down in plain values, and put together again from them.

For cores that hold a graph of dataclasses: the relay, the lanes.  Their fields are written
as their annotations say: JSON can carry the result, people can read it, and what is read is
checked against the same annotations.  It is no pickle: no class is named that the
annotations, or the few listed ones, do not name.

* An object that is told apart by what it is (`eq=False`) is written once, in a list of its
  class, and referred to by its place there.  Every other is written where it stands.
* A field with `init=False` is not written: `__post_init__` makes it anew.
* What the core was given from outside (`given`) is not written, but given again.

What is read is right in form: each field is there, and of its type.  That it makes sense is
for whoever wrote it.
"""

import json
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass
from enum import Enum, IntFlag
from functools import cache, partial
from types import NoneType, UnionType
from typing import (
    Any,
    Final,
    Generic,
    NewType,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from wlproxy.protocol.errors import LocalProtocolError, SnapshotError

Plain: TypeAlias = "bool | int | str | list[Plain] | dict[str, Plain] | None"
"""What JSON can carry."""

RootT = TypeVar("RootT")
ValueT = TypeVar("ValueT")

_Make: TypeAlias = Callable[[Iterable[Any]], object]

_SERIES: Final[Mapping[object, _Make]] = {
    Sequence: tuple,
    **{kind: kind for kind in (deque, frozenset, list, set)},
}
_MAPPINGS: Final[Mapping[object, _Make]] = {
    Mapping: dict,
    OrderedDict: OrderedDict,
    dict: dict,
}


@dataclass(frozen=True, slots=True)
class Spelling:
    """How values are written that are no dataclasses.

    Attributes:
        write: makes a plain value, or bytes, which are written as hexadecimal digits.
        read: makes the value again; may raise what Python raises for a wrong one.
    """

    write: Callable[[object], "Plain | bytes | bytearray"]
    read: Callable[[Plain], object]


class Notation(Generic[RootT]):
    """How everything under one class is written."""

    def __init__(
        self,
        name: str,
        root: type[RootT],
        listed: Iterable[type] = (),
        spelled: Mapping[object, Spelling] | None = None,
        given: Iterable[object] = (),
    ) -> None:
        """Nothing is written yet.

        Args:
            name: tells what it is, and in which version.
            root: where it begins; told apart by identity.
            listed: what may stand where an annotation has no dataclass (`object`, say).
            spelled: annotation to how its values are written.
            given: annotations whose values are not written, but given by who reads.
        """
        self._name = name
        self._listed = tuple(listed)
        self._spelled = spelled or {}
        self._given = frozenset(given)
        self._forms: dict[object, _Form] = {}
        self._root = self.form(root)

    def write(self, root: RootT, *, lengths: bool = False) -> dict[str, Plain]:
        """Write it all down.

        Args:
            root: where to begin.
            lengths: of bytes, only say how many there are: that cannot be read again.

        Raises:
            LocalProtocolError: it holds what its annotations do not say.
        """
        pen = _Pen(lengths)
        self._root.write(root, pen)
        while pen.waiting:
            entry, record, written = pen.waiting.popleft()
            written.update(record.write_fields(entry, pen))
        return {"format": self._name, "objects": dict(pen.objects)}

    def read(
        self, snapshot: object, given: Mapping[object, object] | None = None
    ) -> RootT:
        """Put it together again.

        Args:
            snapshot: what was written.
            given: the value of each annotation that is given.

        Raises:
            SnapshotError: this was not written by `write`, or by another version.
        """
        if not isinstance(snapshot, dict) or snapshot.get("format") != self._name:
            raise SnapshotError(f"this is no snapshot of the format {self._name!r}")
        reader = _Reader(snapshot.get("objects"), given or {})
        root = self._root.read(0, reader)
        while reader.waiting:
            entry, record, plain = reader.waiting.popleft()
            record.fill(entry, plain, reader)
        for entry in reader.unfinished:
            entry.__post_init__()  # type: ignore[attr-defined]
        return cast("RootT", root)

    def form(self, hint: object) -> "_Form":
        """Say how values of an annotation are written."""
        if hint not in self._forms:
            self._forms[hint] = self._make_form(hint)
        return self._forms[hint]

    def _make_form(  # noqa: PLR0911 - one flat table
        self, hint: object
    ) -> "_Form":
        if hint in self._spelled:
            return _Spelled(self._spelled[hint])
        if hint in self._given:
            return _Given(hint)
        if hint is None:
            return _Optional(self._tagged(()))
        if isinstance(hint, NewType):
            return self.form(hint.__supertype__)
        if get_origin(hint) is not None:
            return self._make_generic(get_origin(hint), get_args(hint))
        if not isinstance(hint, type):
            raise LocalProtocolError(f"nobody knows how to write {hint}")
        if is_dataclass(hint):
            return (_Reference if _has_identity(hint) else _Record)(hint, self.form)
        return self._make_simple(hint)

    def _make_simple(  # noqa: PLR0911 - one flat table
        self, kind: type
    ) -> "_Form":
        if kind in (bytes, bytearray):
            return _Spelled(Spelling(partial(_meant, kind), partial(_from_hex, kind)))
        if kind is int:
            return _Spelled(Spelling(_number, partial(_checked, int)))
        if kind in (bool, str):
            return _Spelled(Spelling(partial(_meant, kind), partial(_checked, kind)))
        if issubclass(kind, IntFlag):
            return _Spelled(Spelling(_number, lambda plain: kind(_checked(int, plain))))
        if issubclass(kind, Enum):
            return _Spelled(
                Spelling(_name_of, lambda plain: kind[_checked(str, plain)])
            )
        if issubclass(kind, tuple):
            hints = get_type_hints(kind).values()
            items = tuple(map(self.form, hints))
            return _Row(kind._make, items)  # type: ignore[attr-defined]
        one = self._tagged(each for each in self._listed if issubclass(each, kind))
        return _Optional(one) if kind is object else one

    def _make_generic(self, kind: object, args: tuple[object, ...]) -> "_Form":
        if kind in (Union, UnionType):
            others = [arg for arg in args if arg is not NoneType]
            one = self.form(others[0]) if len(others) == 1 else self._tagged(others)
            return one if len(others) == len(args) else _Optional(one)
        if kind in _MAPPINGS:
            pair = (self.form(args[0]), self.form(args[1]))
            return _Pairs(_MAPPINGS[kind], *pair, changes=kind is not Mapping)
        if kind is tuple and args[-1] is not Ellipsis:
            return _Row(tuple, tuple(map(self.form, args)))
        make = tuple if kind is tuple else _SERIES[kind]
        return _Series(make, self.form(args[0]))

    def _tagged(self, classes: Iterable[object]) -> "_Form":
        return _Tagged(
            {cast("type", each).__name__: each for each in classes}, self.form
        )


class _Pen:
    """What is written so far, and what is referred to but not written."""

    def __init__(self, lengths: bool) -> None:  # noqa: FBT001 - as `write` has it
        self.lengths = lengths
        self.objects: dict[str, list[Plain]] = {}
        self.waiting = deque[tuple[object, _Record, dict[str, Plain]]]()
        self._places: dict[int, int] = {}
        self._owned: set[int] = set()

    def place(self, entry: object, record: "_Record") -> int:
        """Say where an object is in the list of its class."""
        if id(entry) not in self._places:
            listed = self.objects.setdefault(record.name, [])
            self._places[id(entry)] = len(listed)
            written: dict[str, Plain] = {}
            listed.append(written)
            self.waiting.append((entry, record, written))
        return self._places[id(entry)]

    def own(self, value: object) -> None:
        """Note what is written where it stands, and may change: only one may have it."""
        if id(value) in self._owned:
            raise LocalProtocolError(f"{type(value).__name__} is shared: {value!r}")
        self._owned.add(id(value))


class _Reader:
    """What is read so far, and what is referred to but not read."""

    def __init__(self, objects: object, given: Mapping[object, object]) -> None:
        self.given = given
        self._objects = _checked(dict, objects)
        self._made: dict[tuple[str, int], object] = {}
        self.waiting = deque[tuple[object, _Record, object]]()
        self.unfinished: list[object] = []

    def object(self, place: int, record: "_Record") -> object:
        """Find an object by its place in the list of its class."""
        listed = _checked(list, self._objects.get(record.name, []))
        if not 0 <= place < len(listed):
            raise SnapshotError(f"there is no {record.name} {place}")
        key = record.name, place
        if key not in self._made:
            self._made[key] = entry = record.blank()
            self.waiting.append((entry, record, listed[place]))
        return self._made[key]


class _Form(Protocol):
    """How values of one annotation are written, and read: SnapshotError if it is none."""

    def write(self, value: object, pen: _Pen) -> Plain: ...

    def read(self, plain: object, reader: _Reader) -> object: ...


@dataclass(frozen=True, slots=True)
class _Spelled:
    spelling: Spelling

    def write(self, value: object, pen: _Pen) -> Plain:
        written = self.spelling.write(value)
        if isinstance(written, bytes | bytearray):
            return f"{len(written)} bytes" if pen.lengths else written.hex()
        return written

    def read(self, plain: object, reader: _Reader) -> object:
        del reader
        try:
            return self.spelling.read(cast("Plain", plain))
        except (KeyError, OverflowError, TypeError, ValueError) as exc:
            raise SnapshotError(f"{plain!r:.80} means nothing: {exc!r}") from exc


@dataclass(frozen=True, slots=True)
class _Given:
    hint: object

    def write(self, value: object, pen: _Pen) -> Plain:
        del value, pen
        return None

    def read(self, plain: object, reader: _Reader) -> object:
        del plain
        return reader.given[self.hint]


@dataclass(frozen=True, slots=True)
class _Optional:
    form: _Form

    def write(self, value: object, pen: _Pen) -> Plain:
        return None if value is None else self.form.write(value, pen)

    def read(self, plain: object, reader: _Reader) -> object:
        return None if plain is None else self.form.read(plain, reader)


@dataclass(frozen=True, slots=True)
class _Series:
    make: _Make
    item: _Form

    def write(self, value: object, pen: _Pen) -> Plain:
        written = [
            self.item.write(item, pen) for item in cast("Sequence[object]", value)
        ]
        if self.make not in (tuple, frozenset):
            pen.own(value)
        if self.make in (set, frozenset):
            written.sort(key=json.dumps)
        return written

    def read(self, plain: object, reader: _Reader) -> object:
        return self.make(self.item.read(item, reader) for item in _checked(list, plain))


@dataclass(frozen=True, slots=True)
class _Row:
    """A tuple, or one with names, of fixed length."""

    make: _Make
    items: Sequence[_Form]

    def write(self, value: object, pen: _Pen) -> Plain:
        row = zip(self.items, _meant(tuple, value), strict=True)
        return [form.write(item, pen) for form, item in row]

    def read(self, plain: object, reader: _Reader) -> object:
        row: list[object] = _checked(list, plain)
        if len(row) != len(self.items):
            raise SnapshotError(f"{len(row)} values where {len(self.items)} belong")
        pairs = zip(self.items, row, strict=True)
        return self.make([form.read(item, reader) for form, item in pairs])


@dataclass(frozen=True, slots=True)
class _Pairs:
    make: _Make
    key: _Form
    value: _Form
    changes: bool

    def write(self, value: object, pen: _Pen) -> Plain:
        if self.changes:
            pen.own(value)
        pairs = cast("Mapping[object, object]", value).items()
        return [[self.key.write(k, pen), self.value.write(v, pen)] for k, v in pairs]

    def read(self, plain: object, reader: _Reader) -> object:
        row = _Row(tuple, (self.key, self.value))
        return self.make(row.read(pair, reader) for pair in _checked(list, plain))


@dataclass(frozen=True, slots=True)
class _Tagged:
    """One of several classes; its name stands before it."""

    classes: Mapping[str, object]
    form: "Callable[[object], _Form]"

    def write(self, value: object, pen: _Pen) -> Plain:
        name = type(value).__name__
        if self.classes.get(name) is not type(value):
            raise LocalProtocolError(f"no {name} is to be written here")
        return {name: self.form(type(value)).write(value, pen)}

    def read(self, plain: object, reader: _Reader) -> object:
        tagged: dict[str, object] = _checked(dict, plain)
        if len(tagged) != 1 or not tagged.keys() <= self.classes.keys():
            raise SnapshotError(f"one of {sorted(self.classes)}, not {plain!r:.80}")
        ((name, value),) = tagged.items()
        return self.form(self.classes[name]).read(value, reader)


class _Record:
    """A dataclass, written where it stands."""

    def __init__(self, kind: type, form: Callable[[object], _Form]) -> None:
        self.name = kind.__name__
        self._kind = kind
        self._form = form
        self._fields: dict[str, tuple[str, _Form]] = {}

    def write(self, value: object, pen: _Pen) -> Plain:
        if not self._kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            pen.own(value)
        return self.write_fields(value, pen)

    def read(self, plain: object, reader: _Reader) -> object:
        entry = self.blank()
        self.fill(entry, plain, reader)
        return entry

    def blank(self) -> object:
        """Make one whose fields are not known yet."""
        return object.__new__(self._kind)

    def write_fields(self, value: object, pen: _Pen) -> dict[str, Plain]:
        """Write what is in it."""
        _meant(self._kind, value)
        return {
            key: form.write(getattr(value, name), pen)
            for key, (name, form) in self._known().items()
        }

    def fill(self, entry: object, plain: object, reader: _Reader) -> None:
        """Read what is in it."""
        values: dict[str, object] = _checked(dict, plain)
        known = self._known()
        if odd := values.keys() ^ known.keys():
            raise SnapshotError(f"{self.name} lacks, or has too much: {sorted(odd)}")
        for key, (name, form) in known.items():
            try:
                object.__setattr__(entry, name, form.read(values[key], reader))
            except SnapshotError as exc:
                raise SnapshotError(f"{self.name}.{key}: {exc}") from exc
        if hasattr(entry, "__post_init__"):
            reader.unfinished.append(entry)

    def _known(self) -> dict[str, tuple[str, _Form]]:
        if not self._fields:  # not before they are needed: classes refer to each other
            hints = _hints(self._kind)
            for each in cast("tuple[Field[object], ...]", fields(self._kind)):
                if each.init:
                    form = self._form(hints[each.name])
                    self._fields[each.name.lstrip("_")] = each.name, form
        return self._fields


class _Reference(_Record):
    """The same, written once, wherever it is referred to."""

    def write(self, value: object, pen: _Pen) -> Plain:
        return pen.place(_meant(self._kind, value), self)

    def read(self, plain: object, reader: _Reader) -> object:
        return reader.object(_checked(int, plain), self)


def _from_hex(kind: type[bytes | bytearray], plain: Plain) -> object:
    return kind.fromhex(_checked(str, plain))


def _number(value: object) -> Plain:
    return int(_meant(int, value))  # of flags too


def _name_of(member: object) -> Plain:
    return _meant(Enum, member).name


def _checked(kind: type[ValueT], plain: object) -> ValueT:
    """Make sure of what is read."""
    if type(plain) is not kind:
        raise SnapshotError(f"no {kind.__name__}: {plain!r:.80}")
    return plain


def _meant(kind: type[ValueT], value: object) -> ValueT:
    """Make sure of what is written."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise LocalProtocolError(f"no {kind.__name__} is to be written here: {value!r}")
    return value


@cache
def _hints(kind: type) -> dict[str, object]:
    return get_type_hints(kind)


def _has_identity(kind: type) -> bool:
    return not kind.__dataclass_params__.eq  # type: ignore[attr-defined]
