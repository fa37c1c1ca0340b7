"""Measures `Relay` alone: messages per second of CPU, without a byte of I/O.

What an app and a compositor say to each other is recorded once, on the stage of the core's
tests, and then played to a relay that stands where that one stood: the core does no I/O, so
the same inputs lead to the same commands.  Only `Relay.receive` is timed, by the CPU time of
the process, several times over; what is printed is the median, the fastest and the slowest.
The recordings of real apps (`bench.recording`) are played the same way (`bench.replay`), from their
first message to their last.

    python -m bench.relay [--rounds 9] [--json]
"""

import argparse
import json
import statistics
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from bench.recording import read_recording, recordings
from bench.replay import play, prepare
from tests.relay.playbook import ZERO_COPY, Stage
from tests.relay.shell import guest_memory
from tests.relay.things import Thing
from tests.relay.twins import Twins
from wlproxy.protocol.channel.frames import ClientOpened, Data
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.protocol.wayland.message import ArgValue
from wlproxy.protocol.wayland.wire import MessageSplitter, encode_message
from wlproxy.relay.commands import Command, SendToCompositor
from wlproxy.relay.inputs import (
    ClockSample,
    EventsTurn,
    FromCompositor,
    Input,
    RequestsTurn,
)
from wlproxy.relay.relay import Relay
from wlproxy.relay.wire.clock import SETTLED
from wlproxy.relay.wire.context import RelayConfig

FRAMES: Final = 300
"""Frames of a recording."""

LIVE_OBJECTS: Final = (10, 1_000, 100_000)
"""Objects that are there while messages are counted; one client may have 65,536."""

OBJECTS_OF_ONE_CLIENT: Final = 50_000

CLOCK_AHEAD: Final = 5_000_000_000
"""By how much the guest's clock is ahead, nanoseconds."""

SYNCS: Final = 32
"""Requests that come together, where their number is not the app's to say."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A recording.

    Attributes:
        name: says what it is.
        snapshot: of the relay before it.
        inputs: what the relay was told.
        messages: how many Wayland messages are in them, both ways.
    """

    name: str
    snapshot: object
    inputs: Sequence[Input]
    messages: int


@dataclass(frozen=True, slots=True)
class Result:
    """What one measurement says.

    Attributes:
        name: of what was measured.
        messages: in one round.
        microseconds: CPU time of one message, the median of all rounds.
        fastest: the same, of the fastest round.
        slowest: likewise.
    """

    name: str
    messages: int
    microseconds: float
    fastest: float
    slowest: float

    @property
    def rate(self) -> float:
        """Messages per second of CPU."""
        return 1e6 / self.microseconds


# ---------------------------------------------------------------- recordings


class _Recorder(Twins):
    """Stands in a stage where its relay does, and writes down what that is told."""

    def __init__(self, relay: Relay) -> None:
        self._whole, self._other = relay, None
        self.inputs: list[Input] = []

    def receive(self, given: Input) -> list[Command]:
        self.inputs.append(given)
        return super().receive(given)


class _Session(Stage):
    """An app that shows two buffers in turn, once both are known.

    The guest's clock is another than the host's, as that of every VM is.
    """

    def __init__(self) -> None:
        super().__init__()
        for _ in range(SETTLED):
            self.relay.receive(ClockSample(1_000, CLOCK_AHEAD, 2_000))
        self.both = self.buffers(2)
        self.host.answers_sync = True
        self.pointer = self.app.request(self.app.bind("wl_seat"), "get_pointer")
        self.pending = b""
        for _ in range(4):
            self.frame()

    def say(self, sender: Thing, name: str, *args: ArgValue) -> Thing:
        """Have the app say something, with the next `end_of_requests`."""
        data, created = self.app.encode(sender, name, args)
        self.pending += data
        return created or sender

    def end_of_requests(self) -> None:
        """Have the relay take what was said in one piece, and the answers in another."""
        data, self.pending, self.deliver = self.pending, b"", False
        self.send(data)
        self.end_of_events()

    def end_of_events(self) -> None:
        """Have the relay take all that the compositor has said."""
        while self.host.out:
            events = b"".join(data for data, _ in self.host.out)
            self.host.out.clear()
            self.from_compositor(events)
        self.deliver = True

    def frame(self) -> None:
        """Show the other buffer: four requests; `release`, `done` and `delete_id`."""
        self.both.reverse()
        self.say(self.surface, "attach", self.both[0].id, 0, 0)
        self.say(self.surface, "damage_buffer", 0, 0, 64, 64)
        self.say(self.surface, "frame")
        self.say(self.surface, "commit")
        self.end_of_requests()
        self.host.frame_done(self.host_thing("wl_surface"))
        self.end_of_events()


def _frames(session: _Session) -> None:
    """What weston-simple-shm does."""
    for _ in range(FRAMES):
        session.frame()


def _desktop(session: _Session) -> None:
    """What toolkits do: regions, damage in pieces, a pointer that moves."""
    pointer = session.host_thing("wl_pointer")
    for number in range(FRAMES):
        for step in range(3):
            session.host.event(pointer, "motion", number, step << 8, number)
            session.host.event(pointer, "frame")
        session.end_of_events()
        region = session.say(session.compositor, "create_region")
        session.say(region, "add", 0, 0, 64, 64)
        session.say(session.surface, "set_opaque_region", region.id)
        session.say(region, "destroy")
        session.app.destroyed(region)
        for place in range(0, 64, 16):
            session.say(session.surface, "damage_buffer", 0, place, 64, 8)
        session.frame()


def _damage(session: _Session) -> None:
    """A flood of what nothing comes of."""
    for _ in range(FRAMES):
        for _ in range(SYNCS):
            session.say(session.surface, "damage", 0, 0, 64, 64)
        session.end_of_requests()


def _motion(session: _Session) -> None:
    """The same the other way round."""
    pointer = session.host_thing("wl_pointer")
    for number in range(FRAMES):
        for _ in range(SYNCS):
            session.host.event(pointer, "motion", number, 0, 0)
        session.end_of_events()


SCRIPTS: Final[dict[str, Callable[[_Session], None]]] = {
    "frames": _frames,
    "desktop": _desktop,
    "flood of damage": _damage,
    "flood of motion": _motion,
}


def record(name: str) -> Trace:
    """Record one of `SCRIPTS`."""
    session = _Session()
    snapshot = session.relay.snapshot()
    session.relay = recorder = _Recorder(_restored(snapshot))
    SCRIPTS[name](session)
    inputs = tuple(recorder.inputs)
    return Trace(name, snapshot, inputs, sum(map(_messages_in, inputs)))


def replay(trace: Trace) -> float:
    """Play a recording to a relay; say how much CPU time that took, seconds."""
    relay = _restored(trace.snapshot)
    start = time.process_time()
    for given in trace.inputs:
        relay.receive(given)
    return time.process_time() - start


def _restored(snapshot: object) -> Relay:
    return Relay.restore(snapshot, RelayConfig(), guest_memory())


def _messages_in(given: Input) -> int:
    if not isinstance(given, (Data, FromCompositor)):
        return 0
    splitter, count = MessageSplitter(), 0
    splitter.feed(given.data)
    while splitter.next_message() is not None:
        count += 1
    return count


# ---------------------------------------------------------------- with many objects


class _Crowd:
    """A relay with so many objects: callbacks that nobody answers."""

    def __init__(self, objects: int) -> None:
        self._relay = Relay(RelayConfig(), guest_memory(), ZERO_COPY)
        self._next_id = 2
        client_id = 0
        while objects > 0:
            client_id += 1
            self._relay.receive(ClientOpened(client_id, 1, 1, 1, "app"))
            part = min(objects, OBJECTS_OF_ONE_CLIENT)
            self._tell(Data(client_id, _syncs(2, part)))
            objects -= part
            self._next_id = max(self._next_id, 2 + part)

    def round(self) -> float:
        """Have syncs answered: three messages each; say what that took, seconds."""
        start = time.process_time()
        commands = self._tell(Data(1, _syncs(self._next_id, SYNCS)))
        taken = time.process_time() - start
        requests = b"".join(c.data for c in commands if isinstance(c, SendToCompositor))
        events = FromCompositor(1, b"".join(map(_answer, _new_ids(requests))))
        start = time.process_time()
        self._tell(events)
        return taken + time.process_time() - start

    def _tell(self, given: Data | FromCompositor) -> list[Command]:
        relay, client_id = self._relay, given.client_id
        commands = relay.receive(given)
        while relay.requests_wait(client_id):
            commands += relay.receive(RequestsTurn(client_id))
        while relay.events_wait(client_id):
            commands += relay.receive(EventsTurn(client_id))
        return commands


def _syncs(first_id: int, count: int) -> bytes:
    spec = INTERFACES["wl_display"].request("sync")
    ids = range(first_id, first_id + count)
    return b"".join(encode_message(1, spec, (each,)) for each in ids)


def _new_ids(syncs: bytes) -> list[int]:
    return [new_id for _, _, new_id in struct.iter_unpack("=III", syncs)]


def _answer(callback: int) -> bytes:
    done = INTERFACES["wl_callback"].event("done")
    delete_id = INTERFACES["wl_display"].event("delete_id")
    return encode_message(callback, done, (1,)) + encode_message(
        1, delete_id, (callback,)
    )


# ---------------------------------------------------------------- what is said of it


def measure(name: str, messages: int, once: Callable[[], float], rounds: int) -> Result:
    """Time something several times, after once that does not count.

    Args:
        name: of it.
        messages: that it handles.
        once: does it, and says how much CPU time that took, seconds.
        rounds: how often.
    """
    once()
    times = [once() / messages * 1e6 for _ in range(rounds)]
    return Result(name, messages, statistics.median(times), min(times), max(times))


def measure_all(rounds: int) -> list[Result]:
    """Measure everything."""
    results = []
    for name in SCRIPTS:
        trace = record(name)
        once = lambda trace=trace: replay(trace)  # noqa: E731
        results.append(measure(name, trace.messages, once, rounds))
    for path in recordings():
        replayed = prepare(read_recording(path))
        once = lambda replayed=replayed: _timed(replayed.inputs)  # noqa: E731
        results.append(measure(replayed.name, replayed.messages, once, rounds))
    for objects in LIVE_OBJECTS:
        crowd = _Crowd(objects)
        once = lambda crowd=crowd: sum(crowd.round() for _ in range(50))  # noqa: E731
        name = f"syncs, {objects:,} objects"
        results.append(measure(name, 50 * SYNCS * 3, once, rounds))
    return results


def _timed(inputs: Sequence[Input]) -> float:
    start = time.process_time()
    play(inputs)
    return time.process_time() - start


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often; the median")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args()
    results = measure_all(options.rounds)
    if options.json:
        sys.stdout.write(json.dumps([asdict(each) for each in results]))
        return
    for each in results:
        sys.stdout.write(
            f"{each.name:24} {each.rate:10,.0f} messages/s "
            f"{each.microseconds:7.2f} us/message "
            f"({each.fastest:.2f} to {each.slowest:.2f})\n"
        )


if __name__ == "__main__":
    main()
