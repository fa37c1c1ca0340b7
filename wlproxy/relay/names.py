"""Names of the compositor's that are good for every app of the desktop, and what the guest has in their place.

Who has the handle of a window (xdg-foreign) may put dialogs over it; who has the id of a session
(xdg-session-management) takes that session over.  So the guest never sees either.  It is given a name
that is made of it and cannot be turned back, and only such a name is worth anything to it: whatever else
an app names, guessed or told by somebody else, is nobody's.  All apps of a VM share these tables, which no
other VM's proxy has.
"""

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

MAX_EXPORTS: Final = 256
"""Windows that one app may lend at a time; those that open a dialog lend one or two."""

MAX_SESSIONS: Final = 256
"""Sessions that all apps of a VM begin; the compositor keeps each, on its disk if need be."""

MAX_APP_SESSIONS: Final = 32
"""Those that one of them has begun; an app needs one."""

NAME_LENGTH: Final = 32
"""Characters of a name: 128 bits, as little to be guessed as what it is made of."""


def guest_name(original: bytes) -> str:
    """Make the guest's name of a name of the compositor's."""
    return sha256(original).hexdigest()[:NAME_LENGTH]


@dataclass(slots=True, eq=False)
class Export:
    """A window that an app lends: the role of a `zxdg_exported`.

    Attributes:
        app: the client's id.
        handle: the compositor's for it; empty until it has told.
        name: the guest's for that.
    """

    app: int
    handle: bytes = b""
    name: str = ""


@dataclass(slots=True, eq=False)
class Exports:
    """All that the apps of one VM lend."""

    _named: dict[str, Export] = field(default_factory=dict)
    _counts: dict[int, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the handles that can be imported."""
        return len(self._named)

    def begin(self, app: int) -> Export | None:
        """Enter a window that an app lends; None if it lends too many."""
        count = self._counts.get(app, 0)
        if count >= MAX_EXPORTS:
            return None
        self._counts[app] = count + 1
        return Export(app)

    def name(self, export: Export, handle: bytes) -> bytes:
        """Take the compositor's handle of one, and return what the guest is told in its place."""
        self._forget(export)
        export.handle = handle
        export.name = guest_name(handle)
        self._named[export.name] = export
        return export.name.encode()

    def find(self, name: bytes) -> bytes | None:
        """Return the compositor's handle of what a guest names; None if that is nobody's."""
        export = self._named.get(name.decode("ascii", "replace"))
        return None if export is None else export.handle

    def end(self, export: Export) -> None:
        """It is not lent any more."""
        self._forget(export)
        self._counts[export.app] -= 1

    def close(self, app: int) -> None:
        """An app has gone, and all that it lent."""
        if self._counts.pop(app, 0):
            kept = {k: each for k, each in self._named.items() if each.app != app}
            self._named = kept

    def _forget(self, export: Export) -> None:
        if self._named.get(export.name) is export:
            del self._named[export.name]


@dataclass(slots=True, eq=False)
class Session:
    """The role of an `xdg_session_v1`.

    Attributes:
        owner: the app that has begun it, by its executable: connections come and go.
        name: the guest's for it, once that is known.
    """

    owner: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class KeptSession:
    """What the compositor keeps, and an app may go on with.

    Attributes:
        original: the compositor's id.
        owner: as of `Session`.
    """

    original: bytes
    owner: str


@dataclass(slots=True, eq=False)
class Sessions:
    """All that the apps of one VM have begun, and may go on with while this session of the proxy lasts."""

    _kept: dict[str, KeptSession] = field(default_factory=dict)
    """By the guest's names, the oldest first."""
    _unnamed: dict[str, int] = field(default_factory=dict)
    """How many each app has begun whose ids are not known yet; of one that goes before, they never are."""

    def __len__(self) -> int:
        """Count what the compositor keeps."""
        return len(self._kept) + sum(self._unnamed.values())

    def displace(self, app: str) -> dict[str, bytes]:
        """Make room for one that an app begins.

        Returns:
            Which the compositor is to forget, by the guest's names: the oldest of the app's own,
            or, if all apps together have too many, of the app that has most.
        """
        displaced: dict[str, bytes] = {}
        while guilty := self._guilty(app):
            own = (name for name, kept in self._kept.items() if kept.owner == guilty)
            if (oldest := next(own, None)) is None:
                break
            displaced[oldest] = self._kept.pop(oldest).original
        return displaced

    def begin(self, app: str) -> Session | None:
        """Enter one that an app begins; None if there is no room for it."""
        if self._guilty(app):
            return None
        self._unnamed[app] = self._unnamed.get(app, 0) + 1
        return Session(app)

    def go_on(self, name: bytes) -> Session | None:
        """Enter what an app goes on with; None if that is nobody's, or there are too many."""
        if len(self) > MAX_SESSIONS:
            return None  # one that is removed meanwhile is begun anew
        text = name.decode("ascii", "replace")
        kept = self._kept.get(text)
        return None if kept is None else Session(kept.owner, text)

    def original(self, session: Session) -> bytes | None:
        """Return the compositor's id of one; None if it has none yet, or none any more."""
        kept = self._kept.get(session.name)
        return None if kept is None else kept.original

    def name(self, session: Session, original: bytes) -> bytes:
        """Take the compositor's id of one, and return what the guest is told in its place."""
        self.remove(session)
        session.name = guest_name(original)
        self._kept[session.name] = KeptSession(original, session.owner)
        return session.name.encode()

    def remove(self, session: Session) -> None:
        """The compositor forgets it, unless another app has had it forgotten before."""
        if session.name:
            self._kept.pop(session.name, None)
            return
        self._unnamed[session.owner] -= 1
        if not self._unnamed[session.owner]:
            del self._unnamed[session.owner]

    def _guilty(self, app: str) -> str:
        """Say who has too many for the app to begin another one; empty: nobody."""
        counts = Counter({app: 0})  # first, so that it is the one of several with most
        counts.update(self._unnamed)
        counts.update(kept.owner for kept in self._kept.values())
        if counts[app] >= MAX_APP_SESSIONS:
            return app
        if counts.total() >= MAX_SESSIONS:
            return max(counts, key=counts.__getitem__)
        return ""
