"""`python -m wlproxy_guest`: runs the agent where its console script is not installed."""

import sys

from wlproxy_guest.cli import main

sys.exit(main())
