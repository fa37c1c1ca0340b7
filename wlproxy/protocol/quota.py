"""Counts how much of something is taken, of all of it and by one who shares it.

This only counts: what a quota is of, and what follows where nothing is left, is said elsewhere.
"""

from dataclasses import dataclass

from wlproxy.protocol.errors import LocalProtocolError


@dataclass(slots=True, eq=False)
class Quota:
    """Something of which only so much may be taken at a time.

    Attributes:
        limit: how much.
        used: how much is taken.
    """

    limit: int
    used: int = 0

    def take(self, amount: int) -> bool:
        """Take `amount`, or nothing and return False where that is more than is left."""
        if self.used + amount > self.limit:
            return False
        self.used += amount
        return True

    def give_back(self, amount: int) -> None:
        """Undo a `take`.

        Raises:
            LocalProtocolError: more than was taken.
        """
        if not 0 <= amount <= self.used:
            raise LocalProtocolError(f"{amount} given back of {self.used}")
        self.used -= amount


@dataclass(slots=True)
class Share:
    """What one client takes of a quota: no more than its own limit.

    Attributes:
        quota: of all clients.
        limit: the client's own.
        used: how much it has taken.
    """

    quota: Quota
    limit: int
    used: int = 0

    def take(self, amount: int) -> bool:
        """As of `Quota`."""
        if self.used + amount > self.limit or not self.quota.take(amount):
            return False
        self.used += amount
        return True

    def give_back(self, amount: int) -> None:
        """Undo a `take`."""
        self.used -= amount
        self.quota.give_back(amount)

    def close(self) -> None:
        """Give back all of it: the client is gone."""
        self.give_back(self.used)
