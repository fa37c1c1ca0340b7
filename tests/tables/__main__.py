"""`python -m tests.tables`: makes the tables of interfaces anew, and the page about them.

The tables come from the XML in Debian's packages, the page (`docs/protocols.md`) from the
tables and what `wlproxy.relay.verdicts` says of each global, and another (`docs/policy.md`) from
`wlproxy.relay.policy_tree`.  Without network: `python -m tests.tables page` makes the pages alone.
`python -m tests.tables offered` records which globals compositors offer (`tests.tables.offered`).
"""

import sys
import tempfile
from pathlib import Path

from tests import compositors
from tests.tables import offered
from tests.tables.packages import NoPackagesError, fetch
from tests.tables.page import PAGE, page
from tests.tables.policy_page import POLICY_PAGE, policy_page
from tests.tables.written import TABLES, written


def main(args: list[str]) -> str | None:
    """Do it; returns what went wrong."""
    if args not in ([], ["page"], ["offered"]):
        return __doc__
    if args == ["offered"]:
        return _record()
    if not args:
        with tempfile.TemporaryDirectory() as directory:
            try:
                packages = fetch(Path(directory))
            except NoPackagesError as exc:
                return f"the protocols' packages cannot be had: {exc}"
            TABLES.write_text(written(packages))
    PAGE.write_text(page())
    POLICY_PAGE.write_text(policy_page())
    return None


def _record() -> str | None:
    with tempfile.TemporaryDirectory() as directory:
        try:
            recorded = offered.record(Path(directory))
        except compositors.CannotRunError as exc:
            return f"the compositors cannot be run: {exc}"
    offered.OFFERED.write_text(offered.write(recorded))
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
