"""The `p2 doctor` command."""

from __future__ import annotations

from typing import Annotated

import typer

from ..render.terminal import console


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Write everything as JSON.")] = False,
) -> None:
    """Say what is installed, which engines can be built and run here, and what would change that."""
    from ..runtime import doctor as checkup

    found = checkup.diagnose()
    if as_json:
        import json

        print(json.dumps(found.to_dict(), indent=2))
    else:
        checkup.show(found, console())
