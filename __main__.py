"""`python -m p2`: the command, for Python itself and for what starts modules, such as torchrun."""

import os
import sys

from .cli import main

if __name__ == "__main__":
    code = main()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # All is done and written. Now and then PyTorch ends the threads between processes in an order that
        # aborts this one ("terminate called without an active exception"), and torchrun then ends the others.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
