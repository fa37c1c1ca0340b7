from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wlproxy.host.channel_address import (
    HybridVsock,
    Listen,
    Vsock,
    advise,
    parse_channel,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/run/c", Path("/run/c")),
        ("c:1:2", Path("c:1:2")),
        ("vsock:3:5000", Vsock(3, 5000)),
        ("vsock:1:5000", Vsock(1, 5000)),
        ("hvsock:/run/v.sock:52", HybridVsock(Path("/run/v.sock"), 52)),
        ("hvsock:/run/a:b:52", HybridVsock(Path("/run/a:b"), 52)),
    ],
)
def test_what_a_user_writes(text: str, address: Path | Vsock | HybridVsock) -> None:
    assert parse_channel(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("vsock:2:5000", "no guest has the CID 2"),
        ("vsock:4294967295:1", "no guest has"),
        ("vsock:3:0", "no port"),
        ("vsock:3:4294967295", "no port"),
        ("hvsock:/v:0", "no port"),
        ("vsock:3", "neither vsock:CID:PORT"),
        ("hvsock:/v", "neither vsock:CID:PORT nor hvsock:PATH:PORT"),
        ("vsock:3:5000:1", "neither"),
        ("vsock:x:1", "neither"),
    ],
)
def test_what_is_none(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_channel(text)


@given(st.text())
def test_any_text_is_an_address_or_none(text: str) -> None:
    try:
        address = parse_channel(text)
    except ValueError:
        assert text.startswith(("vsock:", "hvsock:"))
    else:
        assert isinstance(address, Path) != text.startswith(("vsock:", "hvsock:"))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (Path("/run/c"), "wlproxy qemu-args --channel /run/c"),
        (Listen(Path("/run/c")), "wlproxy qemu-args --listen /run/c"),
        (Vsock(3, 5000), "wlproxy-guest-agent --vsock 5000"),
        (HybridVsock(Path("/v"), 52), "hvsock:/v:52"),
    ],
)
def test_who_waits_hears_what_the_other_end_needs(
    address: Path | Listen | Vsock | HybridVsock, words: str
) -> None:
    assert words in advise(address)
