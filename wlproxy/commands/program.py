"""How this program is started again, by menus and by `wlproxy serve`."""

import shutil
import sys
from pathlib import Path


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
