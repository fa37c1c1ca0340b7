"""`python -m bench.floor`: what a hop costs that does nothing but receive and send.

A process stands between pairs of sockets, and passes on what comes, in three ways: one loop over
epoll; a task of trio's for each socket, which waits for it again after each message, as
the agent and the proxy do; and one task of trio's for all sockets, which stay registered in an
epoll instance of their own, so that nothing is registered again and all that are ready are served in
one pass.  The difference between the last two is what a registration that lasts would save.
"""

import argparse
import os
import select
import signal
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from bench.document import add_into, print_table
from bench.report import aligned, number

Pair = tuple[socket.socket, socket.socket]

MARK: Final = "floor"
"""Where the table goes in a document: ``<!-- floor -->``, and its end."""
REQUEST: Final = bytes(80)
EVENT: Final = bytes(40)
"""About what a small frame's requests and events come to."""
RECEIVE_SIZE: Final = 65536
ANCILLARY_SIZE: Final = 256
ROUND_TRIPS: Final = 6000
"""In a measurement, over all pairs: a tenth of a second or more."""
WARM_UP: Final = 200
ROUNDS: Final = 9
PAIRS: Final = (1, 20, 100)
"""How many pairs of sockets have something at the same time."""


def _pass_on(source: socket.socket, target: socket.socket) -> bool:
    data, _, _, _ = source.recvmsg(RECEIVE_SIZE, ANCILLARY_SIZE)
    if data:
        target.sendmsg([data])
    return bool(data)


def _watch(pairs: Sequence[Pair]) -> tuple[select.epoll, dict[int, Pair]]:
    ways = {}
    epoll = select.epoll()
    for one, other in pairs:
        ways[one.fileno()] = one, other
        ways[other.fileno()] = other, one
    for fd in ways:
        epoll.register(fd, select.EPOLLIN)
    return epoll, ways


def run_bare(pairs: Sequence[Pair]) -> None:
    """Pass on in one loop, without trio."""
    epoll, ways = _watch(pairs)
    while all(_pass_on(*ways[fd]) for fd, _ in epoll.poll()):
        pass


def run_tasks(pairs: Sequence[Pair]) -> None:
    """Pass on in a task of trio's for each socket."""

    async def pump(
        source: socket.socket, target: socket.socket, scope: trio.CancelScope
    ) -> None:
        while True:
            await trio.lowlevel.wait_readable(source)
            if not _pass_on(source, target):
                return scope.cancel()

    async def pump_all() -> None:
        async with trio.open_nursery() as nursery:
            for one, other in pairs:
                nursery.start_soon(pump, one, other, nursery.cancel_scope)
                nursery.start_soon(pump, other, one, nursery.cancel_scope)

    trio.run(pump_all)


def run_one_task(pairs: Sequence[Pair]) -> None:
    """Pass on in one task of trio's, which waits for an epoll instance that watches all sockets."""
    epoll, ways = _watch(pairs)

    async def pump_all() -> None:
        while True:
            await trio.lowlevel.wait_readable(epoll.fileno())
            if not all(_pass_on(*ways[fd]) for fd, _ in epoll.poll(0)):
                return

    trio.run(pump_all)


Way = Callable[[Sequence[Pair]], None]
"""Passes on between pairs of sockets, until one is closed."""

WAYS: Final[dict[str, Way]] = {
    "epoll alone": run_bare,
    "a task of trio's for each socket": run_tasks,
    "one task, registered for good": run_one_task,
}


@contextmanager
def between(run: Way, count: int) -> Iterator[tuple[int, list[Pair]]]:
    """Fork a process that passes on; yield its pid, and the outer end of each socket."""
    ends = [(*socket.socketpair(), *socket.socketpair()) for _ in range(count)]
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(60)  # whatever becomes of the parent
            for app, _, _, compositor in ends:
                app.close()
                compositor.close()
            run([(left, right) for _, left, right, _ in ends])
            status = 0
        finally:
            os._exit(status)
    try:
        for _, left, right, _ in ends:
            left.close()
            right.close()
        yield pid, [(app, compositor) for app, _, _, compositor in ends]
    finally:
        for app, _, _, compositor in ends:
            app.close()
            compositor.close()
        os.waitpid(pid, 0)


def _round_trips(outer: Sequence[Pair], times: int) -> None:
    for _ in range(times):
        for app, _ in outer:
            app.send(REQUEST)
        for _, compositor in outer:
            if compositor.recv(RECEIVE_SIZE) != REQUEST:
                raise ValueError("a request arrived as something else")
        for _, compositor in outer:
            compositor.send(EVENT)
        for app, _ in outer:
            if app.recv(RECEIVE_SIZE) != EVENT:
                raise ValueError("an event arrived as something else")


def measure(
    run: Callable[[Sequence[Pair]], None], count: int, round_trips: int
) -> float:
    """Return the CPU time of a round trip, a message each way, in microseconds.

    Args:
        run: how it is passed on.
        count: pairs of sockets that have something at the same time.
        round_trips: over all pairs.

    Raises:
        ValueError: what was sent is not what arrived.
    """
    with between(run, count) as (pid, outer):
        clock = (~pid << 3) | 2  # the process's CPU time: clock_getcpuclockid(3)
        times = max(1, round_trips // count)
        _round_trips(outer, max(1, WARM_UP // count))
        before = time.clock_gettime(clock)
        _round_trips(outer, times)
        return (time.clock_gettime(clock) - before) * 1e6 / (times * count)


def measure_all(rounds: int, round_trips: int) -> dict[str, list[float]]:
    """Measure each way, in turn in each round: the medians, by `PAIRS`."""
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for count in PAIRS:
            for name, run in WAYS.items():
                cost = measure(run, count, round_trips)
                found.setdefault((name, count), []).append(cost)
    return {
        name: [statistics.median(found[name, count]) for count in PAIRS]
        for name in WAYS
    }


def markdown(found: dict[str, list[float]]) -> str:
    """Write a table: a row for each way."""
    heads = ["CPU of a round trip, µs"]
    heads += [f"{count} ready at once" for count in PAIRS]
    rows = [[name, *map(number, costs)] for name, costs in found.items()]
    return "\n".join(aligned([heads, *rows])) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print the table or put it into a document; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a few messages: does it work?"
    )
    add_into(parser, MARK)
    options = parser.parse_args(arguments)
    rounds, round_trips = (1, max(PAIRS)) if options.quick else (ROUNDS, ROUND_TRIPS)
    return print_table(
        lambda: markdown(measure_all(rounds, round_trips)), options.into, MARK
    )


if __name__ == "__main__":
    sys.exit(main())
