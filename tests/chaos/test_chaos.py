"""A short chaos: every kind of fault once, natively, always in the same order."""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.chaos.accounting import Usage, kind_of, name_of
from tests.chaos.faults import Fault
from tests.chaos.rounds import Chaos, Round, describe, plan
from tests.chaos.stage import NativeStage, Role, can_run, native_stage

ROUNDS = [
    *((role, Fault.STOP) for role in Role),
    *(
        (role, fault)
        for role in (Role.AGENT, Role.PROXY)
        for fault in (Fault.EMFILE, Fault.ENOMEM, Fault.ENOSPC)
    ),
    *((role, Fault.KILL) for role in (Role.APP, Role.AGENT, Role.PROXY)),
    (Role.COMPOSITOR, Fault.KILL),
]


@pytest.fixture(scope="module")
def stage() -> Iterator[NativeStage]:
    if not can_run("weston"):
        pytest.skip("needs weston, setpriv and prlimit: apt-get install weston")
    with native_stage("weston") as stage:
        yield stage


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_what_is_broken_is_all_that_breaks(stage: NativeStage) -> None:
    said: list[str] = []
    rounds = [
        Round(number, role, fault, 0.1, 0.2, slack=6, newcomers=(0, 2), also=None)
        for number, (role, fault) in enumerate(ROUNDS, start=1)
    ]

    outcomes = Chaos(stage, said.append).run(rounds)

    bad = [describe(each) for each in outcomes if not each.good]
    assert not bad, "\n".join([*bad, *said])
    killed = [each for each in outcomes if each.round.fault is Fault.KILL]
    assert all(each.ended == [each.round.target] for each in killed)
    spared = [each for each in outcomes if each.round.spares_apps]
    assert all(each.honest == "went on" for each in spared)
    assert all(each.survivors == 3 for each in spared)


def test_the_seed_alone_decides() -> None:
    assert plan(7, 50) == plan(7, 50)
    assert plan(7, 50) != plan(8, 50)
    assert {(each.target, each.fault) for each in plan(7, 20)} == {
        (role, fault) for role in Role for fault in Fault
    }


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        ("socket:[123]", "socket"),
        ("pipe:[123]", "pipe"),
        ("/memfd:wlproxy (deleted)", "memfd"),
        ("/dmabuf:", "dmabuf"),
        ("anon_inode:[eventpoll]", "eventpoll"),
        ("anon_inode:gem-locate", "gem-locate"),
        ("/dev/gem-locate", "gem-locate"),
        ("/dev/null", "device"),
        ("/run/x/log", "file"),
    ],
)
def test_fds_are_told_apart(link: str, kind: str) -> None:
    assert kind_of(link) == kind


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("wlproxy-3rlsw4l1", "wlproxy-*"),
        ("wlproxy-context-3rlsw4l1", "wlproxy-context-*"),
        ("wlproxy-context-_r_sw4l1/wayland", "wlproxy-context-*/wayland"),
        ("wayland-0", "wayland-0"),
    ],
)
def test_files_with_random_names_are_of_one_kind(path: str, name: str) -> None:
    assert name_of(path) == name


def test_what_is_above_rest_is_what_is_left() -> None:
    rest = Usage(Counter(socket=3, pipe=1), 1, 20 << 20, 0, Counter({"wayland-0": 1}))
    now = Usage(Counter(socket=2, pipe=3), 9, 50 << 20, 0, Counter({"x": 1}))
    assert now.above(rest) == {"fd pipe": 2, "file x": 1, "MiB": 30}
    assert not rest.above(rest)
