"""Says which machine, and which programs, were measured."""

import os
import platform
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from bench.peers import TREE, version


def describe_machine() -> dict[str, str]:
    """Describe this machine, and the versions of what is compared."""
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20} MiB",
        "kernel": platform.release(),
        "virtual": "yes" if "hypervisor" in _cpuinfo("flags").split() else "no",
        "python": sys.version.partition(" ")[0],
        "trio": version_of("trio"),
        "weston": version(["weston", "--version"]),
        "sway": version(["sway", "--version"]),
        "waypipe": version(["waypipe", "--version"]),
        "wlproxy": version(["git", "-C", str(TREE), "describe", "--always", "--dirty"]),
    }


def _processor() -> str:
    return _cpuinfo("model name") or platform.machine()


def _cpuinfo(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
