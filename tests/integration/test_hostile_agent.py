"""An agent that lies, babbles or stops mid-frame loses its session, and nothing else."""

import signal
from collections.abc import Callable, Iterator

import pytest

from tests.clients.hostile_agent import LIES
from tests.integration import harness
from tests.integration.harness import (
    Compositor,
    GuestSide,
    PatternClient,
    Proxy,
    ProxySlot,
    eventually,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(240)]

MIB = 1 << 20
PORT = "/dev/virtio-ports/org.wlproxy.0"
SILENT = "silent"
LIAR = "tests.clients.hostile_agent"


@pytest.fixture
def liar(guest_side: GuestSide) -> GuestSide:
    """The guest with a lying agent in it; other tests here start the honest one."""
    if guest_side.agent_module != LIAR:
        guest_side.stop_agent()
        guest_side.start_agent(LIAR)
    return guest_side


@pytest.fixture(scope="module", autouse=True)
def honest_again(guest_side: GuestSide) -> Iterator[None]:
    """Leave the guest with the agent that it had."""
    yield
    guest_side.stop_agent()
    guest_side.start_agent()


@pytest.fixture(scope="module")
def proxy(proxy_slot: ProxySlot, sway: Compositor) -> Proxy:
    """A proxy; not on weston, whose kiosk shell does not survive all this.

    14.0.2 crashes as a window opens (NULL in a list of kiosk-shell.so) after another
    had gone that was there for a while without ever showing anything.
    """
    return proxy_slot.use(sway)


def show_one(client: PatternClient, frame: int) -> None:
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=300 * 256 * 4, scatter=frame)
    client.call("buffer", buffer="one", pool="pool", width=300, height=256)
    client.show("window", "one", frame)


@pytest.mark.parametrize("lie", sorted(LIES.keys() - {SILENT}))
def test_a_lie_about_pages_ends_the_session(
    proxy: Proxy, liar: GuestSide, new_client: Callable[[], PatternClient], lie: str
) -> None:
    proxy.wait_state("serving")
    proxy.wait_no_clients()
    sessions = proxy.status()["metrics"]["sessions"]
    fds, memory = harness.fd_count(proxy.pid), harness.rss(proxy.pid)
    liar.guest.put("/run/lie", lie.encode())
    client = new_client()
    client.call("connect")
    with pytest.raises(harness.ClientError, match=r"wayland|disconnected"):
        show_one(client, 1)

    liar.guest.put("/run/lie", b"")
    eventually(
        lambda: proxy.status()["metrics"]["sessions"] > sessions, "a new session"
    )
    proxy.wait_state("serving")
    honest = new_client()
    show_one(honest, 2)
    proxy.compositor.wait_shows(300, 256, 2)
    honest.kill()
    proxy.wait_no_clients()
    eventually(lambda: harness.fd_count(proxy.pid) <= fds, "no fd is left behind")
    assert harness.rss(proxy.pid) < memory + 64 * MIB


def test_an_answer_that_never_comes_stalls_only_who_waits_for_it(
    proxy: Proxy, liar: GuestSide, new_client: Callable[[], PatternClient]
) -> None:
    proxy.wait_state("serving")
    proxy.wait_no_clients()
    sessions = proxy.status()["metrics"]["sessions"]
    liar.guest.put("/run/lie", SILENT.encode())
    waiting = new_client()
    waiting.call("toplevel", surface="window")
    waiting.call("pool", pool="pool", size=300 * 256 * 4)
    waiting.call("buffer", buffer="one", pool="pool", width=300, height=256)
    waiting.call("show", surface="window", buffer="one", wait=False)
    eventually(lambda: "silent" in liar.agent_log(), "the agent keeps silent")
    liar.guest.put("/run/lie", b"")

    other = new_client()
    show_one(other, 4)
    proxy.compositor.wait_shows(300, 256, 4)
    assert len(proxy.status()["clients"]) == 2
    waiting.kill()
    other.kill()
    proxy.wait_no_clients()
    assert proxy.status()["metrics"]["sessions"] == sessions


@pytest.mark.parametrize(
    "script",
    [
        "import os; w(os.urandom(1 << 18))",
        # The header of a Data frame of client 1 that goes on for 60000 bytes, or not.
        "import struct; w(struct.pack('<IHHI', 60000, 32, 0, 1) + bytes(1000))",
        # The longest that a header can say.
        "w(b'\\xff' * 12)",
    ],
    ids=["noise", "half a frame", "an endless frame"],
)
def test_what_an_agent_left_in_the_wire_is_survived(
    proxy: Proxy,
    guest_side: GuestSide,
    new_client: Callable[[], PatternClient],
    script: str,
) -> None:
    """The agent is killed; something else babbles on its port; then it is back."""
    proxy.wait_state("serving")
    proxy.wait_no_clients()
    fds = harness.fd_count(proxy.pid)
    assert guest_side.agent is not None
    agent_fds = guest_side.fd_count(guest_side.agent)
    old = new_client()
    old.call("connect")
    guest_side.stop_agent(signal.SIGKILL)
    program = (
        f"import os; f = os.open('{PORT}', os.O_RDWR)\n"
        "def w(data):\n"
        "    while data: data = data[os.write(f, data):]\n"
        f"{script}"
    )
    done = guest_side.guest.run(["python3", "-c", program])
    sessions = proxy.status()["metrics"]["sessions"]
    agent = guest_side.start_agent()
    assert done.ok, done.stderr

    eventually(
        lambda: (
            proxy.status()["metrics"]["sessions"] > sessions
            or proxy.status()["state"] == "serving"
        ),
        "a new session",
    )
    proxy.wait_state("serving")
    proxy.wait_no_clients()
    show_one(new := new_client(), 3)
    proxy.compositor.wait_shows(300, 256, 3)
    new.kill()
    proxy.wait_no_clients()
    assert proxy.process.poll() is None
    eventually(lambda: harness.fd_count(proxy.pid) <= fds, "the proxy's fds are closed")
    eventually(
        lambda: 0 < guest_side.fd_count(agent) <= agent_fds,
        "the agent's fds are closed",
    )
