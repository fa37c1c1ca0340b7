"""Adds to the guest's distribution what lies outside `wlproxy_guest`.

The guest agent shares the channel protocol and the transport with the host, under the
host's import name, and must be installable without the host's distribution: so its own
carries those files. Never install both into one environment; in place (`pip install -e`) the shared files
are left out, since there the repository's are imported.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SHARED = (
    "__init__.py",
    "py.typed",
    "protocol/__init__.py",
    "protocol/errors.py",
    "protocol/channel",
    "transport",
)


class GuestBuildHook(BuildHookInterface[Any]):
    """Force-includes the shared code, and in wheels the systemd units."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fill in hatchling's `force_include`: source path -> path in the archive."""
        if version == "editable":
            return
        root = Path(self.root)
        # An unpacked sdist has its copy inside; in the repository it is the sibling.
        inside = root / "wlproxy"
        source = inside if inside.is_dir() else root.parent / "wlproxy"
        include: dict[str, str] = build_data["force_include"]
        for name in SHARED:
            include[str(source / name)] = f"wlproxy/{name}"
        units = root / "systemd"
        if self.target_name == "wheel" and units.is_dir():
            build_data["shared_data"][str(units)] = "share/wlproxy/systemd"
