"""Agent and proxy joined by a vchan: pixels, and each of the four processes killed; a domain that ends."""

import contextlib
import random
import signal
import subprocess
from collections.abc import Iterator

import pytest

from lab import nested, ordinary_user, xen_guest
from tests.integration.harness import GUEST_TREE, eventually
from tests.xen import gntdev
from tests.xen.chain.stage import PATIENCE, Shown, Stage
from tests.xen.chain.vchan import GUEST_SOCKET, Joined, bare, count_sessions, exactly
from tests.xen.domain import PAGE, Domain, domids

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

SIZE = 640, 480
PAGES = -(-SIZE[0] * SIZE[1] * 4 // PAGE)
BACK = f"""
import socket, threading
def send_back():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect({GUEST_SOCKET!r})
    with connection:
        while data := connection.recv(65536): connection.sendall(data)
threading.Thread(target=send_back, daemon=True).start()
"""
CONNECT = f"""
import socket
kept["connection"] = socket.socket(socket.AF_UNIX)
kept["connection"].connect({GUEST_SOCKET!r})
"""
HANG_UP = 'kept.pop("connection").close()'
# What another program than ours may write into the page that both have mapped: how far the rings have been
# read and written, and their sizes.
HOSTILE = f"""
import ctypes, os, sys, time
sys.path.insert(0, {GUEST_TREE!r})
from wlproxy.transport.vchan import Library
vchan = Library().serve(0, "data/wlproxy")
ring, deadline = vchan._control.contents.ring, time.monotonic() + 60
cli_live = ctypes.c_uint8.from_address(ring + 20)
while cli_live.value == 2 and time.monotonic() < deadline: time.sleep(0.01)
result = cli_live.value
for _ in range(2000):
    ctypes.memmove(ring, os.urandom(20), 20)
    vchan._calls.libxenvchan_write(vchan._control, b"noise", 5)
vchan.close()
"""


@pytest.fixture(scope="module")
def joined(stage: Stage) -> Iterator[Joined]:
    stage.stop_proxy("pvh")
    side = stage.side("pvh")
    side.stop_agent()
    where = stage.compositor("tiles"), stage.lend("pvh")
    made = Joined("pvh", stage.domains["pvh"], side, *where)
    yield made
    made.close()


@pytest.fixture
def shown(joined: Joined) -> Iterator[Shown]:
    found = joined.shown()
    found.settle()
    yield found
    found.side.kill_clients()
    joined.shown().settle()


@pytest.fixture
def unused(joined: Joined) -> Joined:
    """A vchan that no agent and no proxy uses."""
    if joined.proxy is not None:
        joined.proxy.stop()
    joined.side.stop_agent()
    joined.join()
    return joined


def test_every_pixel_is_shown_and_none_copied(shown: Shown) -> None:
    client = shown.show(SIZE)
    shown.show_again(client, SIZE, 2)
    surface = shown.window()
    assert (surface["mode"], surface["bytes_copied"]) == ("A", 0), surface
    assert shown.proxy.copied() == 0
    mapped = gntdev.mapped_bytes(shown.compositor.pid())
    assert PAGES * PAGE <= mapped <= (PAGES + 1) * PAGE
    # The proxy has been told no number, and has no right to anything of Xen's.
    with open(f"/proc/{shown.proxy.pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    assert fields["Uid"].split()[1] == str(ordinary_user.NOBODY)
    assert int(fields["CapEff"], 16) == 0
    assert f"Xen's domain {shown.domain.domid}" in shown.proxy.log()
    assert not gntdev.mapped_bytes(shown.proxy.pid)
    client.kill()


def test_the_agent_is_killed(shown: Shown, joined: Joined) -> None:
    sessions = count_sessions(shown.proxy)
    app = shown.show(SIZE)
    shown.side.stop_agent(signal.SIGKILL)
    # It is told at once: its apps go, and no ping has to be missed.
    eventually(lambda: not shown.proxy.status()["clients"], "apps are gone", 20)
    app.kill()
    joined.shown()
    joined.wait_for_another_session(sessions)
    shown.show(SIZE, 3).kill()


def test_the_proxy_is_killed(shown: Shown, joined: Joined) -> None:
    app = shown.show(SIZE)
    shown.proxy.process.kill()
    shown.proxy.process.wait()
    eventually(
        lambda: "the host has gone" in shown.side.agent_log(), "it is told", PATIENCE
    )
    app.kill()
    following = joined.shown()
    assert following.proxy.pid != shown.proxy.pid
    following.show(SIZE, 3).kill()


@pytest.mark.parametrize("where", ["domU", "dom0"])
def test_a_process_of_roots_is_killed(shown: Shown, joined: Joined, where: str) -> None:
    sessions = count_sessions(shown.proxy)
    app = shown.show(SIZE)
    if where == "domU":
        joined.kill_in_guest()
    else:
        joined.kill_in_dom0()
    eventually(lambda: not shown.proxy.status()["clients"], "apps are gone", 20)
    app.kill()
    joined.join()
    joined.wait_for_another_session(sessions)
    shown.show(SIZE, 4).kill()


def test_bytes_both_ways(unused: Joined) -> None:
    sent = random.Random(1).randbytes(1 << 20)
    unused.domain.python(BACK)
    with unused.connected() as connection:
        got = bytearray()
        for start in range(0, len(sent), 100_000):
            piece = sent[start : start + 100_000]
            connection.sendall(piece)
            got += exactly(connection, len(piece))
    assert got == sent


def test_who_reads_nothing_stops_who_sends_to_it_alone(unused: Joined) -> None:
    unused.domain.python(CONNECT)
    with unused.connected() as connection:
        connection.settimeout(5)
        with contextlib.suppress(TimeoutError):
            while True:
                connection.send(bytes(65536))
    # The next one is served, by another vchan.
    unused.domain.python(HANG_UP)
    test_bytes_both_ways(unused)


def test_what_one_wrote_the_next_does_not_read(unused: Joined) -> None:
    unused.domain.python(CONNECT)
    with unused.connected() as connection:
        connection.sendall(b"of the first")
        unused.domain.python('assert kept["connection"].recv(5) == b"of th"')
    unused.domain.python(HANG_UP)
    unused.domain.python(BACK)
    with unused.connected() as connection:
        connection.sendall(b"of the second")
        assert exactly(connection, 13) == b"of the second"


def test_a_domain_that_writes_over_the_rings(unused: Joined) -> None:
    """The library takes no position that cannot be (XSA-86); what it costs is this one channel."""
    unused.kill_in_guest()
    helper = unused.in_dom0
    assert helper is not None
    with unused.connected() as connection:
        connection.sendall(b"hello")
        assert unused.domain.python(HOSTILE) == 1
        connection.settimeout(PATIENCE)
        while connection.recv(1 << 16):  # noise, until it hangs up
            pass
    assert helper.poll() is None, unused.logs()
    unused.join()
    test_bytes_both_ways(unused)


def test_bytes_both_ways_in_a_pv_domain(stage: Stage) -> None:
    joined = bare("pv", stage.domains["pv"])
    test_bytes_both_ways(joined)
    joined.close()


def test_a_domain_that_is_destroyed() -> None:
    """Xen tells nobody by the event channel; XenStore does."""
    domain = Domain(xen_guest.domu("pvh", directory=nested.RUN / "victim"))
    victim = bare("victim", domain)
    helper = victim.in_dom0
    assert helper is not None
    domain.python(BACK)
    with victim.connected() as connection:
        connection.sendall(b"there")
        assert exactly(connection, 5) == b"there"
        domain.close()
        assert connection.recv(1) == b""
    assert helper.wait(30) == 1
    assert f"no domain {domain.domid}" in victim.log_path.read_text()
    eventually(lambda: domain.domid not in domids(), "it has gone", PATIENCE)
    again = subprocess.run(
        helper.args, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert again.returncode == 1
    assert f"no domain {domain.domid}" in again.stderr
