"""Labels windows for the compositor: the VM's name first, then what the app says.

A person must be able to tell a guest's window from the host's own, and one guest's from
another's, by what a title bar, a task list or a window rule shows.  So nothing that an
app says may hide, move or imitate our part.
"""

import unicodedata
from typing import Final

MAX_TEXT: Final = 1024
"""Bytes of what an app says that are passed on; always whole UTF-8 characters."""

PREFIX: Final = "wlproxy"
"""Begins every app id.  No app of the host's has it, whatever the VM is called."""

_SPACES: Final = frozenset("\t\n\v\f\r\x85\u2028\u2029")
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Categories of Unicode that steer (controls, bidi, joiners) or are no characters."""

_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})

_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"


def plain(data: bytes) -> str:
    """Read what an app says: only characters that can be seen, on one line.

    Compositors may end a client for what is no UTF-8: that part is left out.
    """
    text = data[:MAX_TEXT].decode("utf-8", "ignore")
    if text.isprintable():
        return text
    spaced = (" " if char in _SPACES else char for char in text)
    seen = (char for char in spaced if unicodedata.category(char) not in _UNSEEN)
    return "".join(seen).strip()


def title(vm_name: str, text: str | None = None) -> bytes:
    """Make a title: "[VM] text".

    Text from right to left is isolated, so that the label stays in front of it.
    """
    if text is None:
        return f"[{vm_name}]".encode()
    return f"[{vm_name}] {isolated(text)}".encode()


def isolated(text: str) -> str:
    """Keep a text from moving what stands around it, if it is from right to left."""
    if any(unicodedata.bidirectional(char) in _RIGHT_TO_LEFT for char in text):
        return f"{_ISOLATE}{text}{_POP_ISOLATE}"
    return text


def app_id(vm_name: str, text: str = "") -> bytes:
    """Make an app id: "wlproxy.VM.text".  No dot is in a VM's name (`host.status`)."""
    return ".".join(filter(None, (PREFIX, vm_name, text))).encode()


def icon_name(text: str) -> bytes:
    """Make a name of an icon theme: not a path, of which some would load a file."""
    return text.replace("/", "").encode()
