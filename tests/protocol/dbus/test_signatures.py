import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.dbus.typed_values import signatures
from wlproxy.protocol.dbus.signatures import (
    MAX_SIGNATURE,
    all_at_once,
    complete_types,
)
from wlproxy.protocol.errors import DBusError


@given(signatures)
def test_types_are_the_whole_signature(signature: str) -> None:
    assert "".join(complete_types(signature)) == signature


def test_types_are_told_apart() -> None:
    assert complete_types("ua{s(iv)}aay(y)h") == ("u", "a{s(iv)}", "aay", "(y)", "h")


@pytest.mark.parametrize(
    "signature",
    [
        *("a", "(", "()", "(i", "z", "a{s}", "a{vs}", "a{si", "a{sii}", "{su}", "r"),
        *(")", "a" * 40 + "y", "(" * 40 + "y" + ")" * 40, "y" * (MAX_SIGNATURE + 1)),
    ],
)
def test_what_is_no_signature(signature: str) -> None:
    with pytest.raises(DBusError):
        complete_types(signature)


@given(st.text("aybv(){}si", max_size=12))
def test_any_text_is_one_or_is_refused(text: str) -> None:
    try:
        types = complete_types(text)
    except DBusError:
        return
    assert "".join(types) == text


def test_plain_numbers_are_read_at_once() -> None:
    found = all_at_once("yxq", "<")
    assert found is not None
    assert found.size == 18


@pytest.mark.parametrize("signature", ["", "s", "ib", "h", "ai"])
def test_what_is_no_plain_number_is_not(signature: str) -> None:
    assert all_at_once(signature, "<") is None
