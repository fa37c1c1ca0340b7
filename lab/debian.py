"""Finds the Debian mirrors, for this machine's packages and for the images.

The only host name written down here is Debian's own.  The mirror is the one that the machine
is configured with, ``$WLPROXY_DEBIAN_MIRROR`` if that is set, and Debian's public one if
neither says anything.
"""

import os
import re
from pathlib import Path

DEFAULT_MIRROR = "http://deb.debian.org/debian"
APT = Path("/etc/apt")


def release() -> dict[str, str]:
    """Read ``/etc/os-release``."""
    fields = {}
    for line in Path("/etc/os-release").read_text().splitlines():
        name, found, value = line.partition("=")
        if found:
            fields[name] = value.strip("\"'")
    return fields


def configured_uris(apt: Path = APT) -> list[str]:
    """List the archive URIs in this machine's apt sources, in order."""
    uris: list[str] = []
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip().lower() == "uris":
                uris += value.split()
    for path in [
        apt / "sources.list",
        *sorted((apt / "sources.list.d").glob("*.list")),
    ]:
        if path.exists():
            uris += re.findall(
                r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)", path.read_text(), re.MULTILINE
            )
    return uris


def mirror(apt: Path = APT) -> str:
    """Return the Debian archive to build from, without a trailing slash."""
    if override := os.environ.get("WLPROXY_DEBIAN_MIRROR"):
        return override.rstrip("/")
    if release().get("ID") == "debian" or apt != APT:
        for uri in configured_uris(apt):
            # ".../debian", not ".../debian-security" and not a third party's.
            if uri.rstrip("/").endswith("/debian"):
                return uri.rstrip("/")
    return DEFAULT_MIRROR
