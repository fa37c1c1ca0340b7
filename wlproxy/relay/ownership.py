"""Whose a selection is, and when what manages clipboards may set another one (`managers = "own"`).

Data control has neither focus nor serials: who may bind it sets a selection at any time.  Where policy binds it
to the VM's own, all of those have a MIME type more, a mark with the VM's name, that the compositor is told of
a source and no app of any guest is: so that none can offer it, and it does not matter which connection
hears first that a selection is another one's.

A compositor that is told to set a selection does not compare it with the one that was meant, so that whoever
sets selections without a pause would sooner or later replace one that was new just then.  The mark counts how often
in a row what manages clipboards has set the VM's own: after `MAX_IN_A_ROW` times an app has to copy something first,
or the user to press something.
"""

from dataclasses import dataclass, field
from typing import Final

from wlproxy.relay.policy_tree import Clipboard, Managers, Policy
from wlproxy.relay.wire.objects import ProtocolObject, Question

CONTROL: Final = "_data_control_"
"""In the names of what manages clipboards: ext-data-control and wlr-data-control."""

MARKS: Final = b"application/x.wlproxy.vm."
"""What the MIME types begin with that say whose a selection is; names of VMs have no dot."""

MAX_IN_A_ROW: Final = 64
"""More than anybody has set between two copies; each is a moment at which the host's may be replaced."""

USED_SOURCE: Final = 1
"""`ext_data_control_device_v1.error`, and wlr's: a source is set once."""

INVALID_OFFER: Final = 1
"""`ext_data_control_source_v1.error`, and wlr's: a type that comes after that."""


@dataclass(slots=True, eq=False)
class Followed:
    """What a device was told of one selection.

    Attributes:
        count: how often in a row the VM's own was set by what manages clipboards; None: the last
            one was not the VM's, or is not known.
        gone: nothing is selected any more.
    """

    count: int | None = None
    gone: bool = False


@dataclass(slots=True, eq=False)
class Follower:
    """What one device of data control knows of the selections of its seat.

    Attributes:
        uses: what each selection is, and what was told of it.
        question: whether it was told all that there is; a request waits for the answer.
    """

    uses: dict[str, Followed] = field(default_factory=dict)
    question: Question | None = None

    def hear(self, use: str, count: int | None, *, gone: bool) -> None:
        """There is another selection, or none any more.

        Args:
            use: which.
            count: of its mark; None: it is not the VM's.
            gone: there is none.
        """
        known = self.uses.setdefault(use, Followed())
        known.gone = gone
        if not gone:
            known.count = count

    def next_count(self, use: str, *, clears: bool) -> int | None:
        """Decide whether a selection may be set though the user has not just asked for it.

        It may if it replaces the VM's own, or what was the VM's own and is gone with its app.

        Args:
            use: which.
            clears: there is to be none.

        Returns:
            What its mark is to count; None: it may not.
        """
        known = self.uses.get(use, Followed())
        if known.count is None or known.count >= MAX_IN_A_ROW:
            return None
        return None if clears and known.gone else known.count + 1


def controls(entry: ProtocolObject) -> bool:
    """Whether an object is one of data control's."""
    return CONTROL in entry.interface.name


def is_bound(policy: Policy, rules: Clipboard) -> bool:
    """Whether there may be clipboard managers in the guest, and this is to be the VM's own for them."""
    return rules.managers is Managers.OWN and _has_control(policy)


def heeds_gestures(policy: Policy) -> bool:
    """Whether it matters when a key or a button was pressed."""
    managers = (policy.clipboard.managers, policy.primary.managers)
    return policy.asks or (Managers.OWN in managers and _has_control(policy))


def _has_control(policy: Policy) -> bool:
    """Whether apps of the guest may bind data control."""
    return any(CONTROL in each for each in policy.globals.caps)


def mark(vm_name: str, count: int = 0) -> bytes:
    """Make the MIME type that says that a selection is this VM's."""
    end = f".{count}" if count else ""
    return MARKS + vm_name.encode() + end.encode()


def read_mark(vm_name: str, name: bytes) -> int | None:
    """Read the count of a MIME type that is a mark; None: of another VM's."""
    own = mark(vm_name)
    if name == own:
        return 0
    count = name.removeprefix(own + b".")
    if count == name or not count.isdigit() or len(count) > len(str(MAX_IN_A_ROW)):
        return None
    return int(count)
