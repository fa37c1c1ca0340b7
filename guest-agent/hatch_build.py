"""Tells hatchling what `wlproxy` and `wlproxy-guest` depend on.

Both use code of `wlproxy-channel`, which has no stable interface, so they need exactly
their own version of it.  That version is written down in one place, which static metadata
cannot refer to: hence `dynamic = ["dependencies"]` and this build hook.  In an unpacked
sdist, PKG-INFO holds the result.

The repository's own pyproject.toml uses this file too.  An sdist has to carry its hook, so
the sdist of `wlproxy` carries this directory.
"""

import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

SHARED = "wlproxy-channel"


class DependenciesHook(MetadataHookInterface):
    """Depends on the dependency group `run`, and on the shared code's same version."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `dependencies`; hatchling has set the version by then."""
        pyproject = tomllib.loads((Path(self.root) / "pyproject.toml").read_text())
        others = pyproject["dependency-groups"]["run"]
        metadata["dependencies"] = [*others, f"{SHARED}=={metadata['version']}"]
