"""Which texts may cross between the guest's clipboard and the host's: the VM's policy, as for its apps.

`relay.policy_tree` judges.  The whole machine is as one app to it: with `ask`, what is pressed in any of its windows counts.
"""

from collections.abc import Callable
from enum import IntEnum

from wlproxy.relay.policy_tree import GESTURE_SECONDS, Clipboard, Direction, Policy


class Selection(IntEnum):
    """Which clipboard; QEMU's third one, no desktop has."""

    CLIPBOARD = 0
    PRIMARY = 1
    """What is selected, and pasted by the middle button."""


class Sharing:
    """What is in force.

    Attributes:
        changed: called when another policy is.
    """

    def __init__(self, policy: Policy, now: Callable[[], float]) -> None:
        """Nothing was pressed yet.

        Args:
            policy: what is in force at first.
            now: tells the time, in seconds.
        """
        self.changed: Callable[[], None] = lambda: None
        self._policy = policy
        self._now = now
        self._gesture_until = -1.0

    @property
    def on(self) -> bool:
        """Whether anything may cross, at some time."""
        ways = self._policy.clipboard.direction, self._policy.primary.direction
        return any(way is not Direction.OFF for way in ways)

    def obey(self, policy: Policy) -> None:
        """Have another policy be in force."""
        self._policy = policy
        self.changed()

    def rules(self, selection: Selection) -> Clipboard:
        """Return what the policy says of one of them."""
        if selection is Selection.PRIMARY:
            return self._policy.primary
        return self._policy.clipboard

    def most(self, selection: Selection, bound: int) -> int:
        """Return how many bytes a text may have, which is `bound` at most."""
        return min(self.rules(selection).max_bytes or bound, bound)

    def begin_gesture(self) -> None:
        """A key, a button or a finger: what happens now is meant by the user."""
        self._gesture_until = self._now() + GESTURE_SECONDS

    def end_gesture(self) -> None:
        """The keyboard is elsewhere."""
        self._gesture_until = -1.0

    def may_paste(self, selection: Selection) -> bool:
        """Whether the guest may have the host's text now."""
        rules = self.rules(selection)
        return rules.direction.to_guest and rules.is_asked_for(
            gesture=self.gesture_left > 0
        )

    def may_copy(self, selection: Selection) -> bool:
        """Whether the host may be told now that the guest has a text."""
        rules = self.rules(selection)
        return rules.direction.to_host and rules.is_asked_for(
            gesture=self.gesture_left > 0
        )

    @property
    def gesture_left(self) -> float:
        """Seconds until what happens is not meant by the user any more, where that matters; 0: it is not."""
        asks = self._policy.asks
        return max(self._gesture_until - self._now(), 0) if asks else 0
