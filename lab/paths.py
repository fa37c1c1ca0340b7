"""Where the lab keeps things: this checkout and the cache."""

import os
from pathlib import Path

LAB = Path(__file__).resolve().parent
REPOSITORY = LAB.parent


def cache() -> Path:
    """Return the lab's cache directory, made if need be."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(base).expanduser() / "wlproxy" / "lab"
    path.mkdir(parents=True, exist_ok=True)
    return path
