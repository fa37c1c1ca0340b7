"""`python -m wlproxy`: runs the command line."""

from wlproxy.cli import main

if __name__ == "__main__":
    main()
