"""How this program was started, and is again, by menus and by `wlproxy serve`."""

import os
import shutil
import sys
from pathlib import Path

from wlproxy.transport.fds import OwnedFd


def by_interpreter() -> list[str]:
    """Return the command that runs this package with this interpreter.

    -P (PYTHONSAFEPATH): what lies in the directory that one happens to be in is not imported.
    """
    return [sys.executable, "-P", "-m", "wlproxy"]


def ourselves() -> list[str]:
    """Return the command that runs this very program: menus may have another PATH."""
    program = Path(sys.argv[0])
    if program.name == "wlproxy" and (found := shutil.which(str(program))):
        return [str(Path(found).absolute())]
    return by_interpreter()


def has_terminal() -> bool:
    """Whether there is a terminal that could be closed (tty(4): opening it fails if not).

    It sends SIGHUP then, which services are sent to have them read their files again.
    """
    try:
        OwnedFd(os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)).close()
    except OSError:
        return False
    return True
