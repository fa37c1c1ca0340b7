"""Every global has a verdict, and what the verdicts say of the code is so."""

import pytest

from tests.tables.families import family, made, messages
from tests.tables.offered import COMPOSITORS, OFFERED, read, write
from tests.tables.page import PAGE, claiming, on_its_way, page
from tests.tables.policy_page import POLICY_PAGE, policy_page
from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.filters import REQUEST_FILTERS
from wlproxy.relay.verdicts import NO_GLOBALS, VERDICTS, Access
from wlproxy.relay.wire.passed_fds import PURPOSES

RELAYED = sorted(k for k, v in VERDICTS.items() if v.access is not Access.DENIED)


def test_every_global_has_a_verdict() -> None:
    """Whatever no message creates is a global, or is said to be none.

    New XML fails here until somebody has decided: see `wlproxy/relay/verdicts.py`.
    """
    globals_ = set(INTERFACES) - made()
    assert globals_ - NO_GLOBALS.keys() - VERDICTS.keys() == set()
    assert NO_GLOBALS.keys() <= globals_ - VERDICTS.keys()


RECORDED = read(OFFERED.read_text())


def test_what_was_recorded_is_what_can_be_recorded() -> None:
    """Nobody has edited the file; and the four desktops are in it, each with what all have."""
    assert write(RECORDED) == OFFERED.read_text()
    assert [name.split(maxsplit=1)[0] for name in RECORDED] == list(COMPOSITORS)
    for offered in RECORDED.values():
        assert {"wl_compositor", "wl_shm", "xdg_wm_base"} <= offered.keys()


@pytest.mark.parametrize("name", RECORDED)
def test_every_global_of_a_compositor_has_a_verdict(name: str) -> None:
    """None is hidden for want of anybody having looked at it."""
    assert RECORDED[name].keys() - VERDICTS.keys() == set()


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_compositor_offers_is_known_in_its_version(name: str) -> None:
    """Our tables are as new as what runs there, or apps would have less than they could."""
    known = RECORDED[name].keys() & set(INTERFACES)
    newer = {each for each in known if RECORDED[name][each] > INTERFACES.version(each)}
    assert newer == set()


def test_what_is_not_in_our_tables_is_denied() -> None:
    unknown = VERDICTS.keys() - set(INTERFACES)
    assert {VERDICTS[name].access for name in unknown} == {Access.DENIED}
    for name in unknown - {"xdg_shell"}:
        assert VERDICTS[name].why.startswith("not in our tables")


@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_a_verdict_says_why(name: str) -> None:
    assert VERDICTS[name].why
    assert len(VERDICTS[name].why) < 120


@pytest.mark.parametrize("name", RELAYED)
def test_a_verdict_names_the_filters_that_there_are(name: str) -> None:
    assert set(VERDICTS[name].filters) == claiming(name)


def test_what_is_denied_needs_no_filter() -> None:
    for verdict in VERDICTS.values():
        assert not (verdict.access is Access.DENIED and verdict.filters)


@pytest.mark.parametrize("name", RELAYED)
def test_every_fd_of_what_a_guest_may_have_can_be_carried(name: str) -> None:
    passing = {
        (spec.interface, spec.name)
        for member in family(name)
        for spec in messages(member)
        if spec.fd_count
    }
    # Those of linux-dmabuf's feedback are the proxy's own.
    assert passing <= PURPOSES.keys() | REQUEST_FILTERS.keys()


def test_no_version_is_named_that_our_tables_lack() -> None:
    for name, verdict in VERDICTS.items():
        if name in INTERFACES and verdict.most < 1 << 31:
            assert 1 <= verdict.most < INTERFACES[name].version


def test_the_page_of_the_policy_is_current() -> None:
    assert POLICY_PAGE.read_text() == policy_page(), (
        "run: make tables (or python -m tests.tables page)"
    )


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), (
        "run: make tables (or python -m tests.tables page)"
    )


@pytest.mark.parametrize(
    ("name", "way"),
    [
        (
            "wl_seat",
            ["filter `gestures`, `shortcuts`, `surface`", "times", "files"],
        ),
        (
            "wl_data_device_manager",
            ["filter `gestures`, `selections`", "times", "pipes"],
        ),
        ("xdg_wm_dialog_v1", []),
        ("org_kde_kwin_shadow_manager", ["buffers"]),
    ],
)
def test_what_becomes_of_messages(name: str, way: list[str]) -> None:
    assert list(on_its_way(name)) == way
