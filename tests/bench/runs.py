"""Results of runs that never took place, for tests of what is made of them."""

from bench.results import Results

MACHINE = {
    "processor": "Abacus, 2 cores",
    "memory": "8 MiB",
    "kernel": "6.1",
    "virtual": "no",
    "python": "3.11.2",
    "trio": "0.30",
    "weston": "weston 14.0.1",
    "waypipe": "waypipe 0.10",
    "wlproxy": "abc123",
}


def results(**options: str) -> Results:
    how = {"rounds": "3", "quick": "no", "began": "today", **options}
    return Results(dict(MACHINE), how)


def add(
    into: Results, workload: str, peer: str, figure: str, *samples: float
) -> Results:
    into.about[workload] = ("frame", "something")
    for sample in samples:
        into.add(workload, peer, {figure: sample})
    return into
