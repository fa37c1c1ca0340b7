"""Users and groups by name and by number."""

import grp
import pwd
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.host.accounts import MAX_ID, gid_of, uid_of
from wlproxy.host.errors import HostError

Find = Callable[[str], int]
FINDS: tuple[tuple[Find, str], ...] = (uid_of, "user"), (gid_of, "group")


def test_names() -> None:
    user, group = pwd.getpwall()[-1], grp.getgrall()[-1]
    assert uid_of(user.pw_name) == user.pw_uid
    assert gid_of(group.gr_name) == group.gr_gid


@pytest.mark.parametrize("find", [uid_of, gid_of])
@pytest.mark.parametrize(
    ("name", "number"),
    [("0", 0), ("1000", 1000), ("0" * 9000 + "7", 7), (str(MAX_ID), MAX_ID)],
)
def test_numbers(find: Find, name: str, number: int) -> None:
    assert find(name) == number


@pytest.mark.parametrize(("find", "kind"), FINDS)
@pytest.mark.parametrize(
    "name", [str(MAX_ID + 1), "99999999999", "-1", "+5", "9" * 9000]
)
def test_what_can_be_no_number(find: Find, kind: str, name: str) -> None:
    with pytest.raises(HostError, match=f"is not the number of a {kind}") as refused:
        find(name)
    assert name[:20] in str(refused.value)
    assert len(str(refused.value)) < 130
    assert str(MAX_ID) in refused.value.remedy


@pytest.mark.parametrize(("find", "kind"), FINDS)
@pytest.mark.parametrize("name", ["", "²", "٣", "-", "1e3", "nobody of that name"])
def test_what_nobody_is_called(find: Find, kind: str, name: str) -> None:
    with pytest.raises(HostError, match=f"there is no {kind} '{name}'"):
        find(name)


@pytest.mark.parametrize("find", [uid_of, gid_of])
@given(name=st.text(st.characters(exclude_characters="\0", codec="utf-8")))
def test_anything_else_is_refused_with_a_reason(find: Find, name: str) -> None:
    """No NUL: a command line has none."""
    try:
        number = find(name)
    except HostError:
        return
    assert 0 <= number <= MAX_ID
