"""Step graphs that a tool rewrote after their export: they run if they still say what they said."""

from __future__ import annotations

import sys

import numpy as np

from ..contract.agreement import agreement
from ..contract.engine import Engine, predictions
from ..contract.errors import ContractError
from ..contract.shell import printable
from .step_file import StepFile

# Relative to the logits at export. What ONNX Runtime's quantisers make of small models is off by 0.01
# (trained) to 0.1 (random weights); a step that reads the wrong weights by 1 and more.
MOST_OFF = 0.5


def check_changed(step: StepFile, engine: Engine) -> None:
    """Let a changed step say what it said at its export, and tell the person on stderr how far it is off.

    Nothing is done for a step as p2 wrote it.

    Raises:
        ContractError: it says something else, or ONNX Runtime refuses it.
    """
    if step.probe is None:
        return
    tokens = np.array([step.probe["tokens"]], np.int64)
    expected = np.array([step.probe["logits"]], np.float32)
    off = agreement(expected, predictions(engine, tokens)[0, -1:, : expected.shape[1]]).relative
    if not off <= MOST_OFF:
        raise ContractError(
            f"{step.path} was changed after its export and no longer says what it said: its logits are"
            f" {off:.0%} off; export the checkpoint again with `p2 export`"
        )
    print(
        f"p2: {printable(str(step.path))} was changed after its export, so it runs as it stands, and slower;"
        f" its logits are {off:.2g} off (relative to those at its export)",
        file=sys.stderr,
    )
