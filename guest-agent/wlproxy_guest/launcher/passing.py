"""What the agent says to a launcher: a byte, and what comes with it."""

from pathlib import Path
from typing import Final

SOCKET: Final = Path("/run/wlproxy-launch/socket")
"""Where the agent lets launchers connect, if the guest's configuration has it do so."""
PASSED: Final = b"L"
"""Comes with the pipes of a `Launch`."""
REFUSED: Final = b"R"
"""Comes with the reason why this launcher is not wanted, before the end."""
