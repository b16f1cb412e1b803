"""`python -m p2`: the command, for Python itself and for what starts modules, such as torchrun."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
