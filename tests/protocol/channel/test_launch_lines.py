"""What host and launcher tell each other: round trips, garbage, and the document's tables."""

import json
import re
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.channel.vectors import DOCUMENT
from tests.strategies import chunked, plain_values
from wlproxy.protocol.channel.launch_lines import (
    MAX_LINE,
    SIGNALS,
    Fields,
    LineReader,
    Outcome,
    Request,
    encode_line,
    read_signal,
)
from wlproxy.protocol.channel.launching import PIPES
from wlproxy.protocol.errors import ChannelError, LocalProtocolError

arguments = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
) | st.binary(max_size=8).map(
    lambda data: data.replace(b"\0", b"").decode(errors="surrogateescape")
)
words = arguments.filter(bool)
several = st.tuples(words, st.lists(arguments, max_size=4)).map(
    lambda drawn: (drawn[0], *drawn[1])
)
requests = st.one_of(
    st.builds(Request, command=several, detach=st.booleans()),
    st.builds(Request, app=words, detach=st.booleans()),
    st.builds(Request, apps=st.just(True), icons=st.booleans()),
)
outcomes = st.one_of(
    st.builds(Outcome, exited=st.integers(0, 255)),
    st.builds(Outcome, killed=st.integers(1, 64)),
    st.builds(Outcome, started=st.integers(1, 2**31 - 1)),
    st.builds(Outcome, error=st.text(max_size=99), status=st.integers(125, 127)),
)


def read(line: bytes) -> Fields:
    lines = LineReader()
    lines.feed(line)
    found = lines.next_line()
    assert found is not None
    return found


@given(requests)
def test_requests_arrive(request: Request) -> None:
    assert Request.read(read(request.to_line())) == request


@given(outcomes)
def test_outcomes_arrive(outcome: Outcome) -> None:
    assert Outcome.read(read(outcome.to_line())) == outcome


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_arrive(number: int) -> None:
    assert read_signal(read(encode_line({"signal": number}))) == number


@pytest.mark.parametrize("number", [0, 9, 19, 65, -2, True, "2", None, 2.0])
def test_no_other_signal_does(number: object) -> None:
    with pytest.raises(ChannelError, match="no signal"):
        read_signal({"signal": number})


@given(st.data(), st.lists(requests, max_size=4))
def test_lines_come_in_any_pieces(data: st.DataObject, sent: list[Request]) -> None:
    lines, got = LineReader(), []
    for piece in data.draw(chunked(b"".join(each.to_line() for each in sent))):
        lines.feed(piece)
        while (found := lines.next_line()) is not None:
            got.append(Request.read(found))
    assert got == sent


@given(st.binary(max_size=300))
def test_garbage_is_an_error_or_incomplete(garbage: bytes) -> None:
    lines = LineReader()
    lines.feed(garbage)
    try:
        while (found := lines.next_line()) is not None:
            assert isinstance(found, dict)
    except ChannelError:
        pass


@given(st.dictionaries(st.sampled_from([*Request.__slots__, "x"]), plain_values))
def test_any_object_is_a_request_or_none(found: Fields) -> None:
    try:
        request = Request.read(found)
    except ChannelError:
        return
    assert Request.read(read(request.to_line())) == request


@given(st.dictionaries(st.sampled_from([*Outcome.__slots__, "x"]), plain_values))
def test_any_object_is_an_outcome_or_none(found: Fields) -> None:
    try:
        outcome = Outcome.read(found)
    except ChannelError:
        return
    assert 0 <= outcome.exit_status <= 192


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"5\n",
        b"[]\n",
        b"{\n",
        b'"\xff"\n',
        b"[" * 60_000 + b"\n",
        b"9" * 60_000 + b"\n",
        b"x" * MAX_LINE,
    ],
    ids=range(8),
)
def test_what_is_no_line(line: bytes) -> None:
    lines = LineReader()
    lines.feed(line)
    with pytest.raises(ChannelError):
        lines.next_line()


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"detach": True},
        {"command": []},
        {"command": [""]},
        {"command": ["a\0b"]},
        {"command": ["\ud800"]},
        {"command": [1]},
        {"command": "ls"},
        {"app": ""},
        {"app": ["x"]},
        {"apps": False},
        {"apps": 1},
        {"icons": True},
        {"apps": True, "icons": {}},
        {"command": ["ls"], "app": "x"},
        {"command": ["ls"], "detach": 1},
    ],
)
def test_what_is_no_request(found: Fields) -> None:
    with pytest.raises(ChannelError):
        Request.read(found)


@pytest.mark.parametrize(
    "request_",
    [Request(), Request(detach=True), Request(command=("a",), app="b")],
)
def test_what_cannot_be_asked(request_: Request) -> None:
    with pytest.raises(LocalProtocolError, match="a request for"):
        request_.to_line()


def test_what_is_too_long_to_be_asked() -> None:
    with pytest.raises(LocalProtocolError, match="limit 65536"):
        Request(command=("x" * MAX_LINE,)).to_line()


def test_statuses_are_a_shells() -> None:
    assert Outcome(exited=7).exit_status == 7
    assert Outcome(killed=15).exit_status == 143
    assert Outcome(started=1).exit_status == 0
    assert Outcome(error="", status=126).exit_status == 126


def test_the_document_has_every_key_and_pipe() -> None:
    text = DOCUMENT.read_text().partition("## 12. Commands")[2]
    keys = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert keys == {each.name for kind in (Request, Outcome) for each in fields(kind)}
    rows = re.findall(r"^\| (\w+) \| ([HG]) \|", text, re.MULTILINE)
    assert rows == [(p.value, "H" if p.from_host else "G") for p in PIPES]
    (signals,) = re.findall(r'\{"signal": N\}`: ([\d, or]+),', text)
    assert {int(each) for each in re.findall(r"\d+", signals)} == SIGNALS
    assert "at most 64 KiB" in text
    assert MAX_LINE == 64 * 1024
    assert json.loads('{"signal": 2}') == {"signal": 2}
