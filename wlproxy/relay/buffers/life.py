"""The life of a buffer: when the host's is made, and when the app may have its pages back.

That is a table: what may happen to a buffer in which state, and what follows.

Theory of operation.  A buffer of the guest is pages that the app writes and, once it is
shown, a `wl_buffer` of the host over the same pages.  Two questions are answered here:
when is the host's made, and when may the app have its pages back?

*Making.*  A buffer costs the host nothing until it is wanted: cursor themes define dozens
that are never shown.  Then the agent is asked where its pages are (LOCATING), the shell
to make a dma-buf or a memfd of them (MAPPING), and in mode B the compositor to import it
(IMPORTING); each step may be over before it has begun, for pages that are known already.
Whoever wanted the buffer waits for READY, FAILED or DEAD, and is told: nobody asks again.
One that waits is the only one: the app's requests wait behind the one that wants the
buffer, and a buffer of linux-dmabuf's `create` is known to nobody before its answer.  So
in these states a buffer cannot be wanted, shown or destroyed.

*Use.*  Two facts decide who may have the pages: whether a surface has the buffer, pending
or current, and whether the compositor may be reading it, that is, from the commit that
shows it to its release.  READY is neither, ATTACHED the first, UNRELEASED the second,
HELD both.  They come and go in any order: a compositor releases a buffer that is still on
its surface as soon as it has uploaded it, and another not before the next is shown.

*The end.*  That the guest destroys a buffer ends neither fact.  The host's `wl_buffer` is
destroyed at once only if the compositor is not reading: a destroyed one is never released,
and nobody would know when the pages are free.  Until then its host half lives on without
the guest's (ORPHAN_SHOWN, ORPHAN).  LEAVING has no host half and is still on a surface,
which may not have been committed since.  In GONE nothing is left; a release may be on its
way all the same.

*Pages go back late.*  That all is over is known here when the last request about it is
sent.  The compositor knows when it answers a sync sent after that: only then does the
guest have its pages back.  A buffer that makes room for others (EVICTED) has forgotten
its pages by then, and is UNSEEN: if it is wanted before the answer, it is located anew.

What must never happen: pages go back while a surface has the buffer or the compositor may
read it; a release reaches the app twice; a buffer waits and nobody will tell it.

Why no flags and conditions, which were here once: they were written from four modules,
and which of their combinations there are stood nowhere.  Why facts like "too large" are
inputs and no guards of the table: so each pair of state and input has one outcome, which
is tested, and drawn (`docs/architecture.md`).

Everything that moves a buffer is in this file.  How actions are carried out is
`client_buffers`'s, how the host's buffer is made `present`'s.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from wlproxy.protocol.errors import LocalProtocolError


class State(Enum):
    """Where a buffer is in its life."""

    __hash__ = object.__hash__  # what an Enum has is a call of a Python function

    UNSEEN = "the host knows nothing of it"
    LOCATING = "the agent looks for its pages"
    MAPPING = "the shell makes a dma-buf or a memfd of them"
    IMPORTING = "the compositor looks at its dma-bufs"
    CROWDED = "a limit is in the way, and room is being made"
    FAILED = "it could not be shown; it is tried again when it is wanted again"
    DEAD = "it cannot be shown, for good"
    READY = "the host has its buffer, no surface has it, nobody reads it"
    ATTACHED = "a surface has it, the compositor does not read it"
    HELD = "a surface has it, the compositor may be reading it"
    UNRELEASED = "no surface has it, the compositor may still be reading it"
    LEAVING = "destroyed, but a surface has it"
    ORPHAN_SHOWN = "destroyed, but a surface has it, and the compositor may read it"
    ORPHAN = "destroyed, but the compositor may be reading it"
    GONE = "nothing is left of it"


class Input(Enum):
    """What happens to a buffer."""

    __hash__ = object.__hash__

    WANTED = "it is to be shown, or `create` asks if it could be"
    OUTGROWN = "it is wanted, and better off in another mode by now"
    ANSWERED = "something that it waits for was answered, well or not"
    LOCATED = "all its pages are known"
    ASKED = "the compositor was asked to import it"
    REFUSED = "the compositor does not import it"
    MADE = "the host has its buffer"
    OVER_LIMIT = "a limit is in the way, and others are going to make room"
    ROOM = "they have"
    NOT_MADE = "it cannot be shown now"
    KILLED = "it cannot be shown, ever"
    SHOWN = "a surface takes it"
    READ = "a commit shows it: the compositor may read it"
    LEFT = "a surface has it no more"
    RELEASED = "the compositor has finished with it"
    EVICTED = "its pages are needed for others"
    DESTROYED = "the guest destroys it"


class Action(Enum):
    """What is done about it; `client_buffers` has a method for each."""

    __hash__ = object.__hash__

    LOCATE = "ask where the pages are; go on, once all that is answered"
    MAKE = "make the host's buffer, as far as that goes now"
    REMAKE = "destroy the host's buffer, and make another of the same pages"
    ANSWER = "tell who wanted it that it is ready"
    SET_BACK = "forget pages and memfd: the compositor never saw them"
    GIVE_UP = "the same; tell who wanted it"
    KILL = "the same; tell the app, if it asked by linux-dmabuf"
    USE = "it makes room for nobody"
    REST = "it may make room for others from now on"
    EVICT = "destroy the host's buffer, give the pages back"
    EVICT_UNRELEASED = "the same; then tell the app that it is released"
    DESTROY = "destroy what is left, give the pages back"
    DESTROY_HOST = "destroy it on the host, and keep the pages"
    ORPHAN = "part the host's half from the guest's, which ends"
    DISOWN = "destroy the host's half"
    DISOWN_LAST = "the same, and give the pages back"
    LET_GO = "give the pages back"


_S, _I, _A = State, Input, Action

TABLE: Final[Mapping[tuple[State, Input], tuple[State, Action | None]]] = (
    MappingProxyType(
        {
            (_S.UNSEEN, _I.WANTED): (_S.LOCATING, _A.LOCATE),
            (_S.UNSEEN, _I.KILLED): (_S.DEAD, _A.KILL),
            (_S.UNSEEN, _I.DESTROYED): (_S.GONE, _A.DESTROY),
            (_S.LOCATING, _I.ANSWERED): (_S.LOCATING, _A.LOCATE),
            (_S.LOCATING, _I.LOCATED): (_S.MAPPING, _A.MAKE),
            (_S.LOCATING, _I.OVER_LIMIT): (_S.CROWDED, _A.SET_BACK),
            (_S.LOCATING, _I.NOT_MADE): (_S.FAILED, _A.GIVE_UP),
            (_S.LOCATING, _I.KILLED): (_S.DEAD, _A.KILL),
            (_S.MAPPING, _I.ANSWERED): (_S.MAPPING, _A.MAKE),
            (_S.MAPPING, _I.ASKED): (_S.IMPORTING, None),
            (_S.MAPPING, _I.MADE): (_S.READY, _A.ANSWER),
            (_S.MAPPING, _I.OVER_LIMIT): (_S.CROWDED, _A.SET_BACK),
            (_S.MAPPING, _I.NOT_MADE): (_S.FAILED, _A.GIVE_UP),
            (_S.MAPPING, _I.KILLED): (_S.DEAD, _A.KILL),
            (_S.IMPORTING, _I.MADE): (_S.READY, _A.ANSWER),
            (_S.IMPORTING, _I.REFUSED): (_S.MAPPING, _A.MAKE),
            (_S.CROWDED, _I.ROOM): (_S.LOCATING, _A.LOCATE),
            (_S.FAILED, _I.WANTED): (_S.LOCATING, _A.LOCATE),
            (_S.FAILED, _I.DESTROYED): (_S.GONE, _A.DESTROY),
            (_S.DEAD, _I.WANTED): (_S.DEAD, None),
            (_S.DEAD, _I.DESTROYED): (_S.GONE, _A.DESTROY),
            (_S.READY, _I.WANTED): (_S.READY, None),
            (_S.READY, _I.OUTGROWN): (_S.MAPPING, _A.REMAKE),
            (_S.READY, _I.SHOWN): (_S.ATTACHED, _A.USE),
            (_S.READY, _I.RELEASED): (_S.READY, _A.REST),
            (_S.READY, _I.EVICTED): (_S.UNSEEN, _A.EVICT),
            (_S.READY, _I.DESTROYED): (_S.GONE, _A.DESTROY),
            (_S.ATTACHED, _I.WANTED): (_S.ATTACHED, None),
            (_S.ATTACHED, _I.READ): (_S.HELD, None),
            (_S.ATTACHED, _I.LEFT): (_S.READY, _A.REST),
            (_S.ATTACHED, _I.RELEASED): (_S.ATTACHED, None),
            (_S.ATTACHED, _I.DESTROYED): (_S.LEAVING, _A.DESTROY_HOST),
            (_S.HELD, _I.WANTED): (_S.HELD, None),
            (_S.HELD, _I.READ): (_S.HELD, None),
            (_S.HELD, _I.LEFT): (_S.UNRELEASED, _A.REST),
            (_S.HELD, _I.RELEASED): (_S.ATTACHED, None),
            (_S.HELD, _I.DESTROYED): (_S.ORPHAN_SHOWN, _A.ORPHAN),
            (_S.UNRELEASED, _I.WANTED): (_S.UNRELEASED, None),
            (_S.UNRELEASED, _I.SHOWN): (_S.HELD, _A.USE),
            (_S.UNRELEASED, _I.RELEASED): (_S.READY, _A.REST),
            (_S.UNRELEASED, _I.EVICTED): (_S.UNSEEN, _A.EVICT_UNRELEASED),
            (_S.UNRELEASED, _I.DESTROYED): (_S.ORPHAN, _A.ORPHAN),
            (_S.LEAVING, _I.READ): (_S.LEAVING, None),
            (_S.LEAVING, _I.LEFT): (_S.GONE, _A.LET_GO),
            (_S.LEAVING, _I.RELEASED): (_S.LEAVING, None),
            (_S.ORPHAN_SHOWN, _I.READ): (_S.ORPHAN_SHOWN, None),
            (_S.ORPHAN_SHOWN, _I.LEFT): (_S.ORPHAN, _A.REST),
            (_S.ORPHAN_SHOWN, _I.RELEASED): (_S.LEAVING, _A.DISOWN),
            (_S.ORPHAN, _I.RELEASED): (_S.GONE, _A.DISOWN_LAST),
            (_S.ORPHAN, _I.EVICTED): (_S.GONE, _A.DISOWN_LAST),
            (_S.GONE, _I.RELEASED): (_S.GONE, None),
        }
    )
)
"""What follows of an input in a state.  A pair that is not here cannot happen: that is a
bug of ours, whatever peers do."""

MAKING: Final = frozenset(
    {State.LOCATING, State.MAPPING, State.IMPORTING, State.CROWDED}
)
"""Someone waits for it."""

USABLE: Final = frozenset({State.READY, State.ATTACHED, State.HELD, State.UNRELEASED})
"""It can be shown at once."""

ON_SURFACE: Final = frozenset(
    {State.ATTACHED, State.HELD, State.LEAVING, State.ORPHAN_SHOWN}
)
"""One surface has it, or several."""

DESTROYED: Final = frozenset(
    {State.LEAVING, State.ORPHAN_SHOWN, State.ORPHAN, State.GONE}
)
"""The guest has destroyed it."""


@dataclass(slots=True)
class Life:
    """Where one buffer is.

    Attributes:
        state: by the table.
        shown: how many surfaces have it, pending or current; one with two counts twice.
    """

    state: State = State.UNSEEN
    shown: int = 0

    def receive(self, happened: Input) -> Action | None:
        """Take an input; only the first surface and the last are the table's.

        Raises:
            LocalProtocolError: that cannot happen in this state.
        """
        if self.state in ON_SURFACE and self._is_one_of_several(happened):
            return None
        try:
            state, action = TABLE[self.state, happened]
        except KeyError:
            raise LocalProtocolError(
                f"a buffer cannot be {happened.name} while it is {self.state.name}"
            ) from None
        self.state = state
        if happened in (Input.SHOWN, Input.LEFT):
            self.shown = int(happened is Input.SHOWN)
        return action

    @property
    def is_making(self) -> bool:
        """Whether someone waits for it."""
        return self.state in MAKING

    @property
    def is_usable(self) -> bool:
        """Whether it can be shown at once."""
        return self.state in USABLE

    @property
    def is_failed(self) -> bool:
        """Whether it could not be shown when it was last wanted."""
        return self.state in (State.FAILED, State.DEAD)

    @property
    def is_destroyed(self) -> bool:
        """Whether the guest has destroyed it."""
        return self.state in DESTROYED

    def _is_one_of_several(self, happened: Input) -> bool:
        if happened is Input.SHOWN and self.state not in DESTROYED:
            self.shown += 1
            return True
        if happened is Input.LEFT and self.shown > 1:
            self.shown -= 1
            return True
        return False
