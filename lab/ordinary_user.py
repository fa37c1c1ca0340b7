"""Programs that refuse to run as root, run as an ordinary user."""

import os
from collections.abc import Sequence
from typing import Final

NOBODY: Final = 65534
"""uid and gid."""


def as_nobody(argv: Sequence[str], *, dies_with_parent: bool = False) -> list[str]:
    """Return the command that runs a command as nobody, if we are root.

    Debian 12's sway insists.  What it writes to has to be `NOBODY`'s.

    Args:
        argv: the command.
        dies_with_parent: have the kernel kill it with the thread that starts it, which a
            change of user would make it forget (prctl(2), PR_SET_PDEATHSIG).
    """
    if os.geteuid() != 0:
        return [*argv]
    dies = ("--pdeathsig", "KILL") if dies_with_parent else ()
    ids = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    return ["setpriv", *ids, *dies, "--", *argv]
