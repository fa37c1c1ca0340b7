"""Which console of a domain's is the channel."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.peers.xenstore import XenStore
from wlproxy.transport.xenstore import ERROR
from wlproxy_guest.xenstore import (
    MAX_CONSOLES,
    console_numbers,
    find_console,
    in_xen_domain,
)


@pytest.fixture
def store() -> Iterator[XenStore]:
    made = XenStore(n1="com.example.0", n3="org.wlproxy.0")
    yield made
    made.close()


def test_the_console_of_a_name(store: XenStore) -> None:
    assert find_console("org.wlproxy.0", store.path) == 3
    assert store.asked == [
        "device/console",
        *(f"device/console/{n}/name" for n in "13"),
    ]


def test_no_console_of_the_name(store: XenStore) -> None:
    assert find_console("org.wlproxy", store.path) is None


def test_consoles_that_go_meanwhile(store: XenStore) -> None:
    del store.values["device/console/1/name"]
    assert find_console("org.wlproxy.0", store.path) == 3


def test_a_domain_without_consoles(store: XenStore) -> None:
    store.values.clear()
    assert find_console("org.wlproxy.0", store.path) is None


def test_a_store_that_says_no(store: XenStore) -> None:
    store.answer = lambda *_: (ERROR, b"EACCES\0")
    with pytest.raises(PermissionError):
        find_console("org.wlproxy.0", store.path)


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        find_console("org.wlproxy.0", tmp_path / "xenbus")


def test_an_answer_to_something_else(store: XenStore) -> None:
    store.answer = lambda *_: (7, b"")
    with pytest.raises(OSError, match="something else"):
        find_console("org.wlproxy.0", store.path)


@given(st.binary())
def test_any_listing(listing: bytes) -> None:
    found = console_numbers(listing)
    assert found == sorted(set(found))
    assert all(0 < number < 1000 for number in found)
    assert len(found) <= MAX_CONSOLES


@pytest.mark.parametrize(
    ("text", "xen"), [("xen\n", True), ("kvm\n", False), ("", False)]
)
def test_what_machine_this_is(tmp_path: Path, text: str, *, xen: bool) -> None:
    (tmp_path / "type").write_text(text)
    assert in_xen_domain(tmp_path / "type") is xen
    assert not in_xen_domain(tmp_path / "none")
