"""Windows that apps of a VM lend to each other, and sessions: who may name which."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from wlproxy.relay.names import (
    MAX_APP_SESSIONS,
    MAX_EXPORTS,
    MAX_SESSIONS,
    NAME_LENGTH,
    Export,
    Exports,
    Session,
    Sessions,
)


def lend(exports: Exports, app: int, handle: bytes) -> tuple[Export, bytes]:
    lent = exports.begin(app)
    assert lent is not None
    return lent, exports.name(lent, handle)


def test_a_name_is_not_the_handle_and_is_made_of_it_alone() -> None:
    exports = Exports()
    _, name = lend(exports, 1, b"secret-of-the-host")

    assert name == hashlib.sha256(b"secret-of-the-host").hexdigest()[:32].encode()
    assert len(name) == NAME_LENGTH
    assert exports.find(name) == b"secret-of-the-host"
    assert exports.find(b"secret-of-the-host") is None


def test_what_an_app_lends_goes_with_it_and_nothing_else_does() -> None:
    exports = Exports()
    one, first = lend(exports, 1, b"one")
    _, second = lend(exports, 1, b"two")
    _, other = lend(exports, 2, b"three")

    exports.end(one)
    assert exports.find(first) is None
    assert exports.find(second) == b"two"
    exports.close(1)
    assert exports.find(second) is None
    assert exports.find(other) == b"three"
    exports.close(2)
    exports.close(2)
    assert len(exports) == 0


def test_a_handle_that_comes_twice_is_the_last_ones() -> None:
    exports = Exports()
    old, name = lend(exports, 1, b"same")
    _, again = lend(exports, 2, b"same")

    exports.end(old)
    assert again == name
    assert exports.find(name) == b"same"


def test_a_window_that_is_told_another_handle_has_one_name() -> None:
    exports = Exports()
    lent, name = lend(exports, 1, b"one")

    exports.name(lent, b"two")

    assert exports.find(name) is None
    assert len(exports) == 1


def test_one_app_lends_so_many_and_leaves_the_others_theirs() -> None:
    exports = Exports()
    lent = [exports.begin(1) for _ in range(MAX_EXPORTS)]

    assert all(lent)
    assert exports.begin(1) is None
    assert exports.begin(2) is not None
    assert lent[0] is not None
    exports.end(lent[0])
    assert exports.begin(1) is not None


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_only_names_that_were_told_are_found(handle: bytes, guessed: bytes) -> None:
    exports = Exports()
    _, name = lend(exports, 1, handle)

    assert (exports.find(guessed) is None) == (guessed != name)


def test_a_session_has_one_name_and_makes_room_when_it_is_removed() -> None:
    sessions = full()
    session = Session()
    old = sessions.name(session, b"one")
    new = sessions.name(session, b"two")

    assert (sessions.find(old), sessions.find(new)) == (None, b"two")
    assert sessions.find(b"two") is None
    for same in (session, Session(session.name), Session(session.name)):
        sessions.remove(same)  # by several apps: it makes room for one
    assert sessions.find(new) is None
    assert sessions.begin(9)
    assert not sessions.begin(9)


def full() -> Sessions:
    """Have several apps begin as many as all may."""
    sessions = Sessions()
    for app in range(MAX_SESSIONS // MAX_APP_SESSIONS):
        assert all(sessions.begin(app) for _ in range(MAX_APP_SESSIONS))
    assert not sessions.begin(100)
    return sessions


def test_an_app_begins_so_many_sessions_and_leaves_the_others_theirs() -> None:
    sessions = Sessions()
    begun = [sessions.begin(1) for _ in range(MAX_APP_SESSIONS)]
    assert not sessions.begin(1)
    other = sessions.begin(2)

    last = begun[-1]
    assert last
    assert other
    sessions.remove(other)
    assert not sessions.begin(1)
    sessions.remove(last)
    assert sessions.begin(1)
    assert not sessions.begin(1)
    sessions.close(1)  # what it has begun counts for all of them still
    assert sessions.begin(1)


def test_a_session_that_is_removed_while_others_go_on_with_it_is_counted_anew() -> None:
    """Two apps that do so again and again begin no more than others."""
    sessions = Sessions()
    kept = 0
    while first := sessions.begin(kept):
        name = sessions.name(first, b"%d" % kept)
        assert sessions.find(name)
        others = [Session(first.name) for _ in range(3)]  # they have asked for it
        sessions.remove(first)
        for other in others:
            kept += 1
            sessions.name(other, b"%d" % kept)
        assert kept < MAX_SESSIONS + len(others)

    assert kept >= MAX_SESSIONS
    assert sessions.find(others[-1].name.encode()) is None or kept == MAX_SESSIONS
    assert not sessions.begin(kept)
