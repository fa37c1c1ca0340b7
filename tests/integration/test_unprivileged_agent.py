"""The agent as its units run it where the module is loaded: no privilege, and no copy.

The lab's guest boots anew, with systemd: the agent runs in the hardened unit,
with the drop-in that takes its last capability.  That the wheel installs, and what else
its units do, is seen in `test_native_guest`, where nothing can be zero-copy; here the
wheel's files are linked to where it puts them.
"""

import time
from collections.abc import Iterator

import pytest

from lab import guest_agent, nested
from lab.guest import Guest
from tests.integration import harness
from tests.integration.harness import (
    GUEST_TREE,
    TREE,
    WESTON_GL,
    WESTON_PIXMAN,
    Compositor,
    GuestSide,
    ProxySlot,
    eventually,
)
from tests.integration.native import (
    DISPLAY,
    SERVICE,
    SOCKET,
    USER,
    NativeGuest,
    documented_commands,
)

pytestmark = [pytest.mark.guest, pytest.mark.timeout(450)]

MODES = {"A": WESTON_PIXMAN, "B": WESTON_GL}
WIDTH, HEIGHT, STRIDE = 333, 251, 1536
"""Rows of the pool that any GPU takes."""
DMABUF = {"width": 256, "height": 126}
NO_RIGHTS = ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")

INSTALL = f"""\
site=$(echo /usr/local/lib/python3.*/dist-packages)
ln -s {GUEST_TREE}/wlproxy_guest {GUEST_TREE}/wlproxy "$site"
printf '#!/usr/bin/python3\\nimport sys\\nfrom wlproxy_guest.cli import main\\nsys.exit(main())\\n' \\
    >/usr/local/bin/wlproxy-guest-agent
chmod 755 /usr/local/bin/wlproxy-guest-agent
"""


@pytest.fixture(scope="module")
def native() -> Iterator[NativeGuest]:
    """A guest in which docs/guest.md was followed, also for the module."""
    # In the place of the lab's, which this powers off: one is all that it bears.
    machine = nested.in_lab().replace(init="systemd")
    with Guest(machine) as guest:
        began = time.monotonic()
        guest.boot(attempts=1)
        print(f"systemd has booted in {time.monotonic() - began:.0f} s")
        native = NativeGuest(guest)
        GuestSide(guest).ship()
        native.shell(INSTALL)
        guest.put_directory(guest_agent.SYSTEMD, "/usr/local/share/wlproxy/systemd")
        document = TREE / "docs" / "guest.md"
        _apt, _installer, *units = documented_commands(
            document, "## Without the package"
        )
        native.shell("\n".join(units))
        drop_in = documented_commands(document, "## With the kernel module")
        native.shell("\n".join(drop_in))
        print(f"the agent is up after {time.monotonic() - began:.0f} s")
        yield native
        print(native.journal())
        guest.power_off()


@pytest.fixture(scope="module")
def side(native: NativeGuest) -> GuestSide:
    """Where that guest's clients come from."""
    return GuestSide(native.guest)


@pytest.fixture(scope="module")
def slot() -> Iterator[ProxySlot]:
    """The one proxy."""
    slot = ProxySlot(harness.OUT)
    yield slot
    slot.stop()


@pytest.mark.parametrize("mode", sorted(MODES))
def test_its_windows_are_shown_without_a_copy(
    native: NativeGuest, side: GuestSide, slot: ProxySlot, mode: str
) -> None:
    """A pool and dumb buffers of virtio-gpu, every pixel, and nobody was privileged."""
    proxy = slot.use(MODES[mode])
    pid = check_rights(native)
    client = side.client(DISPLAY)
    client.call("toplevel", surface="window")
    client.call("pool", pool="pool", size=2 * STRIDE * HEIGHT, scatter=1)
    shape = {"width": WIDTH, "height": HEIGHT, "stride": STRIDE}
    for name, offset in (("b0", 0), ("b1", STRIDE * HEIGHT)):
        client.call("buffer", buffer=name, pool="pool", offset=offset, **shape)
    for frame in range(1, 5):
        client.show("window", f"b{frame % 2}", frame)
        proxy.compositor.wait_shows(WIDTH, HEIGHT, frame)
    assert proxy.surface()["mode"] == mode, proxy.surface()["reason"]

    for name in ("d0", "d1"):
        client.call("allocate", memory=name, exporter="virtio_gpu", **DMABUF)
        planes = [{"memory": name}]
        assert client.call("import", buffer=name, planes=planes, **DMABUF) == "created"
    for frame in range(5, 9):
        client.show("window", f"d{frame % 2}", frame)
        proxy.compositor.wait_shows(DMABUF["width"], DMABUF["height"], frame)
    surface = proxy.surface()
    assert {each: surface[each] for each in DMABUF} == DMABUF
    assert surface["mode"] == mode, surface["reason"]

    assert proxy.copied() == 0
    assert check_rights(native) == pid, "it was started again meanwhile"
    client.kill()
    proxy.wait_no_clients()


def test_foots_server_makes_names_of_the_display(
    native: NativeGuest, slot: ProxySlot, sway: Compositor
) -> None:
    """A socket of its own, named for WAYLAND_DISPLAY, and from it a client's window."""
    proxy = slot.use(sway)
    native.shell(f"loginctl enable-linger {USER}")
    login = ["su", "-l", USER, "-c"]
    server = native.guest.spawn([*login, "exec foot --server"], log="/run/foot.log")

    def listens() -> bool:
        assert native.guest.alive(server), native.guest.get("/run/foot.log")
        path = "/run/user/1000/foot-wlproxy-0.sock"
        return native.guest.run(["test", "-S", path]).ok

    eventually(listens, "foot's server listens", 180)
    window = native.guest.spawn([*login, "exec footclient cat"], log="/run/client.log")
    eventually(proxy.surfaces, "its window", 120)
    assert native.guest.alive(window), native.guest.get("/run/client.log")
    assert "foot" in proxy.surface()["label"]
    assert proxy.copied() == 0
    native.guest.kill(server)
    proxy.wait_no_clients()


def check_rights(native: NativeGuest) -> int:
    """Check that the service has none; returns its process id."""
    for unit in (SOCKET, SERVICE):
        assert native.state(unit) == "active"
    pid = native.main_pid()
    text = native.guest.get(f"/proc/{pid}/status").decode()
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    for name in NO_RIGHTS:
        assert int(status[name], 16) == 0, name
    assert status["Uid"].split() == [native.shell("id -u wlproxy").strip()] * 4
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert "gem-locate" in native.shell(f"ls -l /proc/{pid}/fd")
    return pid
