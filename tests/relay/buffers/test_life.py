"""The life of a buffer: each state with each input, and what must hold for the table."""

import pytest

from tests.relay.life_diagram import DOCUMENT, drawn
from wlproxy.protocol.errors import LocalProtocolError
from wlproxy.relay.buffers.life import (
    DESTROYED,
    MAKING,
    ON_SURFACE,
    TABLE,
    USABLE,
    Action,
    Input,
    Life,
    State,
)

WRITTEN = {
    State.UNSEEN: """
        WANTED: LOCATING LOCATE
        KILLED: DEAD KILL
        DESTROYED: GONE DESTROY
    """,
    State.LOCATING: """
        ANSWERED: = LOCATE
        LOCATED: MAPPING MAKE
        OVER_LIMIT: CROWDED SET_BACK
        NOT_MADE: FAILED GIVE_UP
        KILLED: DEAD KILL
    """,
    State.MAPPING: """
        ANSWERED: = MAKE
        ASKED: IMPORTING -
        MADE: READY ANSWER
        OVER_LIMIT: CROWDED SET_BACK
        NOT_MADE: FAILED GIVE_UP
        KILLED: DEAD KILL
    """,
    State.IMPORTING: """
        MADE: READY ANSWER
        REFUSED: MAPPING MAKE
    """,
    State.CROWDED: """
        ROOM: LOCATING LOCATE
    """,
    State.FAILED: """
        WANTED: LOCATING LOCATE
        DESTROYED: GONE DESTROY
    """,
    State.DEAD: """
        WANTED: = -
        DESTROYED: GONE DESTROY
    """,
    State.READY: """
        WANTED: = -
        OUTGROWN: MAPPING REMAKE
        SHOWN: ATTACHED USE
        RELEASED: = REST
        EVICTED: UNSEEN EVICT
        DESTROYED: GONE DESTROY
    """,
    State.ATTACHED: """
        WANTED: = -
        READ: HELD -
        LEFT: READY REST
        RELEASED: = -
        DESTROYED: LEAVING DESTROY_HOST
    """,
    State.HELD: """
        WANTED: = -
        READ: = -
        LEFT: UNRELEASED REST
        RELEASED: ATTACHED -
        DESTROYED: ORPHAN_SHOWN ORPHAN
    """,
    State.UNRELEASED: """
        WANTED: = -
        SHOWN: HELD USE
        RELEASED: READY REST
        EVICTED: UNSEEN EVICT_UNRELEASED
        DESTROYED: ORPHAN ORPHAN
    """,
    State.LEAVING: """
        READ: = -
        LEFT: GONE LET_GO
        RELEASED: = -
    """,
    State.ORPHAN_SHOWN: """
        READ: = -
        LEFT: ORPHAN REST
        RELEASED: LEAVING DISOWN
    """,
    State.ORPHAN: """
        RELEASED: GONE DISOWN_LAST
        EVICTED: GONE DISOWN_LAST
    """,
    State.GONE: """
        RELEASED: = -
    """,
}
"""What follows of each input that is possible in a state: the state ("=": the same), and
the action ("-": none).  What is not here is impossible."""


def following(state: State, happened: Input) -> tuple[State, Action | None] | None:
    for line in WRITTEN[state].split("\n"):
        name, _, outcome = line.strip().partition(": ")
        if name == happened.name:
            to, action = outcome.split()
            after = state if to == "=" else State[to]
            return after, None if action == "-" else Action[action]
    return None


@pytest.mark.parametrize("happened", Input)
@pytest.mark.parametrize("state", State)
def test_each_input_in_each_state(state: State, happened: Input) -> None:
    life = Life(state, shown=int(state in ON_SURFACE))
    outcome = following(state, happened)

    if outcome is not None:
        action = life.receive(happened)
        assert (life.state, action) == outcome
        assert life.shown == int(life.state in ON_SURFACE)
    elif happened is Input.SHOWN and state in ON_SURFACE - DESTROYED:
        assert life.receive(happened) is None
        assert (life.state, life.shown) == (state, 2)
    else:
        with pytest.raises(LocalProtocolError, match=f"{happened.name} while it is"):
            life.receive(happened)
        assert life.state is state


@pytest.mark.parametrize("state", sorted(ON_SURFACE - DESTROYED, key=str))
def test_only_the_last_surface_that_leaves_counts(state: State) -> None:
    life = Life(state, shown=1)

    assert life.receive(Input.SHOWN) is None
    assert life.receive(Input.LEFT) is None
    assert (life.state, life.shown) == (state, 1)

    assert life.receive(Input.LEFT) is Action.REST
    assert life.shown == 0


@pytest.mark.parametrize("state", sorted(ON_SURFACE & DESTROYED, key=str))
def test_a_destroyed_buffer_leaves_each_surface(state: State) -> None:
    life = Life(state, shown=2)

    assert life.receive(Input.LEFT) is None
    assert life.state is state
    assert life.receive(Input.LEFT) is not None
    assert life.shown == 0


def test_the_groups_of_states_are_whole() -> None:
    for state in State:
        life = Life(state)
        assert life.is_making is (state in MAKING)
        assert life.is_usable is (state in USABLE)
        assert life.is_destroyed is (state in DESTROYED)
        assert life.is_failed is (state in {State.FAILED, State.DEAD})
    assert not MAKING & USABLE
    assert not DESTROYED & (MAKING | USABLE)


def test_every_input_and_every_action_is_used() -> None:
    assert {happened for _, happened in TABLE} == set(Input)
    assert {action for _, action in TABLE.values()} == {None, *Action}


def test_who_waits_is_told() -> None:
    """No way out of the making but by an action that tells."""
    for (state, _), (after, action) in TABLE.items():
        if state in MAKING and after not in MAKING:
            assert action in {Action.ANSWER, Action.GIVE_UP, Action.KILL}


def test_pages_go_back_only_when_nobody_has_them() -> None:
    back = {Action.EVICT, Action.EVICT_UNRELEASED, Action.DESTROY, Action.LET_GO}
    back.add(Action.DISOWN_LAST)
    for after, action in TABLE.values():
        if action in back:
            assert after in {State.UNSEEN, State.GONE}
        if after is State.GONE and action is not None:
            assert action in back


@pytest.mark.parametrize("state", State)
def test_every_life_can_end(state: State) -> None:
    reached = {state}
    while True:
        further = {after for (s, _), (after, _) in TABLE.items() if s in reached}
        if further <= reached:
            break
        reached |= further
    assert State.GONE in reached


def test_the_diagram_in_the_documents_is_current() -> None:
    text = DOCUMENT.read_text()

    assert drawn(text) == text, "python -m tests.relay.life_diagram"
