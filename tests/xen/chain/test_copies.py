"""Mode C, a proxy without rights, and how agent and proxy find each other."""

import os

import pytest

from lab import guest_agent, ordinary_user, xen_guest
from tests.xen import gntdev
from tests.xen.chain.stage import Stage

pytestmark = [
    pytest.mark.xen,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not xen_guest.in_dom0(), reason="needs Xen's dom0"),
]

SIZE = 640, 480
COPIES = "--present", "c"


def test_copies_by_choice(stage: Stage) -> None:
    """The proxy maps the pages itself, in a thread, and the compositor none of them."""
    shown = stage.show("pvh", "small", *COPIES)
    client = shown.show(SIZE)
    shown.show_again(client, SIZE, 2)

    surface = shown.window()
    assert surface["mode"] == "C", surface
    assert surface["bytes_copied"] >= 2 * SIZE[0] * SIZE[1] * 4
    # Once for each memory that it copies into.
    whole, rest = divmod(gntdev.mapped_bytes(shown.proxy.pid), SIZE[0] * SIZE[1] * 4)
    assert (whole in (1, 2), rest) == (True, 0)
    assert not gntdev.mapped_bytes(shown.compositor.pid())
    client.kill()
    shown.settle()


def test_a_proxy_without_rights(stage: Stage) -> None:
    """Its fds are another process's; it finds the domain by QEMU's command line."""
    shown = stage.show("pvh", "tiles", *COPIES)
    with open(f"/proc/{shown.proxy.pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    assert fields["Uid"].split()[1] == str(ordinary_user.NOBODY)
    assert int(fields["CapEff"], 16) == 0
    assert os.stat(gntdev.DEVICE).st_mode & 0o077 == 0
    assert f"Xen's domain {shown.domain.domid}" in shown.proxy.log()

    client = shown.show(SIZE)
    assert shown.window()["mode"] == "C"
    assert gntdev.mapped_bytes(shown.proxy.pid) == SIZE[0] * SIZE[1] * 4
    client.kill()
    shown.settle()


def test_an_agent_finds_the_channel_in_xenstore(stage: Stage) -> None:
    """It is told nothing, and may read XenStore, as root."""
    shown = stage.show("pvh")
    agent = stage.start_agent("pvh", "wlproxy_guest", privileged=True)
    assert guest_agent.privileges(shown.guest, agent)[0] == 0
    target = shown.domain.shell(f"ls -l /proc/{agent}/fd; true")
    assert "/dev/hvc1" in target
    client = shown.show((64, 64))
    assert shown.window()["mode"] == "A"
    client.kill()
    shown.settle()
    shown.side.stop_agent()  # the next one has no rights again
