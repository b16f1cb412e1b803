"""The `p2 doctor` command."""

from __future__ import annotations

from ..render.terminal import console
from .shared import AsJson


def doctor(
    as_json: AsJson = False,
) -> None:
    """Say what is installed, which engines can be built and run here, and what would change that."""
    from ..runtime import doctor as checkup

    found = checkup.diagnose()
    if as_json:
        import json

        print(json.dumps(found.to_dict(), indent=2))
    else:
        checkup.show(found, console())
