"""What recorded apps do with their buffers: when is one known, and when is it first shown?

    python -m bench.habits                              # prints a table
    python -m bench.habits --into docs/performance.md   # between <!-- habits --> and its end

A buffer's pages could be asked for when it is created, in place of when it is first attached.
That gains time only where the two do not come with the same read.  And the dma-buf of pages could be
kept when the last buffer over them is gone: for apps that make another buffer there.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from bench.conversation import Conversation
from bench.document import add_into, print_table
from bench.recording import Recording, read_recording, recordings
from bench.report import aligned

MARK = "habits"


@dataclass(frozen=True, slots=True)
class Habits:
    """What one app did with its wl_shm buffers.

    Attributes:
        name: of the recording.
        pools: how many it made.
        buffers: how many it made.
        at_once: those first attached in the read of the app's that created them.
        later: those first attached in a later one.
        again: those of the same pool, place and size as one before.
    """

    name: str
    pools: int
    buffers: int
    at_once: int
    later: int
    again: int


def habits(recording: Recording) -> Habits:
    """Look at a recording."""
    conversation = Conversation()
    new: dict[int, int] = {}
    pools_by_id: dict[int, int] = {}
    places: set[tuple[object, ...]] = set()
    pools = buffers = at_once = later = again = 0
    for number, batch in enumerate(recording.batches):
        for said in conversation.hear(batch.speaker, batch.data):
            match said.title:
                case ("wl_shm", "create_pool"):
                    pools += 1
                    pools_by_id[said.created] = pools
                case ("wl_shm_pool", "create_buffer"):
                    buffers += 1
                    new[said.created] = number
                    place = (pools_by_id[said.sender], *said.args[1:])
                    again += place in places
                    places.add(place)
                case ("wl_surface", "attach"):
                    (buffer, *_) = said.args
                    created = new.pop(buffer, None) if isinstance(buffer, int) else None
                    at_once += created == number
                    later += created is not None and created != number
                case ("wl_buffer", "destroy"):
                    new.pop(said.sender, None)  # its id may be another's next
                case _:
                    pass
    return Habits(recording.name, pools, buffers, at_once, later, again)


def markdown(found: Sequence[Habits]) -> str:
    """Write a table: a row for each app."""
    heads = [
        *("", "pools", "buffers", "shown with the read that created it", "later"),
        "where another had been",
    ]
    rows = [[str(value) for value in astuple(each)] for each in found]
    return "\n".join(aligned([heads, *rows])) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or put it into a document, too; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.habits", description=__doc__)
    add_into(parser, MARK)
    options = parser.parse_args(arguments)
    return print_table(
        lambda: markdown([habits(read_recording(each)) for each in recordings()]),
        options.into,
        MARK,
    )


if __name__ == "__main__":
    sys.exit(main())
