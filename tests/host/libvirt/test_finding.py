"""What stands in the way of a domain's channel and RAM is said before it would fail."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.host.libvirt.domains import PLAIN, SHARED, domain_of, with_elements
from wlproxy.host.channel_address import Listen
from wlproxy.host.errors import HostError
from wlproxy.host.libvirt.finding import Found, find
from wlproxy.host.libvirt.setup import Wanted, adapt

ME, MINE = os.geteuid(), os.getegid()
BOUND = adapt(PLAIN, Wanted(Path("/run/c"), None))
TAPPED = adapt(PLAIN, Wanted(Listen(Path("/w/channel")), Path("/w/ram")))
LISTENING = adapt(PLAIN, Wanted(Listen(Path("/w/channel")), None))


@pytest.fixture
def environ(tmp_path: Path) -> Mapping[str, str]:
    (tmp_path / "wlproxy").mkdir()
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


def test_a_session_has_all(environ: Mapping[str, str]) -> None:
    assert find(domain_of(BOUND), environ, "vm") == Found(Path("/run/c"), None)
    channel = Listen(Path("/w/channel"))
    assert find(domain_of(LISTENING), environ, "vm") == Found(channel, None)


def test_the_systems_has_a_tap(environ: Mapping[str, str], tmp_path: Path) -> None:
    theirs = domain_of(TAPPED, owner=(1, 1) if ME == 0 else (0, 0))
    with pytest.raises(HostError, match="and none runs") as caught:
        find(theirs, environ, "vm")
    assert "wlproxy ram-tap --name vm --socket /w/ram --group " in caught.value.remedy
    table = tmp_path / "wlproxy" / "vm.ram"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as tap:
        tap.bind(str(table))
        found = find(theirs, environ, "vm")
    assert found.ram_tap == table
    assert isinstance(found.channel, Listen)
    assert found.channel.group in ("daemon", "root", "1", "0")


@pytest.mark.parametrize(
    ("text", "changes", "problem", "remedy"),
    [
        (PLAIN, {}, "does not share its RAM", "wlproxy setup --libvirt vm.1"),
        (
            with_elements(domain=SHARED),
            {},
            "has no channel for us",
            "wlproxy setup --libvirt vm.1 --connect qemu:///session",
        ),
        (
            BOUND.replace("path='/run/c'", ""),
            {},
            "libvirt says when it runs",
            "Start it",
        ),
        (
            BOUND.replace(
                "<source type='memfd'/>", "<hugepages/><source type='memfd'/>"
            ),
            {},
            "has huge pages",
            "virsh edit",
        ),
        # The spike's L9: libvirt makes the socket for QEMU's user.
        (
            BOUND,
            {"owner": (ME + 1, MINE + 1), "running": True},
            "cannot connect to it",
            "shut it down and start it",
        ),
        # L10: another user, whatever the groups.
        (
            LISTENING,
            {"owner": (ME + 1, MINE)},
            "being in its group does not help",
            "Have a tap told",
        ),
        # L11: the user alone is the same.
        (
            LISTENING,
            {"owner": (ME, MINE + 1)},
            "the kernel wants both to be the same",
            f'group = "+{MINE}"',
        ),
        # L13: a label of its own.
        (
            LISTENING.replace(
                "  <devices>",
                "  <seclabel type='static' model='dac' relabel='yes'>"
                "<label>+1001:+993</label></seclabel>\n  <devices>",
            ),
            {"owner": (1001, 993)},
            "does not start",
            "Take the <seclabel model='dac'> out",
        ),
        (
            LISTENING.replace(
                "  <devices>",
                "  <cpu><numa><cell/><cell/></numa></cpu>\n  <devices>",
            ),
            {},
            "is in pieces",
            "with --ram-tap",
        ),
        (
            LISTENING.replace("  <devices>", "  <devices><memory model='dimm'/>"),
            {},
            "is in pieces",
            "with --ram-tap",
        ),
    ],
    ids=[
        *("private", "no-channel", "no-path", "huge-pages"),
        *("socket", "user", "group", "label", "nodes", "dimm"),
    ],
)
def test_what_stands_in_the_way(
    environ: Mapping[str, str],
    text: str,
    changes: dict[str, object],
    problem: str,
    remedy: str,
) -> None:
    with pytest.raises(HostError, match=problem) as caught:
        find(domain_of(text, **changes), environ, "vm")
    assert remedy in caught.value.remedy


def test_user_and_group_the_same_is_enough(environ: Mapping[str, str]) -> None:
    """L12."""
    assert find(domain_of(BOUND, owner=(ME, MINE)), environ, "vm").ram_tap is None
