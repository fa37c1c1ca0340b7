"""Policies of tests: what may be copied and pasted."""

import time
from collections.abc import Callable

from wlproxy.relay.policy_tree import Clipboard, Direction, Policy, Primary
from wlproxy.screen.sharing import Sharing


def directions(clipboard: str = "both", primary: str = "both") -> Policy:
    return Policy(
        clipboard=Clipboard(Direction(clipboard)), primary=Primary(Direction(primary))
    )


def sharing(
    clipboard: str = "both",
    primary: str = "both",
    now: Callable[[], float] = time.monotonic,
) -> Sharing:
    return Sharing(directions(clipboard, primary), now)
