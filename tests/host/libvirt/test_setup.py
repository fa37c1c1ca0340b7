"""What a domain gets, and that all else stays as it was."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.host.libvirt.domains import PLAIN, SHARED, with_elements
from wlproxy.host.channel_address import Listen
from wlproxy.host.errors import HostError
from wlproxy.host.libvirt.setup import Wanted, adapt

BIND = Wanted(Path("/run/c"), None)
TAPPED = Wanted(Listen(Path("/var/lib/w/channel")), Path("/var/lib/w/ram"))


def lines_gone_and_new(before: str, after: str) -> tuple[set[str], set[str]]:
    old, new = set(before.splitlines()), set(after.splitlines())
    return old - new, new - old


@pytest.mark.parametrize("wanted", [BIND, TAPPED])
def test_a_plain_domain_only_gains(wanted: Wanted) -> None:
    after = adapt(PLAIN, wanted)
    gone, _ = lines_gone_and_new(PLAIN, after)
    assert gone == set()
    kept = iter(after.splitlines())
    assert all(line in kept for line in PLAIN.splitlines()), "in order"
    root = ET.fromstring(after)
    assert root.find("memoryBacking/source[@type='memfd']") is not None
    assert root.find("memoryBacking/access[@mode='shared']") is not None
    names = [each.get("name") for each in root.iterfind("devices/channel/target")]
    assert names == ["org.qemu.guest_agent.0", "org.wlproxy.0"]
    targets = [each.get("dev") for each in root.iterfind("devices/disk/target")]
    assert targets == (["vda"] if wanted is BIND else ["vda", "vdz"])
    assert adapt(after, wanted) == after


@pytest.mark.parametrize(
    ("backing", "expected"),
    [
        ("  <memoryBacking/>\n", SHARED),
        ("  <memoryBacking>\n  </memoryBacking>\n", SHARED),
        (
            "  <memoryBacking>\n    <nosharepages/>\n  </memoryBacking>\n",
            SHARED.replace("    <source", "    <nosharepages/>\n    <source"),
        ),
        (SHARED.replace("memfd", "file").replace("shared", "private"), SHARED),
        (SHARED, SHARED),
    ],
)
def test_memory_that_is_backed_already(backing: str, expected: str) -> None:
    before = with_elements(domain=backing)
    after = adapt(before, BIND)
    assert with_elements(domain=expected, text="  <vcpu").strip() in after
    assert after.count("<memoryBacking") == 1
    assert adapt(after, BIND) == after


def test_nodes_with_memory_of_their_own() -> None:
    cell = "  <cpu><numa><cell id='0' memory='1' memAccess='private'/></numa></cpu>\n"
    before = with_elements(domain=SHARED + cell)
    gone, new = lines_gone_and_new(before, adapt(before, BIND))
    assert gone == {cell.rstrip()}
    assert cell.replace("private", "shared").rstrip() in new


def test_huge_pages_do_not_go_with_it() -> None:
    backing = "  <memoryBacking><hugepages/></memoryBacking>\n"
    with pytest.raises(HostError, match="huge pages"):
        adapt(with_elements(domain=backing), BIND)


def test_a_channel_of_ours_is_moved() -> None:
    bound = adapt(PLAIN, BIND)
    gone, new = lines_gone_and_new(bound, adapt(bound, TAPPED))
    assert gone == {"      <source mode='bind' path='/run/c'/>"}
    assert "      <source mode='connect' path='/var/lib/w/channel'>" in new
    assert "        <reconnect enabled='yes' timeout='1'/>" in new
    back = adapt(adapt(bound, TAPPED), BIND)
    assert ET.fromstring(back).find("devices/channel/source[@mode='bind']") is not None


def test_a_channel_that_says_more_stays() -> None:
    """As a running domain's does, and one with a label of its own."""
    tapped = adapt(PLAIN, TAPPED)
    more = tapped.replace("timeout='1'/>\n", "timeout='1'/>\n<seclabel model='dac'/>\n")
    assert adapt(more, TAPPED) == more


def test_a_channel_without_a_source_gets_one() -> None:
    channel = (
        "    <channel type='unix'>\n"
        "      <target type='virtio' name='org.wlproxy.0'/>\n"
        "    </channel>\n"
    )
    before = with_elements(domain=SHARED, devices=channel)
    gone, new = lines_gone_and_new(before, adapt(before, BIND))
    assert (gone, new) == (set(), {"      <source mode='bind' path='/run/c'/>"})


def test_a_channel_of_another_kind() -> None:
    channel = "    <channel type='pty'><target name='org.wlproxy.0'/></channel>\n"
    with pytest.raises(HostError, match="no Unix socket"):
        adapt(with_elements(devices=channel), BIND)


def test_a_tap_that_is_elsewhere() -> None:
    tapped = adapt(PLAIN, TAPPED)
    moved = adapt(tapped, Wanted(TAPPED.channel, Path("/elsewhere/ram")))
    assert moved == tapped.replace("/var/lib/w/ram", "/elsewhere/ram")


def test_a_name_that_is_taken() -> None:
    disk = "    <disk type='file'><target dev='vdz'/></disk>\n"
    after = adapt(with_elements(devices=disk), TAPPED)
    targets = ET.fromstring(after).iterfind("devices/disk/target")
    assert [each.get("dev") for each in targets] == ["vda", "vdz", "vdy"]


@pytest.mark.parametrize("text", ["<a/>", "<domain/>", "<domain><devices/></domain>"])
def test_what_is_no_domain(text: str) -> None:
    with pytest.raises(HostError, match="no domain's"):
        adapt(text, BIND)


def test_any_path_is_written() -> None:
    path = Path("/run/<'\"&>")
    root = ET.fromstring(adapt(PLAIN, Wanted(path, path)))
    for found in ("devices/channel/source", "devices/disk/source"):
        (source,) = root.iterfind(found)
        assert source.get("path") == str(path)
    with pytest.raises(ValueError, match="absolute"):
        adapt(PLAIN, Wanted(Path("c"), None))
