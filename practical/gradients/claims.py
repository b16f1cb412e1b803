"""What the report says about gradients and parameters (sections 1.1 and 1.2), beside what was measured."""

from __future__ import annotations

import math
from typing import Any

from ..document import Claim
from ..judging import Judged, Results, judge, yes
from .plots import NAMES

EXACT = 1e-9
"""Relative difference, in float64, up to which two ways give the same gradient."""
VANISHED = 1e-2
"""Share of the gradient below which it has vanished."""
MUCH = 1.5
"""Times as many updates that are `much slower`."""
USED = 0.2
"""Width between the 5 % and 95 % quantiles from which a gate makes use of its range."""


def claims_of(results: Results) -> list[Claim]:
    """Every claim, in the order of the report."""
    return judge(_CLAIMS, results)


def _both(results: Results) -> list[dict[str, Any]]:
    return [results["cells"]["rnn"][when]["by_hand"] for when in ("initial", "trained")]


def _formula(results: Results) -> Judged:
    hh = max(one["w_hh"] for one in _both(results))
    ph = max(one["w_ph"] for one in _both(results))
    words = (
        f"The sum, product by product over {results['steps']} steps, differs from autograd by {hh:.1e} of"
        f" its largest element, the one term of dL/dW_ph by {ph:.1e} (float64; before and after training)."
    )
    return words, yes(max(hh, ph) < EXACT)


def _dependence(results: Results) -> Judged:
    initial, trained = _both(results)
    counts = [sum(term > 0 for term in one["terms"][1:]) for one in (initial, trained)]
    asked = results["steps"] - 1  # the first step's state before it is zero
    shares = [  # a state that a wild training saturated passes nothing on
        max(one["terms"][:-1]) / one["terms"][-1] if one["terms"][-1] else math.inf
        for one in (initial, trained)
    ]
    words = (
        f"Of the {asked} steps with a state before them, {counts[0]} add to dL/dW_hh at initialisation and"
        f" {counts[1]} after training; the largest earlier term is {shares[0]:.2f} and {shares[1]:.2f} times"
        " the last step's. dL/dW_ph is exact without any of them."
    )
    exact = max(one["w_ph"] for one in (initial, trained)) < EXACT
    return words, yes(exact and min(counts) == asked)


def _share(results: Results, cell: str, when: str, what: str = "h", which: str = "all") -> float:
    """What is left of the gradient at the first digit, behind the padding."""
    return float(results["cells"][cell][when][what][which]["share"][_first(results, when)])


def _first(results: Results, when: str) -> int:
    long = ", long" if when.endswith("long") else ""
    return int(min(round(results[f"padding{long}"]), results[f"steps{long}"] - 1))


def _vanishing(results: Results) -> Judged:
    slopes = [results["cells"]["rnn"][when]["slope"] for when in ("initial", "trained")]
    back = results["steps"] - 1 - _first(results, "initial")
    far_back = results["steps, long"] - 1 - _first(results, "initial, long")
    initial, long = (
        {cell: _share(results, cell, when) for cell in NAMES} for when in ("initial", "initial, long")
    )
    trained = {cell: _share(results, cell, "trained", which="1") for cell in NAMES}
    most = max(long, key=lambda cell: long[cell])
    words = (
        f"Mean slope of tanh in the RNN {slopes[0]:.2f} at initialisation, {slopes[1]:.2f} trained. Share of"
        f" |dL/dh| left at initialisation, {back} steps back: {_listed(initial)}; {far_back} steps back:"
        f" {_listed(long)}: most in the {NAMES[most]}. Trained, class 1, {back} steps back:"
        f" {_listed(trained)}; dL/dc of the LSTM {_share(results, 'lstm', 'trained', 'c', '1'):.1e}."
    )
    return words, yes(long["rnn"] < VANISHED)


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{NAMES[cell]} {share:.1e}" for cell, share in shares.items())


def _slower(results: Results) -> Judged:
    done = {cell: found["converged"] for cell, found in results["cells"].items()}
    shown = ", ".join(f"{NAMES[cell]} {updates or 'not'}" for cell, updates in done.items())
    words = f"Updates until convergence on these {results['steps']} steps: {shown}."
    gated = [updates for cell, updates in done.items() if cell != "rnn" and updates]
    if not gated:
        return f"{words} Too few updates to compare.", "not measured"
    return words, yes(done["rnn"] is None or done["rnn"] > MUCH * min(gated))


def _gates(results: Results) -> Judged:
    found = results["cells"]["lstm"]["trained"]["gates"]
    shown = ", ".join(f"{name} {one['q05']:.2f} to {one['q95']:.2f}" for name, one in found.items())
    words = f"In the trained LSTM, 5 % to 95 % of all activations: {shown}."
    inside = all(
        one["least"] >= (-1 if name == "g" else 0) and one["most"] <= 1 for name, one in found.items()
    )
    used = all(one["q95"] - one["q05"] > USED for one in found.values())
    return words, yes(inside and used)


def _parameters(results: Results) -> Judged:
    rows = {row["model"]: row for row in results["parameters"]}
    lstm, char = rows["classifier, lstm"], rows["character model, lstm"]
    words = (
        f"The LSTM classifier has {lstm['counted']:,} (formula {lstm['formula']:,}) in {lstm['matrices']}"
        f" matrices and {lstm['vectors']} biases, and {lstm['embedding']} in its embedding, whatever T. `p2"
        f" inspect` tells both numbers of a character model: {char['inspect']['by_formula']:,} by the"
        f" formula with the embedding, {char['inspect']['as_stored']:,} as PyTorch stores two biases for"
        " each gate."
    )
    right = all(row["formula"] == row["counted"] for row in results["parameters"]) and all(
        row["inspect"]["by_formula"] == row["formula"] + row["embedding"]
        and row["inspect"]["as_stored"] == row["stored"]
        for row in results["parameters"]
        if "inspect" in row
    )
    return words, yes(right)


_CLAIMS = (
    (
        "1.1 (a), (b)",
        "dL/dW_hh is a sum over all earlier steps, each with the product of the Jacobians behind it;"
        " dL/dW_ph is one term.",
        _formula,
    ),
    (
        "1.1 (c)",
        "dL/dW_hh depends on every earlier step, dL/dW_ph on the current state alone.",
        _dependence,
    ),
    (
        "1.1 (c)",
        "The slope of tanh is often below 1, so over long sequences the gradient may vanish.",
        _vanishing,
    ),
    ("1.1 (c)", "A network would then learn much more slowly, if at all.", _slower),
    (
        "1.2 (a)",
        "Sigmoid gates weigh each feature between 0 and 1; the candidates lie within -1 and 1.",
        _gates,
    ),
    (
        "1.2 (b)",
        "The number of parameters does not depend on T: 9 matrices and 5 biases, 4 N_in N_h + 4 N_h N_h"
        " + N_h N_out + 4 N_h + N_out.",
        _parameters,
    ),
)
