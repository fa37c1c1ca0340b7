"""Which globals a guest may see, and up to which version.

`verdicts` has a row for each; everything else is hidden at the registry, as is what our
tables do not know, since its messages could not be decoded.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from wlproxy.protocol.wayland.interface_table import INTERFACES
from wlproxy.relay.verdicts import VERDICTS, Access

ALLOWED_BY_DEFAULT: Final[Mapping[str, int]] = MappingProxyType(
    {
        name: verdict.most
        for name, verdict in VERDICTS.items()
        if verdict.access is Access.ALLOWED
    }
)
"""Interface to highest version."""

PRIVILEGED: Final = frozenset(
    name for name, verdict in VERDICTS.items() if verdict.reaches
)
"""What reaches beyond a client's own windows: a compositor's isolation should hide it.

A guest sees none of it unless it is allowed; this list only serves to say how much rests
on that."""


NEEDS_CLOCK: Final = frozenset({"wp_commit_timing_manager_v1"})
"""Offered once the guest's clock is known well: apps name times to the compositor, which
would hold their windows back until then, for days if it is another clock."""


def effective_policy(
    allow: Iterable[str] = (),
    deny: Iterable[str] = (),
    versions: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, int]:
    """Say which globals a VM may see: the defaults, plus `allow`, minus `deny`.

    Args:
        allow: those that are not allowed by default.
        deny: those that are to be hidden.
        versions: the highest version of some, where that is to be less than we could have.

    Returns:
        Interface name to the highest version that a guest may bind.

    Raises:
        ValueError: a name in `allow` is no global, or one that cannot be relayed; or one in
            `deny` or `versions` is no global that is known: it may be a mistyped one, which
            would stay.
    """
    policy = dict(ALLOWED_BY_DEFAULT)
    for name in allow:
        verdict = VERDICTS.get(name)
        if verdict is None:
            raise ValueError(_cannot_allow(name))
        if verdict.access is Access.DENIED:
            raise ValueError(f"cannot allow {name}: {verdict.why}")
        policy[name] = verdict.most
    for name in deny:
        if name not in VERDICTS:
            raise ValueError(_cannot_deny(name))
        policy.pop(name, None)
    for name, most in versions.items():
        if name not in VERDICTS:
            raise ValueError(_cannot_deny(name, "cap"))
        if name in policy:
            policy[name] = min(policy[name], most)
    return {name: min(cap, INTERFACES.version(name)) for name, cap in policy.items()}


def _cannot_deny(name: str, what: str = "deny") -> str:
    """Say why an interface cannot be denied, or capped, and what may have been meant."""
    if name in INTERFACES:
        return f"cannot {what} {name}: it is no global, but made by others"
    why = (
        f"cannot {what} {name}: no such global is known here, so that no guest sees it"
        " (docs/protocols.md has what wlproxy knows)"
    )
    return why + _perhaps(name)


def _cannot_allow(name: str) -> str:
    """Say why an interface cannot be allowed, and what may have been meant."""
    if name in INTERFACES:
        return f"cannot allow {name}: it is no global, but made by others"
    why = (
        f"cannot allow {name}: its messages are not known here, so they could not be "
        "passed on (docs/protocols.md has what wlproxy knows)"
    )
    return why + _perhaps(name)


def _perhaps(name: str) -> str:
    """Name the global that is nearly so called, if there is one."""
    close = get_close_matches(name, VERDICTS, n=1, cutoff=0.8)
    return f". Did you mean {close[0]}?" if close else ""
