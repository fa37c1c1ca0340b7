"""Labels: whatever an app says, the VM's part stays whole, first and alone."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.relay import labels

ISOLATES = "\u2068\u2069"
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (b"Files", "Files"),
        (b"", ""),
        ("Füße 日本".encode(), "Füße 日本"),
        (b"two\nlines\ttab", "two lines tab"),
        (b"\t", ""),
        (b"\x1b]0;x\x07\x7f\xc2\x9b", "]0;x"),
        ("\u202eevil\u202c \u2066x\u2069\u200f".encode(), "evil x"),
        ("zero\u200bwidth\ufeff\u00ad".encode(), "zerowidth"),
        ("a\u2028b\u2029c".encode(), "a b c"),
        ("\U000e0041tag".encode(), "tag"),
        (b"lone \xed\xa0\x80 surrogate", "lone  surrogate"),
        (b"over\xc0\xaflong\xf8\x88\x80\x80\x80", "overlong"),
        (b"\xff\xfeF", "F"),
        (b"x" * 5000, "x" * labels.MAX_TEXT),
        (b"x" + "ä".encode() * 5000, "x" + "ä" * ((labels.MAX_TEXT - 1) // 2)),
    ],
)
def test_what_is_read(said: bytes, read: str) -> None:
    assert labels.plain(said) == read


@given(st.text(alphabet=st.characters(codec=None), max_size=50))
def test_a_title_is_the_label_then_text_that_cannot_reach_it(text: str) -> None:
    title = labels.title("vm", labels.plain(text.encode(errors="surrogatepass")))

    shown = title.decode()
    assert shown.startswith("[vm] ")
    rest = shown.removeprefix("[vm] ")
    moves = any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in rest)
    if moves:
        assert (rest[0], rest[-1]) == tuple(ISOLATES)
        rest = rest[1:-1]
    assert not {unicodedata.category(char) for char in rest} & STEERING


def test_text_from_left_to_right_has_nothing_added() -> None:
    assert labels.title("vm", "Files 3") == b"[vm] Files 3"


@given(st.binary(max_size=3000))
def test_labels_fit_into_a_message_whatever_is_said(said: bytes) -> None:
    text = labels.plain(said)

    for label in (labels.title("v" * 64, text), labels.app_id("v" * 64, text)):
        assert b"\0" not in label
        assert len(label) < 4096 - 100  # what libwayland takes, header and all


def test_an_app_id_is_below_the_vms_name() -> None:
    assert labels.app_id("org") == b"wlproxy.org"
    assert labels.app_id("org", "mozilla.firefox") == b"wlproxy.org.mozilla.firefox"


def test_a_name_of_an_icon_is_no_path() -> None:
    assert labels.icon_name("../a/b c") == b"..ab c"
