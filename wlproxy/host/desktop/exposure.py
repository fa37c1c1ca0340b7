"""Finds which globals the compositor shows to the guest's clients, and what the user should know.

A compositor may deny some of its globals to the clients of a security context.  What it
denies is its own decision.  The log and `wlproxy status` tell the user of a denial that takes
away something they asked for, and of dangerous globals that the compositor does not deny.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from wlproxy.relay.policy import PRIVILEGED

_CONTEXT = "--no-security-context"


@dataclass(frozen=True, slots=True)
class Exposure:
    """The globals that the compositor shows to everybody, and to the guest's clients.

    Attributes:
        everybody: what any client sees.
        guests: what a client of the guest sees.
        not_isolated: why the compositor does not know whose these are; empty if it does.
    """

    everybody: Mapping[str, int] = field(default_factory=dict)
    guests: Mapping[str, int] = field(default_factory=dict)
    not_isolated: str = ""

    @property
    def withheld(self) -> set[str]:
        """What the compositor denies the guest's clients."""
        return set(self.everybody) - set(self.guests)


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence for the user; the level is one of `logging`."""

    level: int
    text: str


def remarks(
    exposure: Exposure, policy: Collection[str], allowed: Collection[str]
) -> Iterator[Remark]:
    """Say which requests and which protections fail on this compositor.

    Args:
        exposure: what was found.
        policy: the interfaces that wlproxy lets the guest see.
        allowed: those of them that the user has asked for.
    """
    withheld = exposure.withheld
    for name in allowed:
        if name in withheld:
            yield Remark(
                logging.WARNING,
                f"--allow {name} has no effect: the compositor denies it to clients of "
                f"a security context; {_CONTEXT} gets it, without the compositor's "
                "own protection",
            )
        elif name not in exposure.everybody:
            yield Remark(
                logging.WARNING,
                f"--allow {name} has no effect: the compositor does not have it",
            )
    lost = withheld & set(policy) - set(allowed)
    if lost:
        yield Remark(
            logging.INFO,
            f"apps of the guest go without {_listed(lost)}, denied by the compositor to "
            f"clients of a security context ({_CONTEXT} gets it)",
        )
    visible = PRIVILEGED & exposure.guests.keys()
    if exposure.not_isolated:
        yield Remark(logging.WARNING, _not_isolated(exposure.not_isolated, visible))
    elif visible:
        yield Remark(
            logging.WARNING,
            f"the compositor's security context does not hide {_listed(visible)}: only "
            "wlproxy's own policy keeps the guest from that",
        )


def _not_isolated(why: str, visible: Collection[str]) -> str:
    kept = f" keeps the guest from {_listed(visible)}" if visible else " applies"
    return (
        "the compositor cannot tell the guest's clients from your own "
        f"({why}): only wlproxy's own policy{kept}"
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
