"""How a claim is judged: by a rule on the results, which says in words what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .document import Claim, Verdict

Results = dict[str, Any]
Judged = tuple[str, Verdict]
"""What was measured, in a sentence or two, and what follows for the claim."""
Rule = Callable[[Results], Judged | None]
"""Of results; where they do not say, it gives None, or raises `NotMeasured` with the reason."""


class NotMeasured(Exception):
    """The results say nothing about a claim; the message says why."""


def yes(holds: bool) -> Verdict:
    """The verdict on a claim that holds, or does not."""
    return "confirmed" if holds else "not confirmed"


def judge(claims: Iterable[tuple[str, str, Rule]], results: Results, otherwise: str = "") -> list[Claim]:
    """Claims with their measurements.

    Args:
        claims: of each where it stands in the report, what it says, and its rule.
        results: of the experiment.
        otherwise: why one is not measured whose rule gives none.
    """
    found = []
    for where, seed, rule in claims:
        try:
            measured, verdict = rule(results) or (otherwise, "not measured")
        except NotMeasured as missing:
            measured, verdict = str(missing), "not measured"
        found.append(Claim(where=where, seed=seed, measured=measured, verdict=verdict))
    return found
