"""The `p2 demo` command."""

from __future__ import annotations

from ..contract.errors import ToleranceExceeded
from ..render.terminal import console, needing


def demo() -> None:
    """Everything once, on the text that Python carries, in about two minutes."""
    with needing("train"):
        from . import demonstration

        passed = demonstration.run(console())
    if not passed:
        raise ToleranceExceeded("an engine is out of tolerance")
