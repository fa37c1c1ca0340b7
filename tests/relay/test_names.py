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
    guest_name,
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


def begun(sessions: Sessions, app: str, original: bytes) -> tuple[Session, bytes]:
    session = sessions.begin(app)
    assert session
    return session, sessions.name(session, original)


def full() -> Sessions:
    """Have several apps begin as many as all may."""
    sessions = Sessions()
    apps = MAX_SESSIONS // MAX_APP_SESSIONS
    for number in range(MAX_SESSIONS):
        begun(sessions, f"app{number % apps}", b"%d" % number)
    assert len(sessions) == MAX_SESSIONS
    assert not sessions.begin("another")
    return sessions


def test_a_session_has_one_name_and_makes_room_when_it_is_removed() -> None:
    sessions = Sessions()
    session, old = begun(sessions, "app", b"one")
    new = sessions.name(session, b"two")
    assert sessions.go_on(old) is None
    same = [sessions.go_on(new) for _ in range(2)]
    for each in same:
        assert each
        assert sessions.original(each) == b"two"
    assert len(sessions) == 1

    for each in (session, *same):
        assert each
        sessions.remove(each)  # by several apps: it makes room for one
    assert sessions.go_on(new) is None
    assert len(sessions) == 0


def test_an_app_with_too_many_loses_its_oldest_and_the_others_none() -> None:
    sessions = Sessions()
    _, others = begun(sessions, "other", b"other")
    names = [begun(sessions, "app", b"%d" % n)[1] for n in range(MAX_APP_SESSIONS)]
    assert not sessions.begin("app")

    assert list(sessions.displace("app").items()) == [(names[0].decode(), b"0")]

    assert sessions.begin("app")
    assert sessions.go_on(names[0]) is None
    assert sessions.go_on(names[1])
    assert sessions.go_on(others)
    assert not sessions.displace("other")


def test_where_all_have_too_many_who_has_most_makes_room() -> None:
    sessions = full()
    loser = sessions.go_on(guest_name(b"0").encode())
    assert loser
    sessions.remove(loser)
    begun(sessions, "modest", b"modest")
    displaced = sessions.displace("another")
    assert list(displaced.values()) == [b"1"]
    assert sessions.begin("another")
    assert sessions.go_on(guest_name(b"modest").encode())


def test_what_has_no_id_yet_cannot_make_room() -> None:
    """Nobody could say what is to be forgotten."""
    sessions = Sessions()
    assert all(sessions.begin("app") for _ in range(MAX_APP_SESSIONS))
    assert not sessions.displace("app")
    assert not sessions.begin("app")
    assert sessions.begin("other")


def test_a_session_that_is_removed_while_others_go_on_with_it_is_counted_anew() -> None:
    """Two apps that do so again and again have no more kept than others, and lose no other app's."""
    sessions = Sessions()
    _, innocent = begun(sessions, "innocent", b"innocent")
    for number in range(3 * MAX_SESSIONS):
        sessions.displace("app")
        first = sessions.begin("app")
        assert first
        name = sessions.name(first, b"%d" % number)
        others = [sessions.go_on(name) for _ in range(3)]  # they have asked for it
        sessions.remove(first)
        for place, other in enumerate(others):
            if other is not None:
                sessions.name(other, b"%d again %d" % (number, place))
        assert len(sessions) <= MAX_APP_SESSIONS + 4
    assert sessions.go_on(innocent)
