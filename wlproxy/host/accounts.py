"""Users and groups that a command line names, by name or by number."""

import grp
import pwd
from typing import Final

from wlproxy.host.errors import HostError

MAX_ID: Final = 2**32 - 2
"""The largest number of a user or a group: the one after it stands for none (chown(2))."""


def uid_of(user: str) -> int:
    """Find a user's number.

    Raises:
        HostError: there is no such user, or there can be none.
    """
    number = _number(user, "user")
    if number is not None:
        return number
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise HostError(f"there is no user {user!r}") from None


def gid_of(group: str) -> int:
    """Find a group's number.

    Raises:
        HostError: there is no such group, or there can be none.
    """
    number = _number(group, "group")
    if number is not None:
        return number
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        known = ", ".join(sorted(each.gr_name for each in grp.getgrall()))
        raise HostError(
            f"there is no group {group!r}", remedy=f"Name another. There are: {known}."
        ) from None


def _number(name: str, kind: str) -> int | None:
    """Read a number; None: it is a name."""
    digits = name.lstrip("+-")
    if not (digits.isascii() and digits.isdecimal()):
        return None
    # Python itself reads no more than some thousand digits.
    short = digits.lstrip("0")[: len(str(MAX_ID)) + 1] or "0"
    if name[0] in "+-" or int(short) > MAX_ID:
        shown = name if len(name) <= 40 else f"{name[:40]}…"
        raise HostError(
            f"{shown} is not the number of a {kind}",
            remedy=f"Give a name, or a number from 0 to {MAX_ID}.",
        )
    return int(short)
