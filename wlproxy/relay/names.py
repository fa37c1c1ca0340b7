"""Names of the compositor's that are good for every app of the desktop, and what the guest has in their place.

Who has the handle of a window (xdg-foreign) may put dialogs over it; who has the id of a session
(xdg-session-management) takes that session over.  So the guest never sees either.  It is given a name
that is made of it and cannot be turned back, and only such a name is worth anything to it: whatever else
an app names, guessed or told by somebody else, is nobody's.  All apps of a VM share these tables, which no
other VM's proxy has.
"""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

MAX_EXPORTS: Final = 256
"""Windows that one app may lend at a time; those that open a dialog lend one or two."""

MAX_SESSIONS: Final = 256
"""Sessions that all apps of a VM begin; the compositor keeps each, on its disk if need be."""

MAX_APP_SESSIONS: Final = 32
"""Those that one of them begins while it is connected; an app needs one."""

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
        name: the guest's for it, once that is known.
        app: id of the client that has begun it; 0: another one has.
    """

    name: str = ""
    app: int = 0


@dataclass(slots=True, eq=False)
class Sessions:
    """All that the apps of one VM have begun, and may go on with while this session of the proxy lasts."""

    _ids: dict[str, bytes] = field(default_factory=dict)
    _begun: int = 0
    _counts: dict[int, int] = field(default_factory=dict)

    def begin(self, app: int) -> Session | None:
        """Enter one that an app begins; None if it, or all of them, have begun too many."""
        count = self._counts.get(app, 0)
        if count >= MAX_APP_SESSIONS or self._begun >= MAX_SESSIONS:
            return None
        self._counts[app] = count + 1
        self._begun += 1
        return Session(app=app)

    def name(self, session: Session, original: bytes) -> bytes:
        """Take the compositor's id of one, and return what the guest is told in its place."""
        replaced = self._ids.pop(session.name, None) is not None
        if session.name and not replaced:
            self._begun += 1  # another app has removed it, and here it is begun anew
        session.name = guest_name(original)
        self._ids[session.name] = original
        return session.name.encode()

    def find(self, name: bytes) -> bytes | None:
        """Return the compositor's id of what a guest names; None if that is nobody's, or there are too many."""
        if self._begun > MAX_SESSIONS:
            return None  # one that is removed meanwhile is begun anew
        return self._ids.get(name.decode("ascii", "replace"))

    def remove(self, session: Session) -> None:
        """The compositor forgets it."""
        known = self._ids.pop(session.name, None) is not None
        if known or not session.name:  # else another app has removed it before
            self._begun -= 1
        if session.app in self._counts:
            self._counts[session.app] -= 1

    def close(self, app: int) -> None:
        """An app has gone; what it has begun is kept."""
        self._counts.pop(app, None)
