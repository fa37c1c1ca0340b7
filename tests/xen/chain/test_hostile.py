"""A domain whose agent lies about what it has granted: it alone bears what comes of it.

Beside it another domain is shown, on the same compositor, and an honest app of its own.
"""

import json
from collections.abc import Iterator

import pytest

from lab import xen_guest
from tests.clients.xen_liar import LIES
from tests.integration.harness import ClientError, PatternClient, eventually
from tests.xen import gntdev
from tests.xen.chain.stage import PATIENCE, PORT, Shown, Stage, add_buffer
from tests.xen.domain import PAGE

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

SIZE, HONEST, OWN = (128, 64), (256, 192), (192, 64)
APPS = ("never granted", "another domain's", "revoked before", "read-only")
"""What Xen refuses to map: the compositor ends who wanted it mapped."""
SESSIONS = ("repeated", "a million", "beyond the table", "Xen's own")
"""What no honest agent says: its session ends, and begins anew."""


def test_every_lie_is_told() -> None:
    assert {*APPS, *SESSIONS, "revoked while shown"} == {*LIES}


@pytest.fixture(scope="module")
def honest(stage: Stage) -> Iterator[tuple[Shown, PatternClient]]:
    """Another domain's app, which shows something all the time."""
    shown = stage.show("pv", "tiles")
    shown.domain.python("""
at, fd = device(), memfd(64 * PAGE)
granted, result = grant(at, fd, 0, 64 * PAGE)
""")
    client = shown.show(HONEST)
    yield shown, client
    client.kill()
    shown.domain.python("for each in granted, fd, at: os.close(each)")
    shown.settle()


@pytest.fixture(scope="module")
def liar(stage: Stage) -> Iterator[Shown]:
    """The domain with a lying agent in it."""
    stage.domains["pvh"].shell("modprobe xen-gntalloc; rm -f /run/lie")
    shown = stage.show("pvh", "tiles")
    options = "--port", PORT
    stage.start_agent("pvh", "tests.clients.xen_liar", *options, privileged=True)
    yield shown
    shown.side.stop_agent()


def goes_on(honest: tuple[Shown, PatternClient], frame: int) -> None:
    shown, client = honest
    shown.show_again(client, HONEST, frame)
    assert shown.window()["mode"] == "A"


def lie(shown: Shown, what: str) -> PatternClient:
    """Have an app that is lied about show something."""
    client = shown.side.client()
    client.call("toplevel", surface="window", fullscreen=False)
    add_buffer(client, "one", SIZE)
    shown.guest.put("/run/lie", what.encode())
    with pytest.raises(ClientError, match=r"wayland|disconnected"):
        client.show("window", "one", 1)
    shown.guest.put("/run/lie", b"")
    return client


@pytest.mark.parametrize("what", APPS)
def test_what_xen_does_not_map_ends_the_app(
    liar: Shown, honest: tuple[Shown, PatternClient], what: str
) -> None:
    compositor = liar.compositor.pid()
    other, _ = honest
    refs = other.domain.python("result = runs(granted, 64)")
    listed = [ref for first, count in refs for ref in range(first, first + count)]
    liar.guest.put("/run/refs", json.dumps(listed).encode())
    friend = liar.show(OWN)
    sessions = liar.proxy.status()["metrics"]["sessions"]

    lie(liar, what).kill()

    # Its neighbour is served on, by the same session; and the other domain.
    friend.show("window", "one", 2)
    assert liar.proxy.status()["metrics"]["sessions"] == sessions
    assert liar.compositor.process.poll() is None  # type: ignore[union-attr]
    assert liar.compositor.pid() == compositor
    friend.kill()
    liar.proxy.wait_no_clients()
    goes_on(honest, 2 + APPS.index(what))
    mapped = gntdev.mapped_bytes(compositor)
    assert mapped == HONEST[0] * HONEST[1] * 4


@pytest.mark.parametrize("what", SESSIONS)
def test_what_cannot_be_ends_the_session(
    liar: Shown, honest: tuple[Shown, PatternClient], what: str
) -> None:
    sessions = liar.proxy.status()["metrics"]["sessions"]

    lie(liar, what).kill()

    eventually(
        lambda: liar.proxy.status()["metrics"]["sessions"] > sessions,
        "a new session",
        PATIENCE,
    )
    liar.proxy.wait_state("serving", PATIENCE)
    friend = liar.show(OWN)
    assert liar.window()["mode"] == "A"
    friend.kill()
    liar.proxy.wait_no_clients()
    goes_on(honest, 10 + SESSIONS.index(what))


def test_what_is_revoked_while_it_is_shown_stays_right(
    liar: Shown, honest: tuple[Shown, PatternClient]
) -> None:
    """The module keeps it for as long as it is mapped, whatever the agent closes."""
    friend = liar.show(OWN)
    liar.guest.put("/run/lie", b"revoked while shown")
    other = liar.side.client()
    other.call("toplevel", surface="window", fullscreen=False)
    add_buffer(other, "one", SIZE)
    other.show("window", "one", 1)  # which makes it close what it had granted
    liar.guest.put("/run/lie", b"")
    assert liar.domain.counts()[3] >= OWN[0] * OWN[1] * 4 // PAGE

    liar.show_again(friend, OWN, 5)
    for client in (friend, other):
        client.kill()
    liar.proxy.wait_no_clients()
    goes_on(honest, 20)
    eventually(lambda: liar.domain.counts()[1] <= 1, "all is let go", PATIENCE)
