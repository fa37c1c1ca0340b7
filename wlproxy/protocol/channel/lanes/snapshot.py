"""Writes lanes down in plain values, and puts them together again.

Files that wait are not written but named, by keys that whoever writes chooses; whoever
restores has their sources by these keys.
"""

from collections.abc import Callable, Mapping
from typing import Final, NoReturn, cast

from wlproxy.protocol.channel.lanes.engine import Lanes
from wlproxy.protocol.notation import Notation, Plain, Spelling

FORMAT: Final = "wlproxy lanes 1"
"""What snapshots begin with: another number for every change of what is written."""


def write_down(
    lanes: Lanes, key_of: Callable[[object], int], *, lengths: bool = False
) -> dict[str, Plain]:
    """Write down all that waits, and all credit, in values for JSON.

    Args:
        lanes: those to write down.
        key_of: names the source of a file; called once for each that waits.
        lengths: of bytes, only say how many: for people, and not to be restored.
    """
    return _notation(Spelling(key_of, _no_source)).write(lanes, lengths=lengths)


def restore(snapshot: object, sources: Mapping[int, object]) -> Lanes:
    """Put together lanes that go on as those that were written down would have.

    Args:
        snapshot: what `write_down` returned.
        sources: the sources of files, by their keys.

    Raises:
        SnapshotError: it was not written by this version.
    """
    spelling = Spelling(_no_source, lambda plain: sources[cast("int", plain)])
    return _notation(spelling).read(snapshot)


def _notation(sources: Spelling) -> Notation[Lanes]:
    return Notation(FORMAT, Lanes, spelled={object: sources})


def _no_source(what: object) -> NoReturn:
    raise KeyError(what)
