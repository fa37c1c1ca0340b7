"""`python -m wlproxy_guest`: the console script, where there is none."""

import sys

from wlproxy_guest.cli import main

sys.exit(main())
